"""The callbacks of a run, which the command line and scripts share."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any

from pytorch_lightning import Callback

from blastogan.callbacks.checkpoints import GrowthCheckpoint
from blastogan.callbacks.fade_in import FadeIn
from blastogan.callbacks.fidelity.callback import FidelityCallback
from blastogan.callbacks.growing import ProgressiveGrowing
from blastogan.callbacks.progress import GrowthProgress
from blastogan.callbacks.random_state import RandomState
from blastogan.callbacks.sample_grid import SampleGrid
from blastogan.callbacks.split_record import SplitRecord
from blastogan.callbacks.stopping import GracefulInterrupt
from blastogan.callbacks.tf32 import TF32
from blastogan.callbacks.training_log import TrainingLog
from blastogan.callbacks.watch.callback import DivergenceWatch
from blastogan.errors import UserError
from blastogan.growth import GrowthSchedule

DEFAULT_CALLBACKS: dict[str, type[Callback]] = {
    "growing": ProgressiveGrowing,
    "fade_in": FadeIn,
    "checkpoints": GrowthCheckpoint,
    "watch": DivergenceWatch,
    "training_log": TrainingLog,
    "progress": GrowthProgress,
    # after those that have a row to write
    "interrupt": GracefulInterrupt,
    "float32": TF32,
    "samples": SampleGrid,
    "fidelity": FidelityCallback,
}
"""Callbacks of every fit of a GAN, in order, by the key of their settings."""

RECORDS: tuple[type[Callback], ...] = (RandomState, SplitRecord)
"""Callbacks of every fit, that of a grader too; they come after the others."""


def takes_schedule(kind: type[Callback]) -> bool:
    """Whether a callback is made for a growth schedule."""
    return "schedule" in signature(kind).parameters


def default_callbacks(
    schedule: GrowthSchedule, **settings: Mapping[str, Any] | None
) -> list[Callback]:
    """The callbacks of ``blastogan fit``, for Lightning's trainer.

    They grow the networks, fade stages in, write checkpoints, sample sheets, logs and metrics,
    watch the training, show its progress, and stop it gracefully on Ctrl-C.

    Args:
        schedule: The schedule given to the data module.
        **settings: Settings of a callback by its key in `DEFAULT_CALLBACKS`, such as
            ``samples={"rows": 4}``; ``None`` leaves the callback out.

    Raises:
        UserError: If a key or a setting is unknown, or a value is out of range.
    """
    if unknown := settings.keys() - DEFAULT_CALLBACKS:
        keys = ", ".join(DEFAULT_CALLBACKS)
        raise UserError(f"no callback {', '.join(sorted(unknown))}: expected some of {keys}")
    built: list[Callback] = []
    for key, kind in DEFAULT_CALLBACKS.items():
        given = settings.get(key, {})
        if given is None:
            continue
        names = [name for name in signature(kind).parameters if name != "schedule"]
        if strange := given.keys() - set(names):
            raise UserError(
                f"{key} has no setting {', '.join(sorted(strange))}: expected some of "
                f"{', '.join(names) or 'none'}"
            )
        shared = {"schedule": schedule} if takes_schedule(kind) else {}
        built.append(kind(**shared, **given))
    return [*built, *(kind() for kind in RECORDS)]
