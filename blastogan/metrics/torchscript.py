"""Tensors of a TorchScript archive, read without running any of its code.

Such an archive is a ZIP file: ``data.pkl`` describes an object of classes whose code lies beside
it, and its tensors lie in ``data/``. Here the objects are read as plain attributes.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_TYPES = {
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "ShortStorage": torch.int16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "BoolStorage": torch.bool,
}


_LISTS = ("intlist", "doublelist", "boollist", "tensorlist")


def is_torchscript(path: Path) -> bool:
    """Whether a file is an archive of TorchScript."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.partition("/")[2] == "constants.pkl" for name in archive.namelist())


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Tensors of a TorchScript module by name, as in its state dict, with its other tensors.

    Raises:
        Exception: Of nearly any kind, if the archive is damaged or holds other things.
    """
    with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if n.partition("/")[2] == "data.pkl")
        root = _Unpickler(archive, name.partition("/")[0]).load()
    return dict(_tensors(root, "", set()))


class _Object:
    """An object of the archive, of any class: its attributes alone."""

    attributes: Any = None

    def __setstate__(self, state: Any) -> None:
        self.attributes = state


def _as_is(values: Any, *_: Any) -> Any:
    return values


class _Unpickler(pickle.Unpickler):
    """Knows plain values, tensors and `_Object`; imports nothing."""

    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        self._archive, self._folder = archive, folder
        self._stored: dict[str, Tensor] = {}
        super().__init__(io.BytesIO(self._read("data.pkl")))

    def _read(self, name: str) -> bytes:
        entry = self._archive.getinfo(f"{self._folder}/{name}")
        if entry.compress_type != zipfile.ZIP_STORED:
            # torch compresses code only, and a small file could unpack to any size
            raise zipfile.BadZipFile(f"{name} is compressed")
        return self._archive.read(entry)

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return _Object
        if module == "torch" and name in _TYPES:
            return _TYPES[name]
        known = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _view,
            ("torch._utils", "_rebuild_parameter"): _as_is,
            **{("torch.jit._pickle", f"build_{kind}"): _as_is for kind in _LISTS},
        }
        return known[module, name]

    def persistent_load(self, pid: Any) -> Tensor:
        _, dtype, key, _, count = pid
        if key not in self._stored:
            values = bytearray(self._read(f"data/{key}"))
            self._stored[key] = torch.frombuffer(values, dtype=dtype, count=count)
        return self._stored[key]


def _view(
    values: Tensor, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any
) -> Tensor:
    return values.as_strided(shape, strides, offset)


def _tensors(value: Any, name: str, seen: set[int]) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    # once: objects may hold each other
    elif isinstance(value, _Object) and id(value) not in seen:
        seen.add(id(value))
        for key, each in dict(value.attributes or {}).items():
            yield from _tensors(each, f"{name}.{key}" if name else str(key), seen)
