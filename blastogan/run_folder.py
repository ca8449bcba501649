"""Folders of runs: new or resumed, never overwritten."""

from __future__ import annotations

from pathlib import Path

from blastogan.errors import UserError

RUNS = Path("runs")
"""Where runs go that were given no folder."""


def run_of_checkpoint(path: str | Path) -> Path:
    """Run folder that a checkpoint lies in, ``RUN/checkpoints/NAME.ckpt``; else its own folder."""
    folder = Path(path).parent
    return folder.parent if folder.name == "checkpoints" else folder


def newest_config(folder: Path) -> Path | None:
    """Configuration that a run used last: ``config.yaml``, or that of a later resume."""
    found = sorted(folder.glob("config*.yaml"), key=lambda path: path.stat().st_mtime_ns)
    return found[-1] if found else None


def fresh_folder(path: str | Path) -> Path:
    """The folder at `path`, which is to be new or empty.

    Raises:
        UserError: If something is there already.
    """
    folder = Path(path)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            f"{folder} exists and is not empty; nothing is overwritten. Choose another folder; to "
            f"go on with a run, add --ckpt_path {folder / 'checkpoints' / 'last.ckpt'}"
        )
    return folder


def unused_folder(name: str) -> Path:
    """A folder under ``runs/`` that does not exist: `name`, else `name` with a number."""
    folder, number = RUNS / name, 1
    while folder.exists():
        number += 1
        folder = RUNS / f"{name}-{number}"
    return folder
