"""Folders of runs: new or resumed, never overwritten."""

from __future__ import annotations

import re
from collections.abc import Iterator
from glob import escape
from itertools import count
from pathlib import Path

from blastogan.errors import UserError

RUNS = Path("runs")
"""Default folder of runs."""

LOG = "metrics.csv"
"""Table of all that is logged."""

LOCK = ".lock"
"""File in a run folder, locked by the process that writes there; it stays afterwards."""


def run_of_checkpoint(path: str | Path) -> Path:
    """Run folder of a checkpoint ``RUN/checkpoints/NAME.ckpt``; otherwise the file's folder."""
    folder = Path(path).parent
    return folder.parent if folder.name == "checkpoints" else folder


def newest_config(folder: Path) -> Path | None:
    """Latest configuration of a run: ``config.yaml``, or the file of a later resume."""
    found = sorted(folder.glob("config*.yaml"), key=lambda path: path.stat().st_mtime_ns)
    return found[-1] if found else None


def checkpoints_in(folder: Path) -> list[Path]:
    """Checkpoints in ``RUN/checkpoints`` that a run can resume from, the latest first.

    These are ``last.ckpt``, ``last-N.ckpt`` and those of phases; not ``best`` or ``diverged``.
    """
    before = sorted(folder.glob("last-*.ckpt"), key=lambda path: _number(path.stem))
    before = [path for path in before if _number(path.stem)]
    found = [folder / "last.ckpt", *before, *sorted(folder.glob("phase-*.ckpt"), reverse=True)]
    return [path for path in found if path.is_file()]


def _number(name: str) -> int:
    """The number at the end of ``NAME-2``; 0 if there is none."""
    found = re.fullmatch(r".*-([1-9][0-9]*)", name)
    return int(found[1]) if found else 0


def is_run(folder: Path) -> bool:
    """Whether a run was started in a folder, even if it died before it saved anything."""
    saved = newest_config(folder) or checkpoints_in(folder / "checkpoints")
    return bool(saved) or (folder / LOCK).is_file()


def fresh_folder(path: str | Path) -> Path:
    """The folder at `path`; raises `UserError` unless it is new or empty."""
    folder = Path(path)
    try:
        taken = folder.exists() and not _is_vacant(folder)
    except OSError as error:
        raise _unusable(folder, error) from error
    if taken:
        state = "exists and is not empty" if folder.is_dir() else "is a file"
        resume = "; to resume the run in it, add --resume to fit" if is_run(folder) else ""
        raise UserError(f"{folder} {state}; nothing is overwritten. Choose another folder{resume}")
    return folder


def _unusable(folder: Path, error: OSError) -> UserError:
    return UserError(
        f"cannot use the folder {folder}: {error.strerror or error}. Choose another folder"
    )


def _is_vacant(folder: Path) -> bool:
    return folder.is_dir() and all(path.name == LOCK for path in folder.iterdir())


def unused_folder(name: str) -> Path:
    """The first of `unused_folders`."""
    return next(unused_folders(name))


def unused_folders(name: str) -> Iterator[Path]:
    """Folders under ``runs/`` that are new or empty: `name`, `name`-2, and so on; never links.

    Raises:
        UserError: If ``runs/`` cannot be read.
    """
    name = _plain(name)
    for number in count(1):
        folder = RUNS / (name if number == 1 else f"{name}-{number}")
        try:
            if not folder.is_symlink() and (not folder.exists() or _is_vacant(folder)):
                yield folder
        except OSError as error:
            raise _unusable(folder, error) from error


def newest_run(name: str) -> Path | None:
    """The run under ``runs/`` with that name and the highest number.

    A link counts only if it leads to a run with a checkpoint.
    """
    name = _plain(name)
    others = sorted((_number(path.name) for path in RUNS.glob(f"{escape(name)}-*")), reverse=True)
    folders = [RUNS / f"{name}-{number}" for number in others if number > 1]
    for folder in (*folders, RUNS / name):
        saved = bool(checkpoints_in(folder / "checkpoints"))
        if saved or (is_run(folder) and not folder.is_symlink()):
            return folder
    return None


def _plain(name: str) -> str:
    """A name without separators that is not a hidden file."""
    name = re.sub(r"[\\/:\x00-\x1f\x7f]+", "-", name)
    return name.lstrip(".- ").rstrip(". ") or "run"
