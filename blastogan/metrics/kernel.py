"""Kernel distance (KID) of whole sets and of single classes.

Binkowski et al., "Demystifying MMD GANs" (2018), section 4: the squared maximum mean discrepancy
with the kernel ``(x . y / D + 1) ** 3``. Its estimate has no bias: it may be negative, and sets of
different sizes are comparable, which is why classes are measured by it.
"""

from __future__ import annotations

import torch
from torch import Tensor

MAX_IMAGES = 4000
"""Largest number of reals or fakes from which the error of a KID is estimated."""

_BLOCK = 1024


def subset_kid(
    real: Tensor, fake: Tensor, *, subset_size: int, subsets: int, seed: int
) -> tuple[float, float]:
    """KID as usually quoted: mean and standard deviation over random subsets (torch-fidelity).

    Features are float32 ``(N, D)`` and ``(M, D)``; `subset_size` is at most N and M.
    """
    from torch_fidelity import metric_kid

    found = metric_kid.kid_features_to_metric(
        fake.cpu(),
        real.cpu(),
        kid_subset_size=subset_size,
        kid_subsets=subsets,
        rng_seed=seed % 2**32,
        verbose=False,
    )
    return found[metric_kid.KEY_METRIC_KID_MEAN], found[metric_kid.KEY_METRIC_KID_STD]


def unbiased_kid(real: Tensor, fake: Tensor, embryos: Tensor | None = None) -> tuple[float, float]:
    """KID of whole sets with its standard error, also for sets too small for subsets.

    The error comes from the two-sample jackknife: each embryo and each fake is left out once.
    It is NaN with fewer than three embryos. Memory does not grow with the product of the sizes.

    Args:
        real: ``(N, D)``, N at least 3.
        fake: ``(M, D)``, M at least 3.
        embryos: Number of the embryo of each real, int64 ``(N,)``; ``None`` if each has its own.
    """
    # the estimate: mean kernel within each set, without pairs of an image with itself, and across
    n, m = len(real), len(fake)
    real, fake = real.double(), fake.double()
    units = torch.arange(n) if embryos is None else torch.unique(embryos, return_inverse=True)[1]
    within, across = _row_sums(real, real) - _own(real), _row_sums(real, fake)
    fakes, back = _row_sums(fake, fake) - _own(fake), _row_sums(fake, real)
    mean_r, mean_f = within.sum() / (n * (n - 1)), fakes.sum() / (m * (m - 1))
    value = mean_r + mean_f - 2 * across.sum() / (n * m)

    # the same with one embryo, or one fake, left out
    sizes, gone, pairs = (_per_unit(units, each) for each in (torch.ones(n), across, within))
    left = n - sizes
    without_r = (
        (within.sum() - 2 * pairs + _among(real, units)) / (left * (left - 1))
        + mean_f
        - 2 * (across.sum() - gone) / (left * m)
    )
    without_f = (
        mean_r
        + (fakes.sum() - 2 * fakes) / ((m - 1) * (m - 2))
        - 2 * (across.sum() - back) / (n * (m - 1))
    )
    if len(sizes) < 3:
        return float(value), float("nan")
    variance = sum(
        (len(w) - 1) / len(w) * (w - w.mean()).square().sum() for w in (without_r, without_f)
    )
    return float(value), float(torch.as_tensor(variance).sqrt())


def _per_unit(units: Tensor, values: Tensor) -> Tensor:
    """Sum of the values of each unit, float64."""
    sums = torch.zeros(int(units.max()) + 1, dtype=torch.float64)
    return sums.index_add_(0, units, values.double())


def _among(features: Tensor, units: Tensor) -> Tensor:
    """Sum of the kernel over pairs of different images of each unit."""
    sums = torch.zeros(int(units.max()) + 1, dtype=torch.float64)
    for unit in units.bincount().gt(1).nonzero().flatten().tolist():
        members = features[units == unit]
        sums[unit] = polynomial_kernel(members, members).sum() - _own(members).sum()
    return sums


def _row_sums(first: Tensor, second: Tensor) -> Tensor:
    parts = torch.split(first, _BLOCK)
    return torch.cat([polynomial_kernel(part, second).sum(dim=1) for part in parts])


def _own(features: Tensor) -> Tensor:
    """The kernel of each vector with itself."""
    return (features.square().sum(dim=1) / features.shape[1] + 1) ** 3


def polynomial_kernel(first: Tensor, second: Tensor) -> Tensor:
    """The kernel between all pairs of ``(N, D)`` and ``(M, D)``."""
    inner = (first @ second.T).div_(first.shape[1]).add_(1)
    return inner * inner * inner
