"""An image store on disk: a folder with a file per level and a manifest, whole or not there."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blastogan.data.store_build import Contents, HashedFile, Picture, Plan, decode_files
from blastogan.errors import UserError
from blastogan.utils.files import write_json
from blastogan.utils.workers import available_cores

VERSION = 1
"""Of the layout and of the way in which levels are computed; another version is another store."""

_MANIFEST = "manifest.json"
_CHUNK = 1 << 25
_SPARE = 1 << 24


class UnsoundStore(Exception):
    """A store is absent, incomplete or altered; the message says which."""


def store_key(digests: Collection[str], plan: Plan) -> str:
    """Name of the store of a set of file contents, whatever the files are called or graded."""
    facts = [VERSION, plan.resolution, plan.channels, plan.crop.key(), sorted(digests)]
    return hashlib.blake2b(json.dumps(facts).encode(), digest_size=16).hexdigest()


def read_store(
    folder: Path, digests: Collection[str], plan: Plan
) -> tuple[Contents, dict[int, Tensor]]:
    """Open a store after comparing every byte of it with its checksums.

    Args:
        folder: Of the store.
        digests: Of the files that it is to hold.
        plan: Of its levels.

    Returns:
        Contents, and levels ``(M, C, r, r)`` by resolution r that share the mapped files; writing
        to them changes no file.

    Raises:
        UnsoundStore: If it is absent or anything in it differs.
    """
    manifest = _read_manifest(folder / _MANIFEST)
    if manifest["key"] != store_key(digests, plan):
        raise UnsoundStore(f"{_MANIFEST} is that of other images")
    contents = Contents(**manifest["contents"])
    levels = _map_levels(folder, plan, len(contents.digests))
    for side, checksums in _checksums(levels).items():
        if checksums != manifest["checksums"][side]:
            raise UnsoundStore(f"{_level_name(side)} is altered")
    return contents, _tensors(levels)


def write_store(
    folder: Path,
    files: Mapping[str, HashedFile],
    plan: Plan,
    num_workers: int,
    keep: Callable[[Contents], bool],
) -> tuple[Contents, dict[int, Tensor]]:
    """Decode files into a new store that takes the place of what is there.

    It is written beside its place and then renamed. Processes that use the one before keep it.

    Args:
        folder: Of the store; the caller holds its lock.
        files: Files by digest.
        plan: Of its levels.
        num_workers: Processes that decode.
        keep: Whether what came out is to be stored.

    Returns:
        As `read_store`; no levels if nothing was stored.

    Raises:
        UserError: If there is not enough space, or the folder cannot be written to.
    """
    _check_space(folder, plan.nbytes(len(files)))
    part, former = leftovers(folder)
    try:
        with writing(folder):
            part.mkdir()
        with LevelFiles(part, plan, len(files)) as target:
            contents = decode_files(files, plan, num_workers, target.append)
        if not keep(contents):
            return contents, {}
        with writing(folder):
            levels = _map_levels(part, plan, len(contents.digests))
            _write_manifest(part / _MANIFEST, store_key(files, plan), contents, levels)
            if folder.exists():
                folder.replace(former)
            part.replace(folder)
    finally:
        remove(part)
        remove(former)
    return contents, _tensors(levels)


def leftovers(folder: Path) -> tuple[Path, Path]:
    """Where a store is built, and where the one before is moved, next to its `folder`."""
    return folder.with_name(f"{folder.name}.part"), folder.with_name(f"{folder.name}.former")


def remove(path: Path) -> None:
    """Delete a file or a folder with all in it, if it is there and that is allowed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn what the system says against writing into a message to the user.

    Raises:
        UserError: For any OSError of the body.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"images cannot be stored in {folder.parent} ({error}): give --data.cache_dir a folder "
            "that can be written to, or leave it out to hold the images in memory"
        ) from error


class LevelFiles:
    """The files of all levels, written picture by picture.

    Args:
        folder: They are written to.
        plan: Of the levels.
        count: Pictures that come at most.
    """

    def __init__(self, folder: Path, plan: Plan, count: int) -> None:
        self._folder = folder
        self._plan = plan
        self._most = count
        self._count = 0
        self._stack = ExitStack()
        self._files: dict[int, IO[bytes]] = {}

    def __enter__(self) -> LevelFiles:
        with writing(self._folder):
            for side, shape in self._plan.shapes(self._most).items():
                file = (self._folder / _level_name(side)).open("wb")
                self._files[side] = self._stack.enter_context(file)
                _write_header(file, shape)
        return self

    def append(self, picture: Picture) -> None:
        """Write one picture, as the next row of every level."""
        with writing(self._folder):
            for side, pixels in picture.items():
                self._files[side].write(pixels.tobytes())
        self._count += 1

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with writing(self._folder), self._stack:
            if kind is None:
                # numpy leaves room in the header for any number of rows
                for side, shape in self._plan.shapes(self._count).items():
                    self._files[side].seek(0)
                    _write_header(self._files[side], shape)


def _write_header(file: IO[bytes], shape: tuple[int, ...]) -> None:
    facts = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, facts)


def _level_name(side: int | str) -> str:
    return f"{side}.npy"


def _map_levels(folder: Path, plan: Plan, count: int) -> dict[int, NDArray[np.uint8]]:
    levels = {}
    for side, shape in plan.shapes(count).items():
        path = folder / _level_name(side)
        try:
            # copy on write: torch takes no array that must not be written to; and not every numpy
            # maps one that is empty
            level = np.load(path, mmap_mode="c" if count else None, allow_pickle=False)
        # numpy raises nearly anything on a damaged header
        except Exception as error:
            if getattr(error, "errno", None) == errno.ENOMEM:
                raise UserError(
                    f"{path}: {math.prod(shape) / 1e6:,.0f} MB cannot be mapped into memory "
                    f"({error}): raise the memory limit of the process, or take a smaller "
                    "resolution"
                ) from error
            raise UnsoundStore(f"{path.name} cannot be read: {error}") from error
        if level.shape != shape or level.dtype != np.uint8:
            raise UnsoundStore(f"{path.name} is of other images")
        levels[side] = level
    return levels


def _tensors(levels: Mapping[int, NDArray[np.uint8]]) -> dict[int, Tensor]:
    return {side: torch.from_numpy(level) for side, level in levels.items()}


def _checksums(levels: Mapping[int, NDArray[np.uint8]]) -> dict[str, list[str]]:
    """Digests of 32 MiB each, so that one level keeps all cores busy; keys as in JSON."""

    def digest(chunk: NDArray[np.uint8]) -> str:
        return hashlib.blake2b(chunk.data, digest_size=16).hexdigest()

    with ThreadPoolExecutor(min(available_cores(), 8)) as pool:
        running = {}
        for side, level in levels.items():
            flat = level.reshape(-1)
            chunks = [flat[start : start + _CHUNK] for start in range(0, len(flat), _CHUNK)]
            running[str(side)] = pool.map(digest, chunks)
        return {side: list(found) for side, found in running.items()}


def _write_manifest(
    path: Path, key: str, contents: Contents, levels: Mapping[int, NDArray[np.uint8]]
) -> None:
    facts = {
        "version": VERSION,
        "key": key,
        "contents": asdict(contents),
        "checksums": _checksums(levels),
    }
    write_json({**facts, "checksum": _checksum(facts)}, path)


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        checksum = manifest.pop("checksum")
    except (OSError, ValueError, RecursionError, AttributeError, KeyError, TypeError) as error:
        raise UnsoundStore(f"{path.name} cannot be read: {error!r}") from error
    if checksum != _checksum(manifest) or manifest.get("version") != VERSION:
        raise UnsoundStore(f"{path.name} is altered")
    facts: dict[str, Any] = manifest
    return facts


def _checksum(facts: Mapping[str, Any]) -> str:
    text = json.dumps(facts, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _check_space(folder: Path, needed: int) -> None:
    with writing(folder):
        free = shutil.disk_usage(folder.parent).free
    if free < needed + _SPARE:
        raise UserError(
            f"{folder.parent} has {free / 1e6:,.0f} MB free, and the image store takes "
            f"{needed / 1e6:,.0f} MB: make room, give another folder to --data.cache_dir, or leave "
            "it out to hold the images in memory"
        )
