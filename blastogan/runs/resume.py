"""What is to be resumed, by a command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blastogan.errors import UserError
from blastogan.runs.checkpoint_files import latest_valid_checkpoint, read_checkpoint
from blastogan.runs.folder import checkpoints_in, newest_config


def option(args: Sequence[str], name: str) -> str | None:
    """Value of an option in a command line; empty if it has none, `None` if it is not there."""
    for n, arg in enumerate(args):
        given, _, value = arg.partition("=")
        if given == f"--{name}":
            following = "".join(args[n + 1 : n + 2])
            return value or ("" if following.startswith("-") else following)
    return None


def config_to_resume(args: Sequence[str]) -> Path | None:
    """The newest configuration of the folder that is to be resumed, in a command line without."""
    folder, resume = option(args, "run_dir"), option(args, "resume")
    asked = folder and resume is not None and resume.lower() != "false"
    return newest_config(Path(str(folder))) if asked else None


def read_to_resume(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint.

    Raises:
        UserError: If it cannot be read; it names the newest whole one beside it, if there is one.
    """
    try:
        return read_checkpoint(path)
    except UserError as error:
        others = [each for each in checkpoints_in(Path(path).parent) if each != Path(path)]
        newest, _ = latest_valid_checkpoint(others if Path(path).exists() else [])
        if newest is None:
            raise
        raise UserError(f"{error} The newest whole one is {newest}.") from error
