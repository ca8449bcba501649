"""Latents and labels of the images to generate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

import torch
from torch import Tensor

from blastogan.errors import UserError
from blastogan.grades import (
    CLASSES,
    LABEL_SIZES,
    LETTERS,
    Grade,
    classes_of,
    distribution_within,
)
from blastogan.networks.conditioning import flat_labels, soft_labels
from blastogan.utils.seeding import derive_seed

_RARE = 1e-6
"""Images that every class counts as having: all are equal where none has been seen."""


class PredictionBatch(TypedDict):
    """Samples to generate: labels int64 ``(B, 2)``, numbers ``(B,)``, and one seed ``(B,)``."""

    labels: Tensor
    index: Tensor
    seed: Tensor


def numbered_latents(
    indices: Sequence[int], seed: int, latent_dim: int
) -> tuple[Tensor, list[torch.Generator]]:
    """Latent of each numbered sample, and a generator for its other draws.

    Sample n of a seed is the same in every batch, on every device and for every number of samples;
    the global random state is not used.

    Returns:
        z ``(B, latent_dim)``, standard normal, and B generators, on the CPU.
    """
    generators = [torch.Generator().manual_seed(derive_seed(seed, n)) for n in indices]
    z = torch.stack([torch.randn(latent_dim, generator=each) for each in generators])
    return z, generators


def grade_labels(
    count: int,
    grade: str | Grade | Sequence[str | Grade] | None,
    seed: int,
    class_weights: Mapping[str, float],
) -> Tensor:
    """Labels int64 ``(count, 2)`` of the grades to generate.

    Args:
        count: Number of images.
        grade: One grade for all, one per image, a letter such as ``Ax`` or ``xB`` to draw from the
            classes that have it, or ``None`` to draw from all classes.
        seed: Seed of the draw.
        class_weights: Class distribution of the draw, not necessarily normalised.

    Raises:
        UserError: If the number of grades is not `count`, or a grade is unknown.
    """
    if grade is None:
        grades = _drawn_grades(count, class_weights, seed)
    elif isinstance(grade, str):
        grades = _drawn_grades(count, distribution_within(classes_of(grade), class_weights), seed)
    elif isinstance(grade, Grade):
        grades = [grade] * count
    else:
        grades = [_as_grade(each) for each in grade]
    if len(grades) != count:
        raise UserError(f"{len(grades)} grades for {count} images: give one, or one per image")
    return torch.tensor([each.labels for each in grades])


def _drawn_grades(count: int, weights: Mapping[str, float], seed: int) -> list[Grade]:
    generator = torch.Generator().manual_seed(derive_seed(seed, "grades"))
    distribution = torch.tensor(list(weights.values()), dtype=torch.float64)
    drawn = torch.multinomial(distribution, count, replacement=True, generator=generator)
    grades = [Grade.parse(name) for name in weights]
    return [grades[n] for n in drawn.tolist()]


def labels_between(start: str | Grade, end: str | Grade, steps: int) -> Tensor:
    """Soft labels ``(steps, 16)`` from one grade to another, both included; see `soft_labels`.

    Raises:
        UserError: If there are fewer than two steps, or a grade is unknown.
    """
    if steps < 2:
        raise UserError(f"steps is {steps}: expected 2 or more, including both grades")
    ends = torch.tensor([_as_grade(each).labels for each in (start, end)])
    first, last = soft_labels(ends, LABEL_SIZES)
    weight = torch.linspace(0.0, 1.0, steps)[:, None]
    between: Tensor = first * (1.0 - weight) + last * weight
    return between


def count_grades(labels: Tensor) -> Tensor:
    """Number of each pair of known letters, int64 ``(4, 4)``, in labels ``(B, 2)``."""
    flat = flat_labels(labels.clamp(min=0), LABEL_SIZES)
    counts = torch.zeros(LABEL_SIZES, dtype=torch.int64, device=labels.device)
    counts.view(-1).index_add_(0, flat, (labels >= 0).all(dim=1).long())
    return counts


def complete_labels(labels: Tensor, counts: Tensor, uniform: Tensor) -> Tensor:
    """Draw the unknown letters of labels from the classes that have the known ones.

    Nothing waits for the device.

    Args:
        labels: int64 ``(B, 2)``, -1 for an unknown letter.
        counts: ``(4, 4)``, images by ICM and TE letter: the distribution of the draw; equal for
            all classes where there are none.
        uniform: Uniform on [0, 1), ``(B,)``.

    Returns:
        int64 ``(B, 2)`` without unknown letters; known ones are unchanged.
    """
    classes = torch.tensor([Grade.parse(name).labels for name in CLASSES], device=labels.device)
    weights = counts[classes[:, 0], classes[:, 1]].double() + _RARE
    fits = (labels[:, None] == classes) | (labels[:, None] < 0)
    edges = (weights * fits.all(dim=2)).cumsum(dim=1)
    drawn = uniform.double()[:, None] * edges[:, -1:]
    # to the right, past classes of weight 0
    place = torch.searchsorted(edges, drawn, right=True)[:, 0].clamp(max=len(classes) - 1)
    return torch.where(labels < 0, classes[place], labels)


def balanced_labels(counts: Tensor, uniform: Tensor) -> Tensor:
    """Labels int64 ``(B, 2)`` drawn uniformly from those seen, without waiting for the device.

    Args:
        counts: int64 ``(4, 4)``, images by ICM and TE letter.
        uniform: Uniform on [0, 1), ``(B,)``.
    """
    number = (counts.view(-1) > 0).cumsum(0)
    drawn = (uniform * number[-1]).floor().long() + 1
    flat = torch.searchsorted(number, drawn)
    return torch.stack([flat // len(LETTERS), flat % len(LETTERS)], dim=1)


def _as_grade(grade: str | Grade) -> Grade:
    return grade if isinstance(grade, Grade) else Grade.parse(grade)
