"""Progress bar of a growing run: position, pace and time left."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from html import escape
from typing import Any, NamedTuple

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from blastogan.growth import GrowthSchedule
from blastogan.modules.base import as_gan

_log = logging.getLogger(__name__)

COST_PER_DOUBLING = 2.0
"""Assumed cost ratio per doubling of the resolution, until it is measured."""

HALF_LIFE_SECONDS = 20.0
"""Age at which a measured pace counts half."""


class PaceMeter:
    """Estimates the time left in a schedule from the pace at each resolution.

    Attributes:
        costs: Expected seconds per image by resolution; where one is unknown, each doubling costs
            `COST_PER_DOUBLING`.
    """

    def __init__(self, schedule: GrowthSchedule) -> None:
        self.schedule = schedule
        self.costs: Mapping[int, float] = {}
        self._sums: dict[int, tuple[float, float]] = {}  # resolution: images, seconds

    def add(self, resolution: int, images: int, seconds: float) -> None:
        """Record that `images` at `resolution` pixels took `seconds`; old records fade."""
        decay = 0.5 ** (seconds / HALF_LIFE_SECONDS)
        before = self._sums.get(resolution, (0.0, 0.0))
        self._sums[resolution] = (before[0] * decay + images, before[1] * decay + seconds)

    def images_per_second(self, resolution: int) -> float:
        """Pace at a resolution; 0 if unknown."""
        images, seconds = self._sums.get(resolution, (0.0, 1.0))
        return images / seconds

    def seconds_left(self, images_shown: int) -> float | None:
        """Seconds to the end of the schedule; ``None`` before the first record."""
        if not self._sums:
            return None
        total = 0.0
        for phase in self.schedule.phases:
            images = max(phase.end - max(images_shown, phase.start), 0)
            # later resolutions: the pace at the highest so far, and the expected or assumed cost
            measured = phase.resolution if phase.resolution in self._sums else max(self._sums)
            per_image = self._cost(phase.resolution, measured) / self.images_per_second(measured)
            total += images * per_image
        return total

    def _cost(self, resolution: int, other: int) -> float:
        """Cost of an image at a resolution relative to another one."""
        if resolution in self.costs and other in self.costs:
            return self.costs[resolution] / self.costs[other]
        doublings: float = COST_PER_DOUBLING ** (resolution.bit_length() - other.bit_length())
        return doublings


class _Cell(NamedTuple):
    """A bar in the output of a notebook's cell, of so many images."""

    done: int
    total: int
    text: str

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        bar = f'<progress value="{self.done}" max="{self.total}"></progress>'
        return f"{bar} <code>{escape(self.text)}</code>"


class GrowthProgress(ProgressBar):
    """A progress bar over the whole schedule, on a terminal or in a notebook; else log lines.

    A line comes at each tick, after half a minute without one, and later every ten minutes.
    """

    REFRESH_SECONDS = 0.5
    FIRST_LINE, LONGEST_PAUSE = 30.0, 600.0

    def __init__(self, schedule: GrowthSchedule) -> None:
        super().__init__()
        self.schedule = schedule
        self.pace = PaceMeter(schedule)
        self._progress: Progress | None = None
        self._cell: Any = None  # a display of IPython
        self._task = TaskID(0)
        self._mark = (0.0, 0)
        self._line_at, self._pause = 0.0, self.FIRST_LINE
        self._enabled = True

    def disable(self) -> None:
        """Hide progress; called on all ranks but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Show progress."""
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the bar."""
        super().on_train_start(trainer, pl_module)
        shown = as_gan(pl_module).images_shown
        self._line_at, self._pause = time.perf_counter() + self.FIRST_LINE, self.FIRST_LINE
        console = Console(stderr=True)
        if self._enabled and console.is_terminal:
            columns = TextColumn("{task.description}"), BarColumn()
            self._progress = Progress(*columns, console=console)
            self._task = self._progress.add_task(
                "starting", total=self.schedule.total_images, completed=shown
            )
            self._progress.start()
        elif self._enabled and console.is_jupyter:
            # Rich needs ipywidgets for this
            from IPython.display import display

            bar = _Cell(shown, self.schedule.total_images, "starting")
            self._cell = display(bar, display_id=True)  # type: ignore[no-untyped-call]
        # a resumed epoch has no start
        self.on_train_epoch_start(trainer)

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        """Exclude the time between ticks, which goes to validation and saving."""
        self._mark = (time.perf_counter(), as_gan(trainer.lightning_module).images_shown)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Refresh, at most twice a second because reading losses waits for the device."""
        module = as_gan(pl_module)
        shown, (started, first) = module.images_shown, self._mark
        resolution = self.schedule.at(first).resolution
        waited = time.perf_counter() - started >= self.REFRESH_SECONDS
        ended = self.schedule.ends_tick(shown)
        if not (waited or ended or resolution != self.schedule.at(shown).resolution):
            return
        losses = f"D {float(outputs['loss_d']):.3f} G {float(outputs['loss_g']):.3f}"
        if "augment_p" in outputs:
            losses += f"  p {float(outputs['augment_p']):.2f}"
        if module.ramp_kimg is not None:
            losses += f"  grade {module.condition_weight:.0%}"
        now = time.perf_counter()
        self.pace.add(resolution, shown - first, now - started)
        self._mark = (now, shown)
        text = self.describe(shown, losses)
        if self._progress is not None:
            self._progress.update(self._task, completed=shown, description=text)
        elif self._cell is not None:
            self._cell.update(_Cell(shown, self.schedule.total_images, text))
        elif self._enabled and (ended or now >= self._line_at):
            _log.info("%s", text)
            self._pause = min(2 * self._pause, self.LONGEST_PAUSE)
            self._line_at = now + self._pause

    def describe(self, images_shown: int, losses: str) -> str:
        """One line with images, phase, alpha, losses, pace and time left."""
        state = self.schedule.state_after(images_shown)
        left = self.pace.seconds_left(images_shown)
        pace = self.pace.images_per_second(state.resolution)
        return (
            f"{images_shown / 1000:.1f}/{self.schedule.total_images / 1000:.1f} kimg  "
            f"{format_seconds(left)} left  {state.phase}  alpha {state.alpha:.2f}  "
            f"{pace:.3g} img/s  {losses}"
        )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the bar."""
        self._close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Stop the bar, so that the error message is readable."""
        self._close()

    def _close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
        self._progress = self._cell = None


def format_seconds(seconds: float | None) -> str:
    """``1:02:03`` or ``2:03``, prefixed by days if needed; ``?`` for ``None``."""
    if seconds is None:
        return "?"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    text = f"{hour}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
    return f"{days} d {text}" if days else text
