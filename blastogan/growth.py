"""Progressive growing as a pure function of the number of images shown.

Karras et al., "Progressive Growing of GANs for Improved Quality, Stability, and Variation" (2018),
section 2: training starts at a low resolution; each higher one is faded in by a weight ``alpha``
that rises from 0 to 1 over a span of images, then held for another span.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from numbers import Integral, Real
from typing import Any, Literal, TypeVar

from blastogan.errors import UserError

MIN_RESOLUTION, MAX_RESOLUTION = 4, 1024

MAX_KIMG = 1e6
"""Most thousands of images of a schedule: forty times the longest training of StyleGAN."""

MAX_BATCH = 2**16
"""Largest global batch size."""

Number = TypeVar("Number", int, float)


def is_number(value: object) -> bool:
    """Whether a value is a finite number, and no truth value."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    return isinstance(value, Integral) or math.isfinite(value)


def is_power_of_two(number: int) -> bool:
    """Whether `number` is 1, 2, 4, 8, ..."""
    return number > 0 and number & (number - 1) == 0


def check_resolution(name: str, resolution: int) -> None:
    """Refuse a resolution other than a power of two from 4 to 1024 pixels.

    Raises:
        UserError: With `name`, the value and the nearest allowed one.
    """
    whole = isinstance(resolution, Integral)
    if whole and is_power_of_two(resolution) and MIN_RESOLUTION <= resolution <= MAX_RESOLUTION:
        return
    hint = ""
    if is_number(resolution):
        bounded = min(max(resolution, MIN_RESOLUTION), MAX_RESOLUTION)
        hint = f"; the nearest is {2 ** round(math.log2(bounded))}"
    raise UserError(
        f"{name} is {resolution!r}: expected a power of two from {MIN_RESOLUTION} to "
        f"{MAX_RESOLUTION}{hint}"
    )


def resolutions_between(start: int, final: int) -> tuple[int, ...]:
    """Powers of two from `start` to `final`, both included, in pixels."""
    return tuple(2**n for n in range(start.bit_length() - 1, final.bit_length()))


@dataclass(frozen=True)
class Phase:
    """A span of images in which one resolution is faded in or held.

    Attributes:
        index: Position in `GrowthSchedule.phases`.
        kind: ``fade`` or ``hold``.
        resolution: Resolution in pixels of the images that the networks work on.
        start: Images shown when the phase begins.
        end: Images shown when it is over.
        batch_size: Global batch size, summed over devices.
        learning_rate: Learning rate of both optimisers; ``None`` leaves them as configured.
    """

    index: int
    kind: Literal["fade", "hold"]
    resolution: int
    start: int
    end: int
    batch_size: int
    learning_rate: float | None

    def __str__(self) -> str:
        return f"{self.kind} {self.resolution}x{self.resolution}"


@dataclass(frozen=True)
class GrowthState:
    """Position of a run: its phase, and the weight of the newest resolution, 1 outside fades."""

    phase: Phase
    alpha: float

    @property
    def resolution(self) -> int:
        """Resolution of the phase in pixels."""
        return self.phase.resolution

    @property
    def batch_size(self) -> int:
        """Global batch size of the phase."""
        return self.phase.batch_size


@dataclass(frozen=True)
class GrowthSchedule:
    """The order, length and batch size of all resolutions in training.

    Settings that may differ by resolution are one number for all, or a mapping from resolution to
    number. Entries of a mapping for resolutions outside the schedule are ignored, so that changing
    the first or last resolution is enough to cut a schedule. Phases are rounded to whole ticks, and
    ticks to whole batches of every size in use; `rounding` lists what was rounded.

    Attributes:
        start_resolution: First resolution in pixels, a power of two from 4 on.
        final_resolution: Last resolution in pixels, up to 1024.
        fade_kimg: Thousands of images over which a resolution is faded in. There is no fade at
            `start_resolution`. The paper uses 600 (at 128x128: 800).
        hold_kimg: Thousands of images for which a resolution is held after its fade.
        batch_size: Global batch size.
        learning_rate: Learning rate of both optimisers; ``None`` leaves them as configured.
        tick_kimg: Thousands of images per tick, which is one Lightning epoch: a run is validated,
            sampled and saved at the ends of ticks.
        cooldown_kimg: Thousands of images, the last of the schedule, over which the learning rates
            fall to 0 by half a cosine (Loshchilov and Hutter 2017, equation 5).

    Raises:
        UserError: If a value is out of range, or a mapping lacks a resolution.
    """

    start_resolution: int = 8
    final_resolution: int = 256
    fade_kimg: float | dict[int, float] = 600.0
    hold_kimg: float | dict[int, float] = 600.0
    batch_size: int | dict[int, int] = 16
    learning_rate: float | dict[int, float] | None = None
    tick_kimg: float = 10.0
    cooldown_kimg: float = 0.0

    def __post_init__(self) -> None:
        check_resolution("start_resolution", self.start_resolution)
        check_resolution("final_resolution", self.final_resolution)
        if self.start_resolution > self.final_resolution:
            raise UserError(
                f"start_resolution {self.start_resolution} is above final_resolution "
                f"{self.final_resolution}: growth goes upwards only"
            )
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Mapping):
                self._check_mapping(field.name, value)
        for resolution in self.resolutions:
            self._check_values(resolution)
        if not (is_number(self.tick_kimg) and 0 < self.tick_kimg <= MAX_KIMG):
            raise UserError(f"tick_kimg is {self.tick_kimg}: expected a number above 0")
        if not (is_number(self.cooldown_kimg) and 0 <= self.cooldown_kimg <= MAX_KIMG):
            raise UserError(f"cooldown_kimg is {self.cooldown_kimg}: expected 0 or more")
        if not self.phases:
            raise UserError("the schedule shows no images: set hold_kimg or fade_kimg above 0")
        if self.total_images > 1000 * MAX_KIMG:
            raise UserError(
                f"the schedule shows {self.total_images / 1000:g} kimg in ticks of "
                f"{self.tick_images} images, a common multiple of batch_size at each resolution: "
                f"expected at most {MAX_KIMG:g} kimg. Lower hold_kimg, fade_kimg or tick_kimg, or "
                "choose batch sizes that divide each other"
            )

    def _check_mapping(self, name: str, mapping: Mapping[int, float]) -> None:
        # YAML reads {8:3.2} as one key, 483.2 in base 60, without a value
        if any(value is None for value in mapping.values()):
            raise UserError(
                f"{name} has a resolution without a number: expected such as {{8: 3.2, 16: 6.4}}, "
                "with a blank behind each colon"
            )
        possible = resolutions_between(MIN_RESOLUTION, MAX_RESOLUTION)
        strange = [r for r in mapping if r not in possible]
        if strange:
            raise UserError(
                f"{name} has a value for {', '.join(map(str, strange))}, not a resolution: "
                f"expected some of {', '.join(map(str, possible))}"
            )
        missing = [r for r in self.resolutions if r not in mapping]
        if name == "fade_kimg" and self.start_resolution in missing:
            missing.remove(self.start_resolution)
        if missing:
            raise UserError(
                f"{name} has no value for {', '.join(map(str, missing))}: give one number for "
                f"all resolutions, or one for each of {', '.join(map(str, self.resolutions))}"
            )

    def _check_values(self, resolution: int) -> None:
        batch_size = _at(self.batch_size, resolution)
        whole = is_number(batch_size) and int(batch_size) == batch_size
        if not (whole and 1 <= batch_size <= MAX_BATCH):
            raise UserError(
                f"batch_size at {resolution} is {batch_size}: expected 1, 2, 3, ... {MAX_BATCH}"
            )
        spans = {"hold_kimg": _at(self.hold_kimg, resolution)}
        if resolution > self.start_resolution:
            spans["fade_kimg"] = _at(self.fade_kimg, resolution)
        for name, value in spans.items():
            if not (is_number(value) and 0 <= value <= MAX_KIMG):
                raise UserError(
                    f"{name} at {resolution} is {value}: expected 0 or more, at most {MAX_KIMG:g}"
                )
        if self.learning_rate is None:
            return
        rate = _at(self.learning_rate, resolution)
        if not (is_number(rate) and rate > 0):
            raise UserError(f"learning_rate at {resolution} is {rate}: expected a number above 0")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GrowthSchedule:
        """The schedule of a `to_dict`; raises `UserError` for anything else.

        Resolutions may be texts, as YAML and JSON have them.
        """
        settings: dict[str, Any] = {
            name: {_resolution(key): each for key, each in value.items()}
            if isinstance(value, Mapping)
            else value
            for name, value in values.items()
        }
        try:
            return cls(**settings)
        except TypeError as error:
            raise UserError(f"the schedule is damaged: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """Settings as plain numbers and mappings, fit for a checkpoint."""
        return asdict(self)

    @property
    def resolutions(self) -> tuple[int, ...]:
        """All resolutions trained, in pixels, ascending."""
        return resolutions_between(self.start_resolution, self.final_resolution)

    @cached_property
    def tick_images(self) -> int:
        """Images per tick: a multiple of every batch size of the schedule."""
        unit = math.lcm(*(int(_at(self.batch_size, r)) for r in self.resolutions))
        return max(1, round(self.tick_kimg * 1000 / unit)) * unit

    @cached_property
    def phases(self) -> tuple[Phase, ...]:
        """All phases in order: hold, then fade and hold for each higher resolution."""
        phases: list[Phase] = []
        start = 0
        for kind, resolution, kimg in self._spans():
            end = start + self._round_to_ticks(kimg) * self.tick_images
            if end == start:
                continue
            rate = self.learning_rate
            phases.append(
                Phase(
                    index=len(phases),
                    kind=kind,
                    resolution=resolution,
                    start=start,
                    end=end,
                    batch_size=int(_at(self.batch_size, resolution)),
                    learning_rate=None if rate is None else float(_at(rate, resolution)),
                )
            )
            start = end
        return tuple(phases)

    def _spans(self) -> list[tuple[Literal["fade", "hold"], int, float]]:
        spans: list[tuple[Literal["fade", "hold"], int, float]] = []
        for resolution in self.resolutions:
            if resolution > self.start_resolution:
                spans.append(("fade", resolution, _at(self.fade_kimg, resolution)))
            spans.append(("hold", resolution, _at(self.hold_kimg, resolution)))
        return spans

    def _round_to_ticks(self, kimg: float) -> int:
        return max(1, round(kimg * 1000 / self.tick_images)) if kimg > 0 else 0

    @property
    def rounding(self) -> tuple[str, ...]:
        """Settings that were rounded to whole ticks and batches, a sentence each; often empty."""
        notes = []
        if self.tick_images != round(self.tick_kimg * 1000):
            notes.append(f"a tick of {self.tick_kimg:g} kimg is {self.tick_images} images")
        for kind, resolution, kimg in self._spans():
            images = self._round_to_ticks(kimg) * self.tick_images
            if images != round(kimg * 1000):
                notes.append(
                    f"{kind} {resolution}x{resolution} of {kimg:g} kimg is {images} images"
                )
        return tuple(notes)

    @property
    def total_images(self) -> int:
        """Images shown by the whole schedule."""
        return self.phases[-1].end

    @property
    def total_ticks(self) -> int:
        """Ticks of the whole schedule, which is ``max_epochs`` of Lightning's trainer."""
        return self.total_images // self.tick_images

    def prolongs(self, other: GrowthSchedule) -> bool:
        """Whether a run of `other` may continue with this one: equal, or with a longer last hold.

        Learning rates and cooldown may differ.
        """
        own, theirs = (replace(each, learning_rate=None).phases for each in (self, other))
        if (self.resolutions, self.tick_images) != (other.resolutions, other.tick_images):
            return False
        if own[: len(theirs)] == theirs:
            return True
        last = theirs[-1]
        longer = replace(last, end=max(last.end, own[-1].end))
        return last.kind == "hold" and own == (*theirs[:-1], longer)

    def at(self, images_shown: int) -> GrowthState:
        """Phase and alpha of the batch after `images_shown` images; at the end, of the last one."""
        if images_shown < 0:
            raise ValueError(f"images_shown is {images_shown}: expected 0 or more")
        ends = [phase.end for phase in self.phases]
        phase = self.phases[min(bisect_right(ends, images_shown), len(self.phases) - 1)]
        if phase.kind == "hold" or images_shown >= phase.end:
            return GrowthState(phase, alpha=1.0)
        return GrowthState(phase, alpha=(images_shown - phase.start) / (phase.end - phase.start))

    def state_after(self, images_shown: int) -> GrowthState:
        """Phase and alpha of what has been trained after `images_shown` images.

        Unlike `at`, a phase that ends exactly there counts as finished, with alpha exactly 1.
        """
        phase = self.finished_phase(images_shown)
        return GrowthState(phase, alpha=1.0) if phase else self.at(images_shown)

    def rate_factor(self, images_shown: int) -> float:
        """Factor of the learning rates of the batch after `images_shown` images, 0 to 1."""
        left = self.total_images - images_shown
        length = min(self.cooldown_kimg * 1000, self.total_images)
        if not length or left >= length:
            return 1.0
        return 0.5 * (1.0 - math.cos(math.pi * max(left, 0) / length))

    def next_tick(self, images_shown: int) -> int:
        """Images shown at the next end of a tick, strictly after `images_shown`."""
        return (images_shown // self.tick_images + 1) * self.tick_images

    def ends_tick(self, images_shown: int) -> bool:
        """Whether a tick ends after `images_shown` images; so does the empty run, at 0."""
        return images_shown % self.tick_images == 0

    def log_columns(self, images_shown: int) -> dict[str, float]:
        """Phase, resolution, alpha and batch size after `images_shown` images, as log columns."""
        state = self.state_after(images_shown)
        return {
            "phase": state.phase.index,
            "resolution": state.resolution,
            "alpha": state.alpha,
            "batch_size": state.batch_size,
        }

    def finished_phase(self, images_shown: int) -> Phase | None:
        """The phase that ends exactly after `images_shown` images, if one does."""
        return next((phase for phase in self.phases if phase.end == images_shown), None)

    def describe(self) -> str:
        """A line per phase, then one per rounded setting, for logs and consoles."""
        lines = [
            f"{phase.start / 1000:9.1f} to {phase.end / 1000:9.1f} kimg  "
            f"{phase!s:<13} batch {phase.batch_size}"
            + (f"  learning rate {phase.learning_rate:g}" if phase.learning_rate else "")
            for phase in self.phases
        ]
        return "\n".join([*lines, *(f"rounded: {note}" for note in self.rounding)])


def _at(setting: Number | dict[int, Number], resolution: int) -> Number:
    return setting[resolution] if isinstance(setting, Mapping) else setting


def _resolution(key: Any) -> Any:
    """A key of a mapping, as a number where it is the text of one."""
    return int(key) if isinstance(key, str) and re.fullmatch("[0-9]{1,4}", key) else key
