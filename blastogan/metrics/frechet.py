"""Fréchet distance between Gaussians, from streamed float64 moments.

Heusel et al., "GANs Trained by a Two Time-Scale Update Rule" (2017), section 3; Dowson and Landau
1982 for the closed form.
"""

from __future__ import annotations

import torch
from torch import Tensor

from blastogan.errors import UserError

_JACKKNIFE_GROUPS = 10


class Moments:
    """Mean and covariance of feature vectors, batch by batch; memory does not grow with N.

    Batches are merged as in Chan et al. 1979, which is exact and stable in any order.

    Attributes:
        count: Vectors seen.
        mean: float64 ``(D,)``.
        scatter: float64 ``(D, D)``, sum of the outer products of the deviations from the mean.
    """

    def __init__(self, dim: int) -> None:
        self.count = 0
        self.mean = torch.zeros(dim, dtype=torch.float64)
        self.scatter = torch.zeros(dim, dim, dtype=torch.float64)

    @classmethod
    def of(cls, features: Tensor) -> Moments:
        """Moments of features ``(N, D)``."""
        moments = cls(features.shape[1])
        moments.update(features)
        return moments

    def update(self, features: Tensor) -> None:
        """Add features ``(B, D)`` of any float type."""
        if not len(features):
            return
        values = features.to(device=self.mean.device, dtype=torch.float64)
        mean = values.mean(dim=0)
        deviations = values - mean
        self._add(len(values), mean, deviations.T @ deviations)

    def merge(self, other: Moments) -> Moments:
        """Moments of both sets together, as a new object."""
        merged = Moments(len(self.mean))
        for part in (self, other):
            if part.count:
                merged._add(part.count, part.mean, part.scatter)
        return merged

    def _add(self, count: int, mean: Tensor, scatter: Tensor) -> None:
        total = self.count + count
        shift = mean - self.mean
        self.scatter += scatter
        self.scatter.addr_(shift, shift, alpha=self.count * count / total)
        self.mean += shift * (count / total)
        self.count = total

    @property
    def covariance(self) -> Tensor:
        """Unbiased covariance, float64 ``(D, D)``; needs two vectors."""
        return self.scatter / (self.count - 1)


class FrechetReference:
    """A Gaussian that distances refer to; it keeps a square root of its covariance.

    The distance needs the trace of the root of a product of covariances. With a factor
    ``A = L @ L.T`` the root's eigenvalues are those of the symmetric ``L.T @ B @ L``: real, of the
    rank that the sets allow, and several times faster to find than those of ``A @ B``.

    Raises:
        UserError: If there are fewer than two vectors.
    """

    def __init__(self, moments: Moments) -> None:
        _check_count(moments)
        self.mean = moments.mean
        covariance = moments.covariance
        self.trace = float(covariance.trace())
        rank = min(len(moments.mean), moments.count - 1)
        values, vectors = torch.linalg.eigh(covariance)
        self.factor = vectors[:, -rank:] * values[-rank:].clamp_min(0).sqrt()  # (D, rank)

    def distance(self, moments: Moments) -> float:
        """Squared Fréchet distance to another Gaussian, which is what FID is; at least 0.

        Raises:
            UserError: If there are fewer than two vectors, or of another dimension.
        """
        _check_count(moments)
        if len(moments.mean) != len(self.mean):
            raise UserError(
                f"features of {len(self.mean)} and of {len(moments.mean)} dimensions cannot be "
                "compared: use one extractor for both sets"
            )
        covariance = moments.covariance
        inner = self.factor.T @ covariance @ self.factor
        # beyond the rank, rounding leaves small values whose roots would add up
        rank = min(len(inner), moments.count - 1)
        values = torch.linalg.eigvalsh((inner + inner.T) / 2)[-rank:]
        cross = float(values.clamp_min(0).sqrt().sum())
        shift = float((self.mean - moments.mean).square().sum())
        return max(shift + self.trace + float(covariance.trace()) - 2 * cross, 0.0)


def frechet_deviation(reference: FrechetReference, features: Tensor) -> float:
    """Standard deviation of the distance over draws of the fakes, by a grouped jackknife.

    Each of ten groups is left out once (Efron and Stein 1981). The bias that few images have is
    common to all of them and does not show here.

    Args:
        reference: The reals.
        features: Features of the fakes in random order, ``(N, D)``; NaN if N is less than 20.
    """
    groups = _JACKKNIFE_GROUPS
    if len(features) < 2 * groups:
        return float("nan")
    parts = [Moments.of(part) for part in features.tensor_split(groups)]
    distances = []
    for left_out in range(groups):
        rest = Moments(features.shape[1])
        for n, part in enumerate(parts):
            if n != left_out:
                rest._add(part.count, part.mean, part.scatter)
        distances.append(reference.distance(rest))
    values = torch.tensor(distances, dtype=torch.float64)
    return float(((groups - 1) / groups * (values - values.mean()).square().sum()).sqrt())


def _check_count(moments: Moments) -> None:
    if moments.count < 2:
        raise UserError(
            f"a Fréchet distance needs the covariance of two or more images: got {moments.count}"
        )
