"""KID of each class and of each letter, which has no bias where images are few."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from blastogan.grades import CLASSES, LETTERS, Grade
from blastogan.metrics.kernel import MOST, unbiased_kid
from blastogan.metrics.statistics import SetStatistics


def kid_by_class(
    real: SetStatistics, fake: SetStatistics, fewest: int
) -> dict[str, dict[str, float | None]]:
    """Unbiased KID with a 95 % interval, by class, then by letter (``ICM A``, ``TE B``).

    FID of so few images would measure their number. The interval is the jackknife's over embryos
    and fakes, normal.

    Args:
        real: With features and labels.
        fake: With features and labels.
        fewest: Images of both sides from which on a KID is given.

    Returns:
        ``n_real``, ``n_fake``, ``kid``, ``low``, ``high`` of each class that has an image; the
        last three ``None`` where there are fewer than `fewest`, or fewer than three embryos. The
        numbers are those of the images looked at, at most `MOST` of a side: more would cost
        minutes and tell no more.
    """
    assert real.features is not None
    assert fake.features is not None
    rows: dict[str, dict[str, float | None]] = {}
    embryos = _embryos(real)
    for name, letters in _parts().items():
        reals, fakes = (_some(side, letters) for side in (real, fake))
        if not len(reals) and not len(fakes):
            continue
        row: dict[str, float | None] = {"n_real": len(reals), "n_fake": len(fakes)}
        row |= {"kid": None, "low": None, "high": None}
        if min(len(reals), len(fakes)) >= fewest:
            value, error = unbiased_kid(
                real.features[reals],
                fake.features[fakes],
                None if embryos is None else embryos[reals],
            )
            if not math.isnan(error):
                row |= {"kid": value, "low": value - 1.96 * error, "high": value + 1.96 * error}
        rows[name] = row
    return rows


def _embryos(side: SetStatistics) -> Tensor | None:
    """Number of the embryo of each image, where embryos are known."""
    if side.groups is None:
        return None
    numbers = {name: n for n, name in enumerate(dict.fromkeys(side.groups))}
    return torch.tensor([numbers[name] for name in side.groups])


def _some(side: SetStatistics, letters: tuple[int | None, int | None]) -> Tensor:
    """Positions of random members of a class, at most `MOST`."""
    found = _members(side, letters).nonzero().squeeze(1)
    generator = torch.Generator().manual_seed(0)
    return found[torch.randperm(len(found), generator=generator)[:MOST]]


def _members(side: SetStatistics, letters: tuple[int | None, int | None]) -> Tensor:
    assert side.labels is not None
    chosen = torch.ones(side.count, dtype=torch.bool)
    for column, letter in enumerate(letters):
        if letter is not None:
            chosen &= side.labels[:, column] == letter
    return chosen


def _parts() -> dict[str, tuple[int | None, int | None]]:
    """ICM and TE letter of each class, then of each letter alone."""
    classes = {name: Grade.parse(name).labels for name in CLASSES}
    icm = {f"ICM {letter}": (n, None) for n, letter in enumerate(LETTERS)}
    te = {f"TE {letter}": (None, n) for n, letter in enumerate(LETTERS)}
    return {**classes, **icm, **te}
