"""Atomic writing of files."""

from __future__ import annotations

import errno
import json
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from blastogan.utils.version import provenance

DISK_FULL = frozenset({errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)})
"""Errors of a full disk, a file above its size limit, and an exhausted quota."""


def user_path(text: str) -> str:
    """A path as a user typed it, with ``~`` resolved, and ``..`` where it follows a link.

    Every path of a command line or a configuration passes here once, before it is used, so that
    libraries that resolve paths in their own way mean the same place.
    """
    # unlike `Path.expanduser`, leaves an unknown home and an empty text alone
    path = os.path.expanduser(text)  # noqa: PTH111
    if ".." in Path(path).parts:
        # `link/..` is the folder above the target of the link
        plain, target = os.path.normpath(path), os.path.realpath(path)
        path = plain if os.path.realpath(plain) == target else target
    # a name that begins with ~ would be taken for a home the next time
    return str(Path(path).absolute()) if str(Path(path)).startswith("~") else path


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add the file name to disk errors, which a failed write does not have."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in {*DISK_FULL, errno.EIO, errno.EROFS}:
            error.filename = str(path)
        raise


@contextmanager
def atomic_write(path: str | Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` atomically at the end.

    At every moment either the old or the new file is there, complete. If the body fails, the old
    file stays and the temporary one is removed. Missing folders are created.

    Args:
        path: The file.
        durable: Also survive a power failure, by waiting for the disk; slow for many small files.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # processes that write the same file use different temporary ones
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with naming(path):
            yield part
            put_in_place(part, path, durable=durable)
    finally:
        part.unlink(missing_ok=True)


def put_in_place(part: Path, path: Path, *, durable: bool = True) -> None:
    """Replace `path` by a finished file, which is flushed to the disk first if `durable`."""
    if durable:
        flush_to_disk(part)
    part.replace(path)
    if durable:
        flush_to_disk(path.parent)


def flush_to_disk(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk, if the system can."""
    is_folder = path.is_dir()
    try:
        # Windows flushes writable files only, and cannot open folders
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
    """Copy a file atomically."""
    with atomic_write(target) as part:
        shutil.copyfile(source, part)


def atomic_link(source: Path, target: Path) -> None:
    """Hard-link a file to another name, replacing that; copy it where links are not supported."""
    link = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        with suppress(FileNotFoundError):
            link.unlink()
        os.link(source, link)
        link.replace(target)
    except OSError:
        atomic_copy(source, target)
    finally:
        # replacing does nothing if both are already names of one file
        link.unlink(missing_ok=True)


def write_json(content: Mapping[str, Any], path: str | Path) -> None:
    """Write plain values as JSON, atomically, with version and commit under ``blastogan``."""
    signed = {"blastogan": provenance(), **content}
    with atomic_write(path) as part:
        part.write_text(json.dumps(signed, indent=2) + "\n", encoding="utf-8")


def check_archive(path: Path) -> None:
    """Verify the checksums of a ZIP archive, which torch does not: a flipped bit goes unnoticed.

    Raises:
        BadZipFile: If it is damaged, is not an archive, or holds more than its own size: torch and
            numpy compress nothing unless asked, and a small file could unpack to any size.
    """
    with zipfile.ZipFile(path) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
            raise zipfile.BadZipFile("it is compressed")
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(f"{damaged} is damaged")


def unused_file(path: Path) -> Path:
    """A path that does not exist: `path` itself, or with a number before its suffix."""
    number, found = 1, path
    while found.exists():
        number += 1
        found = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return found
