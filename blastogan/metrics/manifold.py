"""Precision and recall, density and coverage: overlap of the sets in feature space."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_MAX_AT_ONCE = 10_000
_BLOCK = 2048


Estimates = tuple[tuple[float, float], tuple[float, float]]
"""Two values, each with its standard error over images."""


def precision_recall(real: Tensor, fake: Tensor, *, neighbours: int = 3) -> Estimates:
    """Fraction of fakes among reals, and of reals among fakes (torch-fidelity).

    Kynkaanniemi et al., "Improved Precision and Recall" (2019): an image lies among a set if it
    is nearer to some image of the set than that image's k-th neighbour within the set.
    Features are float32 ``(N, D)`` and ``(M, D)``, N and M more than k.
    """
    from torch_fidelity import metric_prc

    # all distances of large sets at once take gigabytes
    large = max(len(real), len(fake)) > _MAX_AT_ONCE
    found = metric_prc.prc_features_to_metric(
        fake,
        real,
        prc_neighborhood=neighbours,
        save_cpu_ram=large,
        prc_batch_size=_BLOCK if large else _MAX_AT_ONCE,
        verbose=False,
    )
    precision, recall = found[metric_prc.KEY_METRIC_PRECISION], found[metric_prc.KEY_METRIC_RECALL]
    return (
        (precision, math.sqrt(precision * (1 - precision) / len(fake))),
        (recall, math.sqrt(recall * (1 - recall) / len(real))),
    )


def density_coverage(real: Tensor, fake: Tensor, *, neighbours: int = 5) -> Estimates:
    """Density of fakes among reals, and fraction of reals that have a fake near (coverage).

    Naeem et al., "Reliable Fidelity and Diversity Metrics" (2020), section 3. Balls are
    drawn around the reals alone, so that outliers among the fakes cannot inflate them. For large
    sets of one distribution and size, density is 1 and coverage ``1 - 2 ** -k`` (appendix).
    Features are float32 ``(N, D)`` and ``(M, D)``, N more than k.
    """
    # the nearest image is the image itself
    distances_within = (torch.cdist(part, real) for part in torch.split(real, _BLOCK))
    radii = torch.cat([each.kthvalue(neighbours + 1).values for each in distances_within])
    balls, nearest = [], real.new_full((len(real),), torch.inf)
    for part in torch.split(fake, _BLOCK):
        distances = torch.cdist(part, real)  # (B, N)
        balls.append((distances < radii).sum(dim=1).double() / neighbours)
        nearest = torch.minimum(nearest, distances.amin(dim=0))
    return _mean(torch.cat(balls)), _mean((nearest < radii).double())


def _mean(values: Tensor) -> tuple[float, float]:
    return float(values.mean()), float(values.std() / len(values) ** 0.5)
