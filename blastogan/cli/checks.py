"""Options of Lightning that cannot train: one message, before a run is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from pytorch_lightning import Trainer
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy
from pytorch_lightning.strategies.launchers import _MultiProcessingLauncher

from blastogan.errors import UserError

PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")
"""Precisions in which weights stay float32, as optimisers, averages and penalties need."""


Kind = TypeVar("Kind", bound=BaseException)


def cause_of(error: BaseException | None, kind: type[Kind]) -> Kind | None:
    """The first error of a kind among an error and those that it was raised from."""
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error


@contextmanager
def one_message(what: str) -> Iterator[None]:
    """Turn what a library raises about options into a `UserError` of one line."""
    try:
        yield
    except UserError:
        raise
    except (ImportError, RuntimeError, TypeError, ValueError) as error:
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{what}: {text}") from error


def check_trainer(trainer: Trainer) -> None:
    """Refuse what would fail in the first step.

    Raises:
        UserError: Listing all options that cannot train.
    """
    problems = [
        f"trainer.{name} is {value}: training images are an endless stream, use a whole number"
        for name in ("val_check_interval", "limit_train_batches")
        if isinstance(value := getattr(trainer, name), float) and value not in (0.0, 1.0)
    ]
    if trainer.precision not in PRECISIONS:
        problems.append(f"trainer.precision is {trainer.precision}: use {', '.join(PRECISIONS)}")
    strategy = trainer.strategy
    works = isinstance(strategy, (SingleDeviceStrategy, DDPStrategy))
    if not works or isinstance(strategy.launcher, _MultiProcessingLauncher):
        name = type(strategy).__name__
        start = getattr(strategy, "_start_method", None)
        problems.append(
            f"trainer.strategy is {name}{f' ({start})' if start else ''}: leave it out, or use ddp"
        )
    if problems:
        raise UserError("; ".join(problems))
