"""Settings that follow from the number of images, their size and the batch, each with its reason.

How each is chosen, and the constants of it, stand in `blastogan.recipe.rules`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any

from blastogan.errors import ProblemList
from blastogan.growth import GrowthSchedule
from blastogan.recipe.rules import (
    BATCH,
    SYMMETRIES,
    Choice,
    choose_augmentation,
    choose_balance,
    choose_ema,
    choose_evaluations,
    choose_gamma,
    choose_growth,
    choose_ramp,
    notes,
    settle,
    times,
)


@dataclass(frozen=True)
class Recipe:
    """What was chosen for a set of images; see `make_recipe`.

    Attributes:
        subject: What it was chosen for, in words.
        choices: In the order in which they are told.
        schedule: What the choices of growth come to.
        notes: What to mind, a sentence each; often empty.
    """

    subject: str
    choices: tuple[Choice, ...]
    schedule: GrowthSchedule
    notes: tuple[str, ...] = ()

    @cached_property
    def values(self) -> dict[str, Any]:
        """Value of each setting, by its whole name."""
        return {choice.setting: choice.value for choice in self.choices}

    @cached_property
    def reasons(self) -> dict[str, str]:
        """Why each value was chosen, by the setting's whole name."""
        return {choice.setting: choice.why for choice in self.choices}

    def settings(self) -> dict[str, Any]:
        """Values as a configuration of ``blastogan fit`` nests them."""
        nested: dict[str, Any] = {}
        for setting, value in self.values.items():
            *groups, name = setting.split(".")
            group = nested
            for each in groups:
                group = group.setdefault(each, {})
            group[name] = value
        return nested

    def to_yaml(self) -> str:
        """A configuration for ``blastogan fit --config``, with the reasons as comments."""
        notes = "".join(f"# note: {note}\n" for note in self.notes)
        return f"# recipe for {self.subject}\n{write_yaml(self.choices)}{notes}"

    def describe(self) -> str:
        """A table of setting, value and reason, then the notes: for logs and consoles."""
        rows = [
            (choice.setting, in_yaml(choice.value), "yours" if choice.by_hand else choice.why)
            for choice in self.choices
        ]
        width = max(len(setting) for setting, _, _ in rows)
        # mappings are long, and are not to push all reasons to the right
        room = max((len(value) for _, value, _ in rows if len(value) <= 20), default=0)
        lines = [f"recipe for {self.subject}"]
        lines += [f"  {setting:<{width}}  {value:<{room}}  {why}" for setting, value, why in rows]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


def write_yaml(choices: Sequence[Choice]) -> str:
    """Settings as nested YAML; those of a group follow one another."""
    lines: list[str] = []
    opened: list[str] = []
    for choice in choices:
        *groups, name = choice.setting.split(".")
        for depth, group in enumerate(groups):
            if opened[: depth + 1] != groups[: depth + 1]:
                lines.append(f"{'  ' * depth}{group}:")
                opened = groups[: depth + 1]
        indent = "  " * len(groups)
        lines += [f"{indent}# {choice.why}", f"{indent}{name}: {in_yaml(choice.value)}"]
    return "\n".join(lines) + "\n"


def in_yaml(value: Any) -> str:
    """A value as YAML on one line, integers where they are whole."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {in_yaml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(in_yaml, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float) and math.isfinite(value):
        # YAML takes 1e-05 for text
        return str(int(value)) if value == int(value) else f"{Decimal(repr(value)):f}"
    if isinstance(value, str) and not re.fullmatch(r"[A-Za-z][\w.-]*", value):
        return json.dumps(value)
    return str(value)


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
        conditional: Whether the model is told grades, and there are at least two of them.
        smallest_class: Images of the smallest class; ``None`` if that is not known.
        start_resolution: First resolution in pixels.
        loss: Of the model.
        regularizer: Of the model; without R1 there is no weight of it.
        devices: By which the batches are multiplied later, as ``scale_batch`` does.
        given: Values by whole name that are chosen already, by hand; the others follow from them.

    Raises:
        ProblemList: If a number cannot be; all are listed.
        UserError: If resolutions, or what is given by hand, cannot be.
    """
    _check(num_images, batch_size, img_channels, smallest_class, devices)
    given = given or {}
    # refuses resolutions and batches that cannot be, before they are reckoned with
    GrowthSchedule(start_resolution, resolution, batch_size=given.get(BATCH, batch_size))
    growth = choose_growth(start_resolution, resolution, batch_size, devices, given)
    values = {choice.setting.partition(".")[2]: choice.value for choice in growth}
    values["batch_size"] = times(values["batch_size"], devices)
    schedule = GrowthSchedule(start_resolution, resolution, **values)
    batch = schedule.phases[-1].batch_size
    others = [
        *([choose_gamma(resolution, batch)] if regularizer == "r1" else []),
        choose_ema(batch),
        *choose_augmentation(num_images, img_channels, conditional, loss, schedule, given),
        choose_ramp(conditional, smallest_class, loss, schedule),
        Choice(
            "data.augment",
            SYMMETRIES,
            "an embryo has no canonical orientation: each image stands for eight, turned and "
            "mirrored (our choice)",
        ),
        choose_balance(conditional),
        choose_evaluations(schedule),
    ]
    colour = "grey" if img_channels == 1 else "RGB"
    return Recipe(
        f"{num_images:,} {colour} images at {resolution}x{resolution} in batches of {batch}",
        (*growth, *(settle(choice, given) for choice in others)),
        schedule,
        notes(num_images),
    )


def _check(
    num_images: int, batch_size: int, img_channels: int, smallest_class: int | None, devices: int
) -> None:
    numbers = {"images": num_images, "batch_size": batch_size, "devices": devices}
    if smallest_class is not None:
        numbers["images of the smallest class"] = smallest_class
    problems = [f"{name}: {n}, expected 1 or more" for name, n in numbers.items() if n < 1]
    if img_channels not in (1, 3):
        problems.append(f"channels: {img_channels}, expected 1 (grey) or 3 (RGB)")
    if smallest_class is not None and smallest_class > num_images:
        problems.append(
            f"images of the smallest class: {smallest_class}, expected at most the {num_images} of "
            "all classes"
        )
    if problems:
        raise ProblemList("there is no recipe for this", problems, "Correct these numbers.")
