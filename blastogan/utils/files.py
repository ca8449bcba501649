"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

DISK_FULL = frozenset({errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)})
"""No room, a file above the limit of its size, a quota that is used up."""


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have errors of a disk say which file they met, which a failed write does not."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in {*DISK_FULL, errno.EIO, errno.EROFS}:
            error.filename = str(path)
        raise


@contextmanager
def atomic_write(path: str | Path, *, durable: bool = True) -> Iterator[Path]:
    """Give a path to write to, and put what was written there in the place of `path` at the end.

    At every moment the old or the new file is whole. If the body fails, the old one stays, and
    what was written so far is removed. Folders are made as needed.

    Args:
        path: The file.
        durable: Whether that is to hold when the power fails, too, for which the disk is waited
            for; a set of many small files would be slow.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # processes that write the same file do not write into each other's part
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with naming(path):
            yield part
            put_in_place(part, path, durable=durable)
    finally:
        part.unlink(missing_ok=True)


def put_in_place(part: Path, path: Path, *, durable: bool = True) -> None:
    """Let a finished file take the place of another, on the disk before it does, if `durable`."""
    if durable:
        flush_to_disk(part)
    part.replace(path)
    if durable:
        flush_to_disk(path.parent)


def flush_to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk; where that can be asked for."""
    is_folder = path.is_dir()
    try:
        # Windows flushes what can be written only, and opens no folders
        descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    except OSError:
        if is_folder:
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def atomic_copy(source: Path, target: Path) -> None:
    """Copy a file, whole or not at all."""
    with atomic_write(target) as part:
        shutil.copyfile(source, part)


def atomic_link(source: Path, target: Path) -> None:
    """Give a file a second name, replacing what had it; where that cannot be, copy it."""
    link = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        with suppress(FileNotFoundError):
            link.unlink()
        os.link(source, link)
        link.replace(target)
    except OSError:
        atomic_copy(source, target)
    finally:
        # where both are names of one file already, replacing does nothing
        link.unlink(missing_ok=True)


def write_json(content: Mapping[str, Any], path: str | Path) -> None:
    """Write plain values as JSON, whole or not at all."""
    with atomic_write(path) as part:
        part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def unused_file(path: Path) -> Path:
    """A file that does not exist: `path`, else with a number before its suffix."""
    number, found = 1, path
    while found.exists():
        number += 1
        found = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return found
