"""Whether augmentations have leaked: samples that lie, or are lit, as no real image is.

A discriminator that is shown turned, shifted or darkened reals may teach the generator to make such
images (Karras et al. 2020, "Training generative adversarial networks with limited data", sections
2.2 and 3.1). Where reals have a usual position, a Gaussian of coarse grey images knows it, and an
image that is far more likely after a turn or a shift than as it is was probably made so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d

from blastogan.errors import UserError

GRID = 16
"""Side of the grey images that are compared; smaller images are not looked at."""

SHIFT = 2
"""Shift in cells of the grid: an eighth of the side, the largest of a whole number of pixels in
adaptive augmentation (Karras et al. 2020, appendix B)."""

EVIDENCE = 5.0
"""Natural logarithm of the likelihood ratio from which an image counts as turned or shifted. Poor
samples, which lie in no way in particular, do not reach it."""

TYPICAL = 0.95
"""Share of reals within the distance that a turned or shifted image has to have once it is put
right; what looks like no real either way says nothing."""

DARKEST = 0.05
"""Share of reals below the mean grey under which an image is dark."""

CHANCE = 3.0
"""Standard errors by which a difference of shares has to exceed 0."""

FEWEST_REALS = 16
"""Images to a half of the reals, with fewer of which there is no model."""

KINDS = ("turned", "shifted", "dark")
"""What is counted, in this order."""


def to_grid(images: Tensor) -> Tensor:
    """Grey means of the cells of a grid, float32 ``(N, 1, GRID, GRID)``.

    Args:
        images: Floats in [-1, 1], ``(N, C, R, R)``.

    Raises:
        UserError: If R is below `GRID`.
    """
    if images.shape[-1] < GRID:
        raise UserError(
            f"images of {images.shape[-1]} pixels are too small to look for leaks: expected {GRID} "
            "or more"
        )
    return adaptive_avg_pool2d(images.float().mean(dim=1, keepdim=True), GRID)


def leaks(reals: Tensor, fakes: Tensor, groups: Sequence[object] | None = None) -> dict[str, float]:
    """`LeakDetector` for one use.

    Args:
        reals: Floats in [-1, 1], ``(N, C, R, R)``, R at least `GRID`.
        fakes: Likewise ``(M, C, S, S)``.
        groups: Embryo of each real.

    Returns:
        As `LeakDetector.compare`.
    """
    return LeakDetector(to_grid(reals), groups).compare(to_grid(fakes))


class LeakDetector:
    """Counts turned, shifted and dark images among fakes and among reals.

    A Gaussian with shrunk covariance describes the central windows of the reals' grids, contrast
    and mean set equal. An image is

    - *turned* if it is more likely under the seven other symmetries of the square, on average,
      than as it is,
    - *shifted* if that holds for the windows an eighth of the side away in eight directions, more
      than for the symmetries,
    - *dark* if its mean grey lies below the lowest 5 % of the reals.

    The first two need a likelihood ratio of ``exp(EVIDENCE)``, and that the image, put right, lies
    as near as 95 % of the reals do. Reals are judged by a model of the other half of the reals, of
    other embryos; fakes by both halves, of whose verdicts the mean is taken.

    What this does not see: turns and mirrorings that the reals have too, such as by dihedral
    augmentation, whose law should be applied to the reals beforehand (both shares are alike then,
    and nothing can leak); turns by other angles than 90 degrees, scaling, and shifts of less than
    about a sixteenth of the side; changes of contrast, hue or texture. A share is no cause: a
    generator that places or lights embryos badly by itself is counted too, and blurs without a
    direction may count as shifted.

    Args:
        reals: float ``(N, 1, GRID, GRID)`` of `to_grid`.
        groups: Embryo of each real, kept within one half; ``None`` if each has its own.

    Raises:
        UserError: If there are too few reals for two halves.
    """

    def __init__(self, reals: Tensor, groups: Sequence[object] | None = None) -> None:
        names = list(range(len(reals))) if groups is None else list(groups)
        rank = {name: n for n, name in enumerate(dict.fromkeys(names))}
        odd = torch.tensor([rank[name] % 2 == 1 for name in names], dtype=torch.bool)
        halves = reals[~odd], reals[odd]
        if min(map(len, halves)) < FEWEST_REALS:
            raise UserError(
                f"{len(reals)} images of {len(rank)} embryos are too few to look for leaks: "
                f"expected {2 * FEWEST_REALS} or more that divide into halves of different embryos"
            )
        models = [_Gaussian.of(_window(half)) for half in halves]
        self._judges = [
            _Judge.of(model, others) for model, others in zip(models, reversed(halves), strict=True)
        ]
        shares = [
            judge.shares(others)
            for judge, others in zip(self._judges, reversed(halves), strict=True)
        ]
        self._embryos = len(rank)
        self._of_reals = torch.stack(shares).mean(dim=0)

    def compare(self, fakes: Tensor) -> dict[str, float]:
        """Shares among reals and fakes, and how far they differ beyond chance.

        Args:
            fakes: float ``(M, 1, GRID, GRID)`` of `to_grid`.

        Returns:
            ``turned_real``, ``turned_generated``, ``shifted_real``, ``shifted_generated``,
            ``dark_real`` and ``dark_generated``, each 0 to 1; and ``leak``, the largest excess of a
            share among fakes less `CHANCE` standard errors: above 0 it is no chance, and -1 to 1.
            Embryos count as one draw each in the error.
        """
        of_fakes = torch.stack([judge.shares(fakes) for judge in self._judges]).mean(dim=0)
        excess: list[float] = []
        row: dict[str, float] = {}
        pairs = zip(KINDS, self._of_reals.tolist(), of_fakes.tolist(), strict=True)
        for kind, real, generated in pairs:
            row |= {f"{kind}_real": real, f"{kind}_generated": generated}
            error = math.sqrt(_variance(real, self._embryos) + _variance(generated, len(fakes)))
            excess.append(generated - real - CHANCE * error)
        return {**row, "leak": max(excess)}


def _variance(share: float, count: int) -> float:
    """Of a share; a count more on either side keeps it from being 0 (Agresti and Coull 1998)."""
    smoothed = (share * count + 1) / (count + 2)
    return smoothed * (1 - smoothed) / (count + 2)


@dataclass
class _Gaussian:
    """Law of windows.

    Attributes:
        mean: float64 ``(D,)``.
        precision: float64 ``(D, D)``.
    """

    mean: Tensor
    precision: Tensor

    @classmethod
    def of(cls, windows: Tensor) -> _Gaussian:
        """With the oracle approximating shrinkage of Chen et al. 2010 (IEEE TSP 58, eq. 23)."""
        values = _features(windows)
        count, size = values.shape
        mean = values.mean(dim=0)
        covariance = (values - mean).T @ (values - mean) / count
        trace = float(covariance.trace())
        squares = float(covariance.square().sum())
        top = (1 - 2 / size) * squares + trace**2
        bottom = (count + 1 - 2 / size) * (squares - trace**2 / size)
        share = min(1.0, top / bottom) if bottom > 0 else 1.0
        # the summand keeps equal images from having no covariance at all
        ridge = share * trace / size + 1e-6
        shrunk = (1 - share) * covariance + ridge * torch.eye(size, dtype=values.dtype)
        return cls(mean, torch.linalg.inv(shrunk))

    def distances(self, windows: Tensor) -> Tensor:
        """Squared Mahalanobis distances ``(N,)``."""
        values = _features(windows) - self.mean
        return ((values @ self.precision) * values).sum(dim=1)


@dataclass
class _Judge:
    """A model of one half of the reals, with bounds from the other half.

    Attributes:
        model: Of the windows.
        typical: Distance within which most reals lie.
        darkest: Mean grey below which few reals lie.
    """

    model: _Gaussian
    typical: float
    darkest: float

    @classmethod
    def of(cls, model: _Gaussian, others: Tensor) -> _Judge:
        typical = torch.quantile(model.distances(_window(others)), TYPICAL)
        darkest = torch.quantile(_grey(others), DARKEST)
        return cls(model, float(typical), float(darkest))

    def shares(self, grids: Tensor) -> Tensor:
        """Shares of `KINDS`, float64 ``(3,)``."""
        in_place = self.model.distances(_window(grids))
        turned, as_turned = self._evidence(_turned(_window(grids)), in_place)
        shifted, as_shifted = self._evidence(_shifted(grids), in_place)
        of_turn = (turned > EVIDENCE) & (turned >= shifted) & (as_turned <= self.typical)
        of_shift = (shifted > EVIDENCE) & (shifted > turned) & (as_shifted <= self.typical)
        dark = _grey(grids) < self.darkest
        return torch.stack([kind.double().mean() for kind in (of_turn, of_shift, dark)])

    def _evidence(self, moved: list[Tensor], in_place: Tensor) -> tuple[Tensor, Tensor]:
        """Log of mean likelihood of the moved over that in place; the least distance of them."""
        distances = torch.stack([self.model.distances(windows) for windows in moved])
        mean = torch.logsumexp(-distances / 2, dim=0) - math.log(len(moved))
        return mean + in_place / 2, distances.amin(dim=0)


def _grey(grids: Tensor) -> Tensor:
    return grids.double().mean(dim=(1, 2, 3))


def _window(grids: Tensor, down: int = 0, right: int = 0) -> Tensor:
    """The part of a grid that is in view after a shift too, at half the resolution."""
    rows, columns = (slice(SHIFT + by, GRID - SHIFT + by) for by in (down, right))
    # averaged, since fine detail is where samples differ from reals in other ways
    return avg_pool2d(grids[..., rows, columns], 2)


def _turned(windows: Tensor) -> list[Tensor]:
    """The seven other symmetries, which are also those that undo them."""
    mirrored = windows.flip(-1)
    turns = [of.rot90(n, (-2, -1)) for of in (windows, mirrored) for n in range(4)]
    return turns[1:]


def _shifted(grids: Tensor) -> list[Tensor]:
    steps = (-SHIFT, 0, SHIFT)
    return [_window(grids, y, x) for y in steps for x in steps if (y, x) != (0, 0)]


def _features(windows: Tensor) -> Tensor:
    """Values of windows with mean 0 and deviation 1, such that light and contrast do not count."""
    values = windows.flatten(1).double()
    values = values - values.mean(dim=1, keepdim=True)
    return values / values.std(dim=1, keepdim=True).clamp_min(1e-6)
