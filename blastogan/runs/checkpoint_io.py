"""Atomic writing of checkpoints into the folder of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Trainer

from blastogan.errors import UserError
from blastogan.utils.files import atomic_write, naming, put_in_place


def checkpoint_folder(trainer: Trainer) -> Path:
    """Folder of the checkpoints of a run."""
    return Path(trainer.default_root_dir) / "checkpoints"


def save_checkpoint(
    trainer: Trainer, path: Path, before: Callable[[Path], None] | None = None
) -> None:
    """Write a checkpoint atomically; call it on all ranks.

    Args:
        trainer: Trainer to save.
        path: File to write; only rank 0 writes.
        before: Called on rank 0 with the finished file, just before it replaces the old one.

    Raises:
        OSError: If the file cannot be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        trainer.save_checkpoint(part, weights_only=False)
        if trainer.is_global_zero:
            with naming(path):
                if before is not None:
                    before(part)
                put_in_place(part, path)
    except OSError as error:
        if str(error.filename).startswith(str(part)):
            error.filename = str(path)
        raise
    finally:
        if trainer.is_global_zero:
            part.unlink(missing_ok=True)


@contextmanager
def damaged_states_named() -> Iterator[None]:
    """Turn what Lightning raises when it hands out the states of a checkpoint into a `UserError`.

    States of loops, optimisers and callbacks are read by their owners, each in its own way.
    """
    try:
        yield
    except (UserError, MisconfigurationException, OSError):
        raise
    except Exception as error:
        code = [frame.f_code for frame, _ in walk_tb(error.__traceback__)]
        restoring = any(
            each.co_filename.endswith("checkpoint_connector.py")
            and each.co_name.startswith(("restore", "resume_start"))
            for each in code
        )
        if not restoring:
            raise
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"the checkpoint cannot be resumed: its states are damaged, or of another version "
            f"({type(error).__name__}: {reason}). Use an earlier one."
        ) from error


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints atomically in place; Lightning may copy them from a temporary folder."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint; raises `OSError` if that fails."""
        with atomic_write(path) as part, part.open("wb") as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:
                # how torch reports a failed write
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise


def write_checkpoints_atomically(trainer: Trainer) -> None:
    """Make a trainer write checkpoints atomically, unless it has a plugin of its own."""
    strategy = trainer.strategy
    if type(strategy.checkpoint_io) is TorchCheckpointIO:
        strategy.checkpoint_io = AtomicCheckpointIO()
