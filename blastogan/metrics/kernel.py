"""Kernel distance (KID) of whole sets and of single classes.

Binkowski et al., "Demystifying MMD GANs" (2018), section 4: the squared maximum mean discrepancy
with the kernel ``(x . y / D + 1) ** 3``. Its estimate has no bias: it may be negative, and sets of
different sizes are comparable, which is why classes are measured by it.
"""

from __future__ import annotations

import torch
from torch import Tensor

MOST = 4000
"""Images of a side on which the error of a KID is estimated, at most."""

_BLOCK = 1024


def subset_kid(
    real: Tensor, fake: Tensor, *, subset_size: int, subsets: int, seed: int
) -> tuple[float, float]:
    """KID as people quote it: mean and standard deviation over random subsets, by torch-fidelity.

    Args:
        real: float32 ``(N, D)``.
        fake: float32 ``(M, D)``.
        subset_size: Images of each side in a subset, at most N and M.
        subsets: Number of subsets.
        seed: Seed of the subsets.
    """
    from torch_fidelity.metric_kid import (
        KEY_METRIC_KID_MEAN,
        KEY_METRIC_KID_STD,
        kid_features_to_metric,
    )

    found = kid_features_to_metric(
        fake.cpu(),
        real.cpu(),
        kid_subset_size=subset_size,
        kid_subsets=subsets,
        rng_seed=seed % 2**32,
        verbose=False,
    )
    return found[KEY_METRIC_KID_MEAN], found[KEY_METRIC_KID_STD]


def unbiased_kid(real: Tensor, fake: Tensor) -> tuple[float, float]:
    """KID of whole sets with its standard error, also of sets too small for subsets.

    The error is the two-sample jackknife's: each image is left out once. Memory does not grow
    with the product of the sizes.

    Args:
        real: ``(N, D)``, N at least 3.
        fake: ``(M, D)``, M at least 3.
    """
    n, m = len(real), len(fake)
    real, fake = real.double(), fake.double()
    rows_r, rows_f = (_row_sums(side, side) - _own(side) for side in (real, fake))
    across_r, across_f = _row_sums(real, fake), _row_sums(fake, real)
    within_r, within_f, across = rows_r.sum(), rows_f.sum(), across_r.sum()
    mean_r, mean_f = within_r / (n * (n - 1)), within_f / (m * (m - 1))
    value = mean_r + mean_f - 2 * across / (n * m)
    without_r = (
        (within_r - 2 * rows_r) / ((n - 1) * (n - 2))
        + mean_f
        - 2 * (across - across_r) / ((n - 1) * m)
    )
    without_f = (
        mean_r
        + (within_f - 2 * rows_f) / ((m - 1) * (m - 2))
        - 2 * (across - across_f) / (n * (m - 1))
    )
    variance = sum(
        (len(w) - 1) / len(w) * (w - w.mean()).square().sum() for w in (without_r, without_f)
    )
    return float(value), float(torch.as_tensor(variance).sqrt())


def _row_sums(first: Tensor, second: Tensor) -> Tensor:
    sums = first.new_empty(len(first))
    for start in range(0, len(first), _BLOCK):
        part = slice(start, start + _BLOCK)
        sums[part] = polynomial_kernel(first[part], second).sum(dim=1)
    return sums


def _own(side: Tensor) -> Tensor:
    """The kernel of each vector with itself."""
    return (side.square().sum(dim=1) / side.shape[1] + 1) ** 3


def polynomial_kernel(first: Tensor, second: Tensor) -> Tensor:
    """The kernel between all pairs of ``(N, D)`` and ``(M, D)``."""
    inner = (first @ second.T).div_(first.shape[1]).add_(1)
    return inner * inner * inner
