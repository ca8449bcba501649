"""Lock of a run folder: one process at a time writes to it."""

from __future__ import annotations

import errno
import logging
import os
import socket
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from blastogan.errors import UserError
from blastogan.runs.folder import LOCK, unused_folders

_log = logging.getLogger(__name__)

_FOLDER = "BLASTOGAN_RUN_FOLDER"
_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, getattr(errno, "ENOTSUP", errno.ENOSYS)}


class RunInUse(UserError):
    """Another process holds the lock of a run folder."""


class _Claim(NamedTuple):
    """A locked folder."""

    folder: Path
    lock: FileLock | None  # None on a file system without locks
    made: list[Path]  # folders created for it, innermost first
    before: set[str] | None  # names in it before the lock file; None if that existed


_claims: dict[Path, _Claim] = {}


def is_first_process() -> bool:
    """Whether this is rank 0 of a run, by the environment variables of its launcher."""
    given = os.environ
    if "RANK" in given:
        return given["RANK"] == "0"
    if "LOCAL_RANK" in given or "NODE_RANK" in given:
        return given.get("LOCAL_RANK", "0") == given.get("NODE_RANK", "0") == "0"
    return given.get("SLURM_PROCID", "0") == "0"


def claim(folder: Path) -> None:
    """Create a run folder if needed, and lock it until `release`; only rank 0 does so.

    A test file is written, so that a run fails early.

    Raises:
        RunInUse: If another process holds the lock.
        UserError: If the folder cannot be written.
    """
    key = Path(os.path.realpath(folder))
    if not is_first_process() or key in _claims:
        return
    made: list[Path] = []
    try:
        for each in (*reversed(folder.parents), folder):
            if not each.exists():
                each.mkdir(exist_ok=True)
                made.insert(0, each)
        before = None if (folder / LOCK).exists() else _names(folder)
        for each in filter(Path.is_dir, (folder, folder / "checkpoints")):
            with tempfile.TemporaryFile(dir=each):
                pass
        lock = _lock(folder / LOCK)
    except OSError as error:
        _remove_empty(made)
        raise UserError(
            f"cannot write the run folder {folder}: {error.strerror or error}. Choose another with "
            "--run_dir, or make it writable"
        ) from error
    _claims[key] = _Claim(folder, lock, made, before)
    os.environ[_FOLDER] = str(folder)


def _lock(path: Path) -> FileLock | None:
    if path.is_symlink():
        raise OSError(errno.ELOOP, f"{path} is a link")
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        pid, _, host = path.read_text(encoding="utf-8", errors="replace")[:300].partition(" ")
        who = f" (pid {pid} on {host.strip()})" if host else ""
        raise RunInUse(
            f"{path.parent} is in use by another process{who}, and two would overwrite each "
            "other's files. Wait for it or stop it, or choose another folder with --run_dir"
        ) from error
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        _log.warning("%s cannot be locked on this file system: start no second run there", path)
        path.touch()
        return None
    path.write_text(f"{os.getpid()} {socket.gethostname()}\n", encoding="utf-8")
    return lock


def claim_unused(name: str) -> Path:
    """Claim a new folder under ``runs/``, of that name or with a number; another may take one."""
    for folder in unused_folders(name):
        with suppress(RunInUse):
            claim(folder)
            return folder
    raise AssertionError("names do not run out")


def release() -> None:
    """Unlock all folders; remove the lock and new folders where nothing was written."""
    for each in _claims.values():
        os.environ.pop(_FOLDER, None)
        with suppress(OSError):
            if _names(each.folder) - {LOCK} == each.before:
                (each.folder / LOCK).unlink()
                _remove_empty(each.made)
        if each.lock is not None:
            each.lock.release()
    _claims.clear()


def claimed_folder() -> Path | None:
    """The run folder of this process, or of the process that launched it."""
    if _claims:
        return next(iter(_claims.values())).folder
    given = os.environ.get(_FOLDER)
    return Path(given) if given and not is_first_process() else None


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _remove_empty(folders: list[Path]) -> None:
    for each in folders:
        with suppress(OSError):
            each.rmdir()
