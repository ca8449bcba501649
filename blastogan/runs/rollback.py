"""Setting a run back to where nothing was wrong yet, to go on with other random numbers."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from blastogan.errors import DivergenceError, RollBack, UserError
from blastogan.runs.checkpoint_files import Checkpoint, read_checkpoint
from blastogan.runs.folder import checkpoints_in
from blastogan.runs.table import RunTable
from blastogan.utils.files import atomic_write
from blastogan.utils.seeding import derive_seed

_log = logging.getLogger(__name__)

TABLE = "rollbacks.csv"
"""File of a run folder: a row for each return, from where to where, and why."""


def roll_back(folder: Path, error: RollBack, limit: int) -> None:
    """Make the checkpoint before what went wrong the last one of a run, with another `draw_seed`.

    A checkpoint to which the run was set back before is not taken again, but the one before it.
    Later checkpoints are kept in ``checkpoints/rolled-back-N``.

    Args:
        folder: Of the run.
        error: What went wrong, and until when all was well.
        limit: Most returns of a run.

    Raises:
        DivergenceError: If the limit is reached, or there is no such checkpoint.
    """
    table = RunTable(folder / TABLE)
    rows = table.rows()
    if len(rows) >= limit:
        raise DivergenceError(f"{error} The run was rolled back {len(rows)} times: it ends here.")
    tried = {round(float(row["to_kimg"]) * 1000) for row in rows}
    found = _readable(folder / "checkpoints")
    good = [each for each in found if _is_good(each, error.good_images, tried)]
    if not good:
        raise DivergenceError(
            f"{error} There is no checkpoint to roll back to: the first to be tried would be one "
            f"at or before {error.good_images / 1000:g} kimg."
        )
    target = max(good, key=lambda each: each.images_shown)
    number = len(rows) + 1
    table.append(
        {
            "kimg": error.at_images / 1000,
            "to_kimg": target.images_shown / 1000,
            "reason": error.reason,
        }
    )
    _set_aside(folder / "checkpoints", found, target, number)
    _log.warning(
        "%s Rolled back from %g to %g kimg, to go on with other random numbers (%d of at most %d)",
        error,
        error.at_images / 1000,
        target.images_shown / 1000,
        number,
        limit,
    )


def _readable(folder: Path) -> list[Checkpoint]:
    found = []
    best = folder / "best.ckpt"
    for path in [*checkpoints_in(folder), *([best] if best.is_file() else [])]:
        try:
            found.append(Checkpoint(path, read_checkpoint(path)))
        except UserError as error:
            _log.warning("%s", error)
    return found


def _is_good(checkpoint: Checkpoint, good_images: int, tried: set[int]) -> bool:
    shown = checkpoint.images_shown
    return (
        checkpoint.path.name != "best.ckpt"
        and shown <= good_images
        and shown not in tried
        and _is_finite(checkpoint.content["state_dict"])
    )


def _is_finite(state: dict[str, Any]) -> bool:
    return all(bool(value.isfinite().all()) for value in state.values())


def _set_aside(folder: Path, found: list[Checkpoint], target: Checkpoint, number: int) -> None:
    """Move what came after the target away, and write it anew as the last."""
    content = target.content
    seed = content["blastogan"].get("draw_seed") or 0
    content["blastogan"]["draw_seed"] = derive_seed(seed, "rolled back", number)
    aside = folder / f"rolled-back-{number}"
    aside.mkdir(exist_ok=True)
    for each in found:
        if each.images_shown > target.images_shown:
            each.path.replace(aside / each.path.name)
    with atomic_write(folder / "last.ckpt") as part:
        torch.save(content, part)
