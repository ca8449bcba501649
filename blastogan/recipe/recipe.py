"""Settings that follow from the number of images, their size and the batch, each with its reason.

The rules and their constants are in `blastogan.recipe.rules`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import yaml

from blastogan.errors import ProblemList
from blastogan.growth import GrowthSchedule
from blastogan.recipe.rules import (
    BATCH,
    FEW_IMAGES,
    FEW_NOTE,
    Choice,
    choose_augmentation,
    choose_data,
    choose_ema,
    choose_evaluations,
    choose_gamma,
    choose_growth,
    choose_ramp,
    settle,
    times,
)


@dataclass(frozen=True)
class Recipe:
    """What was chosen for a set of images; see `make_recipe`."""

    subject: str
    """The images and the batch, in words."""
    choices: tuple[Choice, ...]
    schedule: GrowthSchedule
    notes: tuple[str, ...] = ()
    """Advice, a sentence each."""

    @cached_property
    def values(self) -> dict[str, Any]:
        """Value of each setting, by its full name."""
        return {choice.setting: choice.value for choice in self.choices}

    def to_yaml(self) -> str:
        """A configuration for ``blastogan fit --config``, with the reasons as comments."""
        lines = [f"# recipe for {self.subject}"]
        opened: list[str] = []
        for choice in self.choices:
            *groups, name = choice.setting.split(".")
            for depth, group in enumerate(groups):
                if opened[: depth + 1] != groups[: depth + 1]:
                    lines.append(f"{'  ' * depth}{group}:")
            opened = groups
            indent = "  " * len(groups)
            lines += [f"{indent}# {choice.why}", f"{indent}{name}: {in_yaml(choice.value)}"]
        return "\n".join([*lines, *(f"# note: {note}" for note in self.notes)]) + "\n"

    def describe(self) -> str:
        """A table of setting, value and reason, then the notes: for logs and consoles."""
        rows = [
            (choice.setting, in_yaml(choice.value), "yours" if choice.by_hand else choice.why)
            for choice in self.choices
        ]
        width = max(len(setting) for setting, _, _ in rows)
        # long mappings are not to push all reasons to the right
        room = max((len(value) for _, value, _ in rows if len(value) <= 20), default=0)
        lines = [f"recipe for {self.subject}"]
        lines += [f"  {setting:<{width}}  {value:<{room}}  {why}" for setting, value, why in rows]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


def in_yaml(value: Any) -> str:
    """A value as YAML on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=math.inf)
    # which ends a document after a lone scalar
    return text.removesuffix("...\n").strip()


def make_recipe(
    num_images: int,
    resolution: int,
    batch_size: int,
    img_channels: int,
    conditional: bool = True,
    smallest_class: int | None = None,
    start_resolution: int = 8,
    *,
    loss: str = "logistic",
    regularizer: str = "r1",
    devices: int = 1,
    given: Mapping[str, Any] | None = None,
) -> Recipe:
    """Choose R1's gamma, the average's half-life, augmentation, conditioning and schedule.

    Args:
        num_images: Images to train on.
        resolution: Final resolution in pixels.
        batch_size: Batch at the final resolution; smaller ones get the same or a larger one.
        img_channels: 1 (grey) or 3 (RGB).
        conditional: Whether the model is conditioned on the grade, and there are two or more.
        smallest_class: Images of the smallest class; ``None`` if unknown.
        start_resolution: First resolution in pixels.
        loss: Loss of the model.
        regularizer: Regularizer of the model; R1's gamma is chosen for ``r1`` only.
        devices: Factor by which ``scale_batch`` will multiply the batches.
        given: Values given by hand, by full name; the others follow from them.

    Raises:
        ProblemList: If numbers are out of range; all are listed.
        UserError: If resolutions, or values given by hand, are invalid.
    """
    _check(num_images, batch_size, img_channels, smallest_class, devices)
    given = given or {}
    # refuse invalid resolutions and batches first
    GrowthSchedule(start_resolution, resolution, batch_size=given.get(BATCH, batch_size))
    growth = choose_growth(start_resolution, resolution, batch_size, devices, given)
    values = {choice.setting.partition(".")[2]: choice.value for choice in growth}
    values["batch_size"] = times(values["batch_size"], devices)
    schedule = GrowthSchedule(start_resolution, resolution, **values)
    last = schedule.phases[-1]
    batch, last_kimg = last.batch_size, (last.end - last.start) / 1000
    others = [
        *([choose_gamma(resolution, batch)] if regularizer == "r1" else []),
        choose_ema(batch),
        *choose_augmentation(num_images, img_channels, conditional, loss, last_kimg, given),
        choose_ramp(conditional, smallest_class, loss, schedule),
        *choose_data(conditional),
        choose_evaluations(last_kimg),
    ]
    colour = "grey" if img_channels == 1 else "RGB"
    return Recipe(
        f"{num_images:,} {colour} images at {resolution}x{resolution} in batches of {batch}",
        (*growth, *(settle(choice, given) for choice in others)),
        schedule,
        (FEW_NOTE,) if num_images < FEW_IMAGES else (),
    )


def _check(images: int, batch: int, channels: int, smallest: int | None, devices: int) -> None:
    counts = {"images": images, "batch_size": batch, "devices": devices}
    counts |= {} if smallest is None else {"images of the smallest class": smallest}
    problems = [f"{name}: {n}, expected 1 or more" for name, n in counts.items() if n < 1]
    if channels not in (1, 3):
        problems.append(f"channels: {channels}, expected 1 (grey) or 3 (RGB)")
    if smallest is not None and smallest > images:
        problems.append(f"images of the smallest class: {smallest}, expected at most {images}")
    if problems:
        raise ProblemList("no recipe for these numbers", problems, "Correct them.")
