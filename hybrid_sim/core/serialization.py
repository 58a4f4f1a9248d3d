"""A rater taken apart into plain structure and arrays, and put together again, without pickle.

The structure is JSON. What JSON cannot express is an object whose first key names its type: `{"array": "a3"}`,
`{"scalar": {...}}`, `{"tuple": [...]}`, `{"dict": {...}}`, `{"float": "nan"}`, `{"strings": [...], "shape": [...]}`,
`{"csr": {...}}`, `{"index": {...}, "dtype": ...}` and, for raters and other dataclasses, `{"class": "module:Name",
"settings": {...}, "fitted": {...}}`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import re
import zipfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hybrid_sim.core.errors import HybridSimError, ModelFileError, SettingsError
from hybrid_sim.core.rater import Rater

PACKAGES = (
    *("hybrid_sim.models", "hybrid_sim.retrieval", "hybrid_sim.ensemble"),
    *("hybrid_sim.simulation.simulator", "hybrid_sim.core.types"),
)
"""Where the classes of saved raters live; nothing else is imported on behalf of a file."""

LOCAL = {"local": True}
"""Metadata of fields that name a place of this machine (a folder, a device): not saved, and refused in a file."""

MAX_VALUES = 8_000_000
"""Values in a structure, at about 100 bytes of memory each."""

_CLASS_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
_NUMERIC_KINDS = "biufcU"
_HEADER_READERS: dict[tuple[int, int], Any] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}

Arrays = dict[str, NDArray[Any]]


def to_structure(rater: Rater, trust: Sequence[str] = ()) -> tuple[Any, Arrays]:
    """The JSON structure of a fitted rater and the arrays that it refers to by name.

    Saved are the fields that `__init__` takes and the attributes that end in an underscore: None, bool, int,
    float, str, lists, tuples, dicts with text keys, numpy arrays of numbers, bools or text, sparse CSR matrices, pandas
    indexes of text, and dataclasses of the packages in `PACKAGES` and `trust`, nested to any depth.

    Raises:
        SettingsError: the rater is not fitted or holds something else.
    """
    if dataclasses.is_dataclass(rater):
        for field in dataclasses.fields(rater):
            if not field.init and field.name.endswith("_") and not hasattr(rater, field.name):
                raise SettingsError(
                    f"{type(rater).__name__} has no {field.name}: it is not fitted; call `fit` before saving"
                )
    taking = _TakingApart(trust)
    return taking.node(rater, type(rater).__name__), taking.arrays


def settings_digest(rater: Rater, trust: Sequence[str] = ()) -> str:
    """SHA-256 of a rater's class and settings (the fields that `__init__` takes) without its embedder.

    Raises:
        SettingsError: a setting cannot be saved.
    """
    taking = _TakingApart(trust)
    name = type(rater).__qualname__
    fields = [f.name for f in dataclasses.fields(rater) if f.init and f.name != "embedder"]  # type: ignore[arg-type]  # every rater is a dataclass
    structure = {field: taking.node(getattr(rater, field), f"{name}.{field}") for field in fields}
    digest = hashlib.sha256(json.dumps([type(rater).__module__, name, structure]).encode())
    for array in taking.arrays.values():
        digest.update(f"{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def parse_structure(content: bytes) -> Any:
    """The structure that is written here in JSON.

    Raises:
        ValueError: it is no JSON, or has more than `MAX_VALUES` values.
    """
    if sum(map(content.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise ValueError("more values than a saved rater has")
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def from_structure(structure: Any, arrays: Arrays, path: Path, trust: Sequence[str] = ()) -> Rater:
    """The rater that `to_structure` took apart; `path` names the file in error messages.

    Raises:
        ModelFileError: the structure is not one that `to_structure` makes, or names a class outside the
            packages.
    """
    try:
        rater = _PuttingTogether(arrays, path, trust).value(structure)
    except ModelFileError:
        raise
    except (HybridSimError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ModelFileError(
            f"{path} does not describe a rater of this release ({error}); save the model again"
        ) from error
    if not isinstance(rater, Rater):
        raise ModelFileError(f"{path} describes a {type(rater).__name__}, not a rater; save the model again")
    return rater


def write_arrays(file: BinaryIO, arrays: Arrays) -> None:
    """Write the arrays as an uncompressed `.npz`."""
    np.savez(file, **cast(dict[str, Any], arrays))


def read_arrays(file: BinaryIO, path: Path) -> Arrays:
    """Read an uncompressed `.npz` of plain arrays; `path` names the file in error messages.

    Raises:
        ModelFileError: it is no such file, or it holds pickled objects.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise ModelFileError(f"{path} is compressed, which `save` never does; save the model again")
            if sum(member.file_size for member in members) > file.seek(0, os.SEEK_END):
                raise ValueError("members that overlap")
            for member in members:
                _check_size(archive, member)
        file.seek(0)
        with np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (zipfile.BadZipFile, ValueError, EOFError, OSError, KeyError, TypeError, SyntaxError, MemoryError) as error:
        raise ModelFileError(f"{path} does not hold plain arrays ({error}); save the model again") from error


def _check_size(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Check that an array has the size that its header claims, for which numpy reserves memory before it reads."""
    with archive.open(member) as stored:
        version = np.lib.format.read_magic(stored)
        if version not in _HEADER_READERS:
            raise ValueError(f"{member.filename} has the format version {version}")
        shape, _, dtype = _HEADER_READERS[version](stored)
        if not dtype.hasobject and math.prod(shape) * dtype.itemsize != member.file_size - stored.tell():
            raise ValueError(f"{member.filename} claims {shape} values of {dtype} and does not hold them")


class _TakingApart:
    """Walks through a rater; arrays met twice are stored once."""

    def __init__(self, trust: Sequence[str]) -> None:
        self.arrays: Arrays = {}
        self._trust = trust
        self._names: dict[int, str] = {}
        self._open: list[int] = []

    def node(self, value: Any, where: str) -> Any:
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"float": repr(value)}
        if isinstance(value, np.ndarray):
            return self._array(value, where)
        if isinstance(value, np.generic):
            return {"scalar": self._array(np.asarray(value), where)}
        if isinstance(value, pd.Index):
            texts = self._array(value.to_numpy(dtype=object), where)
            return {"index": texts, "dtype": "object" if value.dtype == object else "str"}
        if id(value) in self._open:
            raise SettingsError(f"{where} contains itself and cannot be saved")
        self._open.append(id(value))
        structure = self._container(value, where)
        self._open.pop()
        return structure

    def _container(self, value: Any, where: str) -> Any:
        if type(value) is list:
            return [self.node(entry, f"{where}[{row}]") for row, entry in enumerate(value)]
        if type(value) is tuple:
            return {"tuple": [self.node(entry, f"{where}[{row}]") for row, entry in enumerate(value)]}
        if type(value) is dict and all(type(key) is str for key in value):
            return {"dict": {key: self.node(entry, f"{where}[{key!r}]") for key, entry in value.items()}}
        if getattr(value, "format", None) == "csr" and hasattr(value, "indptr"):
            parts = {name: self._array(getattr(value, name), where) for name in ("data", "indices", "indptr")}
            is_matrix = type(value).__name__ == "csr_matrix"
            return {"csr": {**parts, "shape": list(map(int, value.shape)), "matrix": is_matrix}}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return self._object(value, where)
        raise SettingsError(
            f"{where} is a {type(value).__name__}, which cannot be saved; keep numbers, text, arrays, lists, "
            "dicts with text keys or dataclasses of saved raters"
        )

    def _object(self, value: Any, where: str) -> Any:
        name = f"{type(value).__module__}:{type(value).__qualname__}"
        if not _is_allowed(name, self._trust):
            raise SettingsError(
                f"{where} is of class {name}, and a model may hold top-level classes of "
                f"{', '.join(PACKAGES)} only; pass trust=... to `save` and `load` for a package of your own"
            )
        settings = {field.name for field in dataclasses.fields(value) if field.init and not _is_local(field)}
        fitted = {name for name in vars(value) if name.endswith("_") and not name.startswith("__")} - settings
        return {
            "class": name,
            "settings": {key: self.node(getattr(value, key), f"{where}.{key}") for key in sorted(settings)},
            "fitted": {key: self.node(getattr(value, key), f"{where}.{key}") for key in sorted(fitted)},
        }

    def _array(self, value: Any, where: str) -> Any:
        if value.dtype == object:
            flat = value.ravel().tolist()
            if not all(type(entry) is str for entry in flat):
                raise SettingsError(f"{where} is an array of Python objects other than text and cannot be saved")
            return {"strings": flat, "shape": list(value.shape)}
        if type(value) is not np.ndarray or value.dtype.kind not in _NUMERIC_KINDS:
            raise SettingsError(
                f"{where} is a {type(value).__name__} of {value.dtype} and cannot be saved; use a plain array"
            )
        if id(value) not in self._names:
            self._names[id(value)] = f"a{len(self.arrays)}"
            self.arrays[self._names[id(value)]] = value
        return {"array": self._names[id(value)]}


class _PuttingTogether:
    """Walks through a structure; every kind that it does not know is refused."""

    def __init__(self, arrays: Arrays, path: Path, trust: Sequence[str]) -> None:
        self._arrays = arrays
        self._path = path
        self._trust = trust

    def value(self, node: Any) -> Any:
        if isinstance(node, list):
            return [self.value(entry) for entry in node]
        if not isinstance(node, dict):
            return node
        match node:
            case {"float": text}:
                return float(text)
            case {"array": name}:
                return self._arrays[name]
            case {"scalar": array}:
                return self.value(array)[()]
            case {"strings": texts, "shape": shape}:
                return np.array([*texts, None], dtype=object)[:-1].reshape(shape)
            case {"csr": parts}:
                return self._csr(parts)
            case {"index": texts, "dtype": dtype}:
                return pd.Index(self.value(texts), dtype=dtype)
            case {"tuple": entries}:
                return tuple(self.value(entry) for entry in entries)
            case {"dict": entries}:
                return {key: self.value(entry) for key, entry in entries.items()}
            case {"class": _}:
                return self._object(node)
        raise ValueError(f"an object with the keys {', '.join(map(str, node))} stands for nothing")

    def _csr(self, node: dict[str, Any]) -> Any:
        from scipy import sparse

        parts = (self.value(node["data"]), self.value(node["indices"]), self.value(node["indptr"]))
        matrix = (sparse.csr_matrix if node["matrix"] else sparse.csr_array)(parts, shape=tuple(node["shape"]))
        matrix.check_format(full_check=True)
        return matrix

    def _object(self, node: dict[str, Any]) -> Any:
        name = node["class"]
        if not isinstance(name, str) or not _is_allowed(name, self._trust):
            raise ModelFileError(
                f"{self._path} names the class {name!r}, which is not one of {', '.join(PACKAGES)}; "
                "nothing of it was imported. Pass trust=... to `load` if you know where the file comes from"
            )
        module, _, class_name = name.partition(":")
        try:
            cls = getattr(import_module(module), class_name)
        except (ImportError, AttributeError) as error:
            raise ModelFileError(
                f"{self._path} names the class {name!r}, which this release does not have; "
                "load it with the release that wrote it"
            ) from error
        if not (isinstance(cls, type) and dataclasses.is_dataclass(cls) and cls.__module__ == module):
            raise ModelFileError(f"{self._path} names {name!r}, which is not a class of saved raters")
        for field in dataclasses.fields(cls):
            if _is_local(field) and field.name in node["settings"]:
                raise ModelFileError(
                    f"{self._path} names the {field.name} of a {class_name}, and no file may; save the model again"
                )
        settings = {key: self.value(entry) for key, entry in node["settings"].items()}
        value = cls(**settings)
        for key, entry in node["fitted"].items():
            if not key.endswith("_") or key.startswith("__"):
                raise ModelFileError(f"{self._path} sets {key!r} of {class_name}, which is no fitted attribute")
            object.__setattr__(value, key, self.value(entry))
        return value


def _is_local(field: dataclasses.Field[Any]) -> bool:
    return bool(field.metadata.get("local"))


def _is_allowed(name: str, trust: Sequence[str]) -> bool:
    module = name.partition(":")[0]
    inside = any(module == package or module.startswith(package + ".") for package in (*PACKAGES, *trust))
    return inside and _CLASS_NAME.fullmatch(name) is not None
