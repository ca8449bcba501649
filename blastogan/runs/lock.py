"""One process at a time writes a run folder."""

from __future__ import annotations

import logging
import os
import socket
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from blastogan.errors import UserError
from blastogan.runs.folder import LOCK

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_log = logging.getLogger(__name__)

_FOLDER = "BLASTOGAN_RUN_FOLDER"


class RunInUse(UserError):
    """Another process holds the lock of a run folder."""


@dataclass(frozen=True)
class _Claim:
    """A folder that this process writes.

    Attributes:
        folder: As it was given.
        descriptor: Of the open lock file.
        made: Folders that were made for it, the innermost first.
        before: Names in the folder when the lock file was made; `None` if that was there.
    """

    folder: Path
    descriptor: int
    made: tuple[Path, ...]
    before: frozenset[str] | None


_claims: dict[Path, _Claim] = {}


def is_first_process() -> bool:
    """Whether this is the process of a run that writes: rank 0, by what its launcher has set."""
    told = os.environ
    if "RANK" in told:
        return told["RANK"] == "0"
    if "LOCAL_RANK" in told or "NODE_RANK" in told:
        return told.get("LOCAL_RANK", "0") == told.get("NODE_RANK", "0") == "0"
    return told.get("SLURM_PROCID", "0") == "0"


def claim(folder: Path) -> None:
    """Hold the lock of a run folder, which is made if needed, until `release`.

    The system releases it when the process dies. The folder is tried out, as a run should not
    learn after an hour that it cannot be written. Processes that were launched by the first one
    do nothing.

    Raises:
        RunInUse: If another process holds it.
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
        is_new = not (folder / LOCK).exists()
        before = _names(folder) if is_new else None
        for each in filter(Path.is_dir, (folder, folder / "checkpoints")):
            with tempfile.TemporaryFile(dir=each):
                pass
        descriptor = _lock(folder)
    except OSError as error:
        _remove_empty(made)
        raise UserError(
            f"cannot write the run folder {folder}: {error.strerror or error}. Choose another with "
            "--run_dir, or see to it that it can be written"
        ) from error
    _claims[key] = _Claim(folder, descriptor, tuple(made), before)
    os.environ[_FOLDER] = str(folder)


def _lock(folder: Path) -> int:
    path = folder / LOCK
    while True:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(path, flags, 0o644)
        try:
            _take(descriptor, folder)
            # between opening and locking, its holder may have removed it
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"{os.getpid()} {socket.gethostname()}\n".encode())
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _take(descriptor: int, folder: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        pid, _, host = os.read(descriptor, 300).decode(errors="replace").strip().partition(" ")
        who = f" (pid {pid} on {host})" if host else ""
        raise RunInUse(
            f"{folder} is in use by another process{who}: two at once would write over each "
            "other. Wait for it or stop it, or choose another folder with --run_dir"
        ) from error
    except OSError as error:
        # some network file systems have no locks
        _log.debug("%s cannot be locked: %s", folder, error)


def release() -> None:
    """Let go of all folders; those in which nothing was written are left as they were."""
    for each in _claims.values():
        os.environ.pop(_FOLDER, None)
        with suppress(OSError):
            if _names(each.folder) - {LOCK} == each.before:
                (each.folder / LOCK).unlink()
                _remove_empty(each.made)
        os.close(each.descriptor)
    _claims.clear()


def claimed_folder() -> Path | None:
    """The run folder of this process, or that of the process which launched it."""
    if _claims:
        return next(iter(_claims.values())).folder
    told = os.environ.get(_FOLDER)
    return Path(told) if told and not is_first_process() else None


def _names(folder: Path) -> frozenset[str]:
    return frozenset(path.name for path in folder.iterdir())


def _remove_empty(folders: list[Path] | tuple[Path, ...]) -> None:
    for each in folders:
        with suppress(OSError):
            each.rmdir()


def _forget() -> None:
    """Let go in a worker of the data, which lives on for some seconds when its run is killed."""
    for each in _claims.values():
        os.close(each.descriptor)
    _claims.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
