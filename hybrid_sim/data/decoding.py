"""Files of text as streams of UTF-8, whatever their compression and encoding."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pyarrow as pa

from hybrid_sim.core.errors import DataError, SettingsError

UTF8 = "utf-8"

_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: UTF8,
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark is its beginning
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


@dataclass(frozen=True)
class TextFile:
    """A file of text: its path, its compression ("" for none) and its encoding."""

    path: Path
    compression: str
    encoding: str

    def open(self) -> io.BufferedReader:
        """The text as UTF-8 bytes, without a byte order mark."""
        stream = _DECOMPRESS[self.compression](self.path)
        if self.encoding != UTF8:
            decoded = pa.transcoding_input_stream(pa.PythonFile(stream, "r"), self.encoding, UTF8)
            stream = io.BufferedReader(decoded)
        if stream.peek(3)[:3] == codecs.BOM_UTF8:
            stream.read(3)
        return cast(io.BufferedReader, stream)

    def bytes_refused(self, error: UnicodeDecodeError) -> DataError:
        """The row and byte at which the file is not of its encoding, or that it holds no text at all."""
        with _DECOMPRESS[self.compression](self.path) as stream:
            content = stream.read()
        try:
            content.decode(error.encoding)
        except UnicodeDecodeError as first:
            error = first
        if b"\0" in content[:4096]:
            return DataError(f"{self.path.name} is no text: it holds NUL bytes; save it as CSV, Parquet or JSON lines")
        row = content.count(b"\n", 0, error.start) + 1
        return DataError(
            f"{self.path.name} row {row}: byte 0x{content[error.start]:02X} is not {error.encoding}; "
            "pass --encoding latin-1 (or the encoding of the file), or save it as UTF-8"
        )


def text_file(path: Path, encoding: str = UTF8) -> TextFile:
    """The file with its compression, and with its encoding where a byte order mark, or every second byte, tells it.

    Raises:
        SettingsError: there is no such encoding of text.
        DataError: a zip archive does not hold exactly one file, or a compressed file is damaged.
    """
    with path.open("rb") as file:
        magic = file.read(8)
    compression = next((name for name, start in _MAGIC.items() if magic.startswith(start)), "")
    try:
        if not codecs.lookup(encoding)._is_text_encoding:
            raise LookupError(encoding)
        with _DECOMPRESS[compression](path) as stream:
            start = stream.read(1024)
    except LookupError as error:
        raise SettingsError(
            f"unknown encoding {encoding!r}; use utf-8, latin-1 or another name Python knows"
        ) from error
    except (OSError, EOFError, zipfile.BadZipFile, lzma.LZMAError) as error:
        raise DataError(f"{path.name}: damaged {compression or 'file'} ({error}); fetch or pack it again") from error
    marked = next((code for mark, code in _BYTE_ORDER_MARKS.items() if start.startswith(mark)), None)
    if marked is None and codecs.lookup(encoding).name == UTF8 and len(start) > 3:
        low, high = start[::2].count(0), start[1::2].count(0)  # half of the bytes of Latin text in UTF-16 are NUL
        marked = "utf-16-le" if high > len(start) / 4 > low else "utf-16-be" if low > len(start) / 4 > high else None
    return TextFile(path, compression, marked or codecs.lookup(encoding).name)


def _open_zip(path: Path) -> Any:
    bundle = zipfile.ZipFile(path)
    files = [entry for entry in bundle.infolist() if not entry.is_dir()]
    if len(files) != 1:
        raise DataError(f"{path.name} is a zip archive of {len(files)} files; unpack it and name one of them")
    return io.BufferedReader(cast(io.RawIOBase, bundle.open(files[0])))


def _open_zstd(path: Path) -> Any:
    return io.BufferedReader(pa.CompressedInputStream(str(path), "zstd"))


_MAGIC = {"gzip": b"\x1f\x8b", "zip": b"PK\x03\x04", "bzip2": b"BZh", "zstd": b"\x28\xb5\x2f\xfd", "xz": b"\xfd7zXZ\0"}
"""How compressed files begin."""

_DECOMPRESS: dict[str, Callable[[Path], Any]] = {
    "": lambda path: path.open("rb"),
    "gzip": gzip.open,
    "zip": _open_zip,
    "bzip2": bz2.open,
    "zstd": _open_zstd,
    "xz": lzma.open,
}
