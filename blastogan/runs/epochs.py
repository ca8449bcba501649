"""Lightning's count of epochs in a growing run: a tick is an epoch, and images shown decide.

Lightning counts an epoch that was cut short like a complete one, and leaves at once from a
checkpoint that counts all of them.
"""

from __future__ import annotations

from typing import Any

from pytorch_lightning import Trainer


def reopen(checkpoint: dict[str, Any], max_epochs: int | None) -> None:
    """Make a checkpoint, in place, count one epoch less than `max_epochs` if it counts them all."""
    loops = checkpoint.get("loops")
    if loops and max_epochs is not None and max_epochs > 0:
        current = loops["fit_loop"]["epoch_progress"]["current"]
        for name in ("processed", "completed"):
            current[name] = min(current[name], max_epochs - 1)


def count_epochs(trainer: Trainer, number: int) -> None:
    """Make a trainer that starts count so many epochs as trained."""
    current: Any = trainer.fit_loop.epoch_progress.current
    current.processed = current.completed = number


def repeat_end_of_epoch(trainer: Trainer, number: int) -> None:
    """Validate, and run the hooks at the end of the epoch that is the `number`-th, from 1.

    For ``on_train_start`` of a run that resumes where an epoch has had its last batch.
    """
    loop = trainer.fit_loop
    # Lightning would otherwise resume within this end, in a way that depends on where it was saved
    loop.restarting = False
    loop.reset_restart_stage()
    count_epochs(trainer, number - 1)
    total: Any = loop.epoch_progress.total
    total.ready = total.started = number
    total.processed = total.completed = number - 1
    if loop.epoch_loop._should_check_val_epoch():
        trainer.validating = True
        loop.epoch_loop.val_loop.run()
        trainer.training = True
    loop.on_advance_end()
