"""Reading of the checkpoint to resume from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from blastogan.errors import UserError
from blastogan.runs.checkpoint_files import latest_valid_checkpoint, read_checkpoint
from blastogan.runs.folder import checkpoints_in


def read_to_resume(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint.

    Raises:
        UserError: If it cannot be read; names the latest valid one in its folder, if any.
    """
    try:
        return read_checkpoint(path)
    except UserError as error:
        others = [each for each in checkpoints_in(Path(path).parent) if each != Path(path)]
        newest, _ = latest_valid_checkpoint(others if Path(path).exists() else [])
        if newest is None:
            raise
        raise UserError(f"{error} The latest valid checkpoint is {newest}.") from error
