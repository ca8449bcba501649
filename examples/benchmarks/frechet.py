"""Fréchet distance of 2,048-dimensional Gaussians, against torch-fidelity's on the same machine.

    python examples/benchmarks/frechet.py [--dim 2048] [--count 3000] [--repeats 3]

Our first call factorises the covariance of the real features; later calls reuse the factor, as the
evaluations of a run do. Prints seconds, their ratio, and the relative difference of the values.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from blastogan.metrics.frechet import FrechetReference, Moments


def features(count: int, dim: int, seed: int) -> torch.Tensor:
    """Features with a spectrum that decays like that of a network."""
    generator = torch.Generator().manual_seed(seed)
    scales = torch.arange(1, dim + 1, dtype=torch.float64) ** -0.5
    mixing, _ = torch.linalg.qr(
        torch.randn(dim, dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    )
    drawn = torch.randn(count, dim, generator=generator, dtype=torch.float64) * scales
    return drawn @ mixing + 0.01 * seed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    real, fake = (features(options.count, options.dim, seed) for seed in (0, 1))
    sides = [Moments.of(side) for side in (real, fake)]
    statistics = [fid_features_to_statistics(side) for side in (fake, real)]

    began = time.perf_counter()
    reference = FrechetReference(sides[0])
    ours = reference.distance(sides[1])
    print(f"ours, first call        {time.perf_counter() - began:7.2f} s")
    best = {"ours": float("inf"), "theirs": float("inf")}
    for _ in range(options.repeats):
        began = time.perf_counter()
        ours = reference.distance(sides[1])
        best["ours"] = min(best["ours"], time.perf_counter() - began)
        began = time.perf_counter()
        theirs = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
        best["theirs"] = min(best["theirs"], time.perf_counter() - began)
    print(f"ours, from the second   {best['ours']:7.2f} s")
    print(f"torch-fidelity          {best['theirs']:7.2f} s")
    print(f"ratio                   {best['theirs'] / best['ours']:7.1f}")
    print(f"values                  {ours:.9g} and {theirs:.9g}")
    print(f"relative difference     {abs(ours - theirs) / theirs:.1e}")


if __name__ == "__main__":
    main()
