"""Files of text as streams of UTF-8, whatever their compression and encoding."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa

from hybrid_sim.core.errors import DataError, SettingsError

UTF8 = "utf-8"

MAX_LINE = 64 << 20
"""Bytes of a line at most."""

MIN_LIMIT, MAX_EXPANSION = 64 << 20, 50
"""Bytes that any packed file may unpack to, and how many times its size a larger one may take; tables shrink five- to
twentyfold."""

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
        stream = self._unpacked()
        if self.encoding != UTF8:
            decoded: Any = pa.transcoding_input_stream(pa.PythonFile(stream, "r"), self.encoding, UTF8)
            stream = io.BufferedReader(decoded)
        if stream.peek(3)[:3] == codecs.BOM_UTF8:
            stream.read(3)
        return stream

    def lines(self) -> Iterator[bytes]:
        """The lines of `open`, with their ends.

        Raises:
            DataError: a line is longer than any row.
        """
        with self.open() as stream:
            for row in count(1):
                line = stream.readline(MAX_LINE)
                if len(line) == MAX_LINE:
                    raise DataError(f"{self.path.name} row {row} is longer than {MAX_LINE >> 20} MB; is it a table?")
                if not line:
                    return
                yield line

    def bytes_refused(self, error: UnicodeDecodeError) -> DataError:
        """The row and byte at which the file is not of its encoding, or that it holds no text at all."""
        decoder, row = codecs.getincrementaldecoder(error.encoding)(), 1
        with self._unpacked() as stream:
            while chunk := stream.read(1 << 20):
                try:
                    row += decoder.decode(chunk).count("\n")
                except UnicodeDecodeError as first:
                    error = first
                    row += error.object[: error.start].count(b"\n")
                    break
        return DataError(
            f"{self.path.name} row {row}: byte 0x{error.object[error.start]:02X} is not {error.encoding}; "
            "pass --encoding latin-1 (or the encoding of the file), or save it as UTF-8"
        )

    def _unpacked(self) -> io.BufferedReader:
        return buffered(_unpack(self.path, self.compression))


class _Stream(io.RawIOBase):
    """Chunks of bytes, none of them empty, as a stream."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._left = chunks, b""

    def readable(self) -> bool:
        """True: `io.BufferedReader` asks."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into `buffer`; the number of bytes, 0 at the end."""
        self._left = self._left or next(self._chunks, b"")
        n = min(len(buffer), len(self._left))
        buffer[:n], self._left = self._left[:n], self._left[n:]
        return n


def buffered(chunks: Iterator[bytes]) -> io.BufferedReader:
    """The chunks, none of them empty, as a stream."""
    return io.BufferedReader(_Stream(chunks), _CHUNK)


def _unpack(path: Path, compression: str) -> Iterator[bytes]:
    """The unpacked bytes of a file, as many as a table can have.

    Raises:
        DataError: the file is damaged, or unpacks to far more.
    """
    left = max(MIN_LIMIT, MAX_EXPANSION * path.stat().st_size)
    try:
        with _DECOMPRESS[compression](path) as stream:
            while content := stream.read(_CHUNK):
                left -= len(content)
                if left < 0 and compression:
                    raise DataError(f"{path.name} unpacks to more than {MAX_EXPANSION} times its size; unpack it first")
                yield content
    except (FileNotFoundError, PermissionError):
        raise
    except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, lzma.LZMAError, zlib.error) as error:
        raise DataError(f"{path.name}: damaged {compression or 'file'} ({error}); fetch or pack it again") from error


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
        codec = codecs.lookup(encoding)
        if not codec._is_text_encoding or codec.name in ("punycode", "idna", "undefined"):
            raise LookupError(encoding)
    except (LookupError, ValueError) as error:
        raise SettingsError(
            f"unknown encoding {encoding!r}; use utf-8, latin-1 or another name Python knows"
        ) from error
    with TextFile(path, compression, UTF8)._unpacked() as stream:
        start = stream.read(4096)
    marked = next((code for mark, code in _BYTE_ORDER_MARKS.items() if start.startswith(mark)), None)
    if marked is None and codec.name == UTF8 and len(start) > 3:
        low, high = start[::2].count(0), start[1::2].count(0)  # half of the bytes of Latin text in UTF-16 are NUL
        marked = "utf-16-le" if high > len(start) / 4 > low else "utf-16-be" if low > len(start) / 4 > high else None
    text = TextFile(path, compression, marked or codec.name)
    if start.count(0) > 0.8 * len(start) or (text.encoding == UTF8 and _CONTROL.search(start) and not _is_utf8(start)):
        raise DataError(f"{path.name} is no text; save the table as CSV, Parquet or JSON lines")
    return text


def _is_utf8(start: bytes) -> bool:
    """Whether the beginning of a file, which may be cut within a character, is UTF-8."""
    try:
        codecs.getincrementaldecoder(UTF8)().decode(start)
    except UnicodeDecodeError:
        return False
    return True


def _open_zip(path: Path) -> Any:
    bundle = zipfile.ZipFile(path)
    of_macos = "__MACOSX/"  # copies of metadata that macOS adds
    files = [entry for entry in bundle.infolist() if not entry.is_dir() and not entry.filename.startswith(of_macos)]
    if any(entry.filename == "[Content_Types].xml" for entry in files):
        raise DataError(f"{path.name} is a workbook of Excel; save the sheet as CSV")
    if len(files) != 1:
        raise DataError(f"{path.name} is a zip archive of {len(files)} files; unpack it and name one of them")
    return bundle.open(files[0])


_CHUNK = 1 << 16

_CONTROL = re.compile(rb"[\0-\x06\x0e-\x19]")
"""Bytes that occur in no text."""

_MAGIC = {"gzip": b"\x1f\x8b", "zip": b"PK\x03\x04", "bzip2": b"BZh", "zstd": b"\x28\xb5\x2f\xfd", "xz": b"\xfd7zXZ\0"}
"""How compressed files begin."""

_DECOMPRESS: dict[str, Callable[[Path], Any]] = {
    "": lambda path: path.open("rb"),
    "gzip": gzip.open,
    "zip": _open_zip,
    "bzip2": bz2.open,
    "zstd": lambda path: pa.CompressedInputStream(str(path), "zstd"),
    "xz": lzma.open,
}
