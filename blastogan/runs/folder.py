"""Folders of runs: new or resumed, never overwritten."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from blastogan.errors import UserError

RUNS = Path("runs")
"""Where runs go that were given no folder."""

LOCK = ".lock"
"""File of a run folder that is locked by the process that writes there; it stays."""


def run_of_checkpoint(path: str | Path) -> Path:
    """Run folder that a checkpoint lies in, ``RUN/checkpoints/NAME.ckpt``; else its own folder."""
    folder = Path(path).parent
    return folder.parent if folder.name == "checkpoints" else folder


def newest_config(folder: Path) -> Path | None:
    """Configuration that a run used last: ``config.yaml``, or that of a later resume."""
    found = sorted(folder.glob("config*.yaml"), key=lambda path: path.stat().st_mtime_ns)
    return found[-1] if found else None


def checkpoints_in(folder: Path) -> list[Path]:
    """Checkpoints that a run can go on from: ``last.ckpt``, the ones before, phases from the end.

    Not ``best.ckpt`` nor ``diverged.ckpt``.

    Args:
        folder: ``RUN/checkpoints``.
    """
    before = [path for path in folder.glob("last-*.ckpt") if _number(path.stem)]
    before.sort(key=lambda path: _number(path.stem))
    found = [folder / "last.ckpt", *before, *sorted(folder.glob("phase-*.ckpt"), reverse=True)]
    return [path for path in found if path.is_file()]


def _number(name: str) -> int:
    """The number at the end of ``NAME-2``; 0 without."""
    found = re.fullmatch(r".*-([1-9][0-9]*)", name)
    return int(found[1]) if found else 0


def is_run(folder: Path) -> bool:
    """Whether a run was begun in a folder, though it may have died before it saved anything."""
    signs = (folder / LOCK).is_file(), newest_config(folder), checkpoints_in(folder / "checkpoints")
    return any(signs)


def fresh_folder(path: str | Path) -> Path:
    """The folder at `path`, which is to be new or empty.

    Raises:
        UserError: If something is there already.
    """
    folder = Path(path)
    try:
        taken = folder.exists() and not _is_vacant(folder)
    except OSError as error:
        raise _unusable(folder, error) from error
    if taken and not folder.is_dir():
        raise UserError(f"{folder} is a file; nothing is overwritten. Choose another folder")
    if taken:
        told = f"{folder} exists and is not empty; nothing is overwritten. Choose another folder"
        if is_run(folder):
            told += "; to go on with the run that lies there, add --resume to fit"
        raise UserError(told)
    return folder


def _unusable(folder: Path, error: OSError) -> UserError:
    return UserError(
        f"cannot use the folder {folder}: {error.strerror or error}. Choose another folder"
    )


def _is_vacant(folder: Path) -> bool:
    return folder.is_dir() and all(path.name == LOCK for path in folder.iterdir())


def unused_folder(name: str) -> Path:
    """A folder under ``runs/`` that does not exist: `name`, else `name` with a number."""
    return next(unused_folders(name))


def unused_folders(name: str) -> Iterator[Path]:
    """Folders under ``runs/`` without a run: `name` and `name` with a number, in order.

    A link there is taken, wherever it leads.

    Raises:
        UserError: If ``runs/`` cannot be looked into.
    """
    name, number = _plain(name), 1
    folder = RUNS / name
    while True:
        try:
            there = os.path.lexists(folder)
            if not there or (not folder.is_symlink() and _is_vacant(folder)):
                yield folder
        except OSError as error:
            raise _unusable(folder, error) from error
        number += 1
        folder = RUNS / f"{name}-{number}"


def newest_run(name: str) -> Path | None:
    """The run under ``runs/`` of that name, or of that name and the highest number.

    A link is followed to a run that has saved something, not to begin one where it leads.
    """
    name = _plain(name)
    numbered = {1: RUNS / name}
    if RUNS.is_dir():
        for path in RUNS.iterdir():
            number = _number(path.name)
            if path.name == f"{name}-{number}" and number > 1:
                numbered[number] = path
    for _, folder in sorted(numbered.items(), reverse=True):
        saved = bool(checkpoints_in(folder / "checkpoints"))
        if saved or (is_run(folder) and not folder.is_symlink()):
            return folder
    return None


def _plain(name: str) -> str:
    """A name that stays in its folder and is not hidden there."""
    name = re.sub(r"[\\/:\x00-\x1f\x7f]+", "-", name)
    return name.lstrip(".- ").rstrip(". ") or "run"
