"""How much of a phantom's grade do its grey levels reveal? `python phantom_shortcuts.py`.

A linear classifier (multinomial logistic regression) is trained on the mean, variance and histogram
of the grey levels of phantoms, and tested on those of other embryos. What it gets right needs no
knowledge of the embryo's shape. Guessing gets a quarter of the four letters, averaged over letters.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from blastogan.grades import LETTERS
from blastogan.phantoms import PhantomDataset
from blastogan.phantoms.dataset import render_phantoms

BINS = 32


def grey_statistics(images: Tensor) -> Tensor:
    """Mean, variance and histogram of uint8 (N, 1, R, R), standardised later: (N, 2 + BINS)."""
    flat = images.flatten(1).float() / 255
    histograms = np.stack([np.histogram(row, BINS, (0, 1))[0] for row in flat.numpy()])
    shares = torch.from_numpy(histograms).float() / flat.shape[1]
    return torch.cat([flat.mean(1, keepdim=True), flat.var(1, keepdim=True), shares], dim=1)


def balanced_accuracy(predicted: Tensor, truth: Tensor) -> float:
    """Mean over letters of the share recognised."""
    return float(
        np.mean([(predicted[truth == k] == k).float().mean() for k in truth.unique().tolist()])
    )


def fit(features: Tensor, labels: Tensor, penalty: float = 1e-4) -> torch.nn.Linear:
    """Logistic regression by L-BFGS from zero, with equal weight for every letter."""
    model = torch.nn.Linear(features.shape[1], len(LETTERS))
    torch.nn.init.zeros_(model.weight)
    torch.nn.init.zeros_(model.bias)
    weights = len(labels) / torch.bincount(labels, minlength=len(LETTERS)).clamp(min=1)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=500, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(model(features), labels, weights) + penalty * (
            model.weight.square().sum()
        )
        value.backward()
        return value

    optimizer.step(loss)
    return model


def main() -> None:
    """Print a row for ICM and one for TE."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3000, help="phantoms to train on")
    parser.add_argument("--held-out", type=int, default=1000, help="phantoms to test on")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--style", default="hoffman")
    options = parser.parse_args()
    sets = []
    for seed, count in ((0, options.count), (1, options.held_out)):
        phantoms = PhantomDataset(
            count, "balanced", seed, resolution=options.resolution, style=options.style
        )
        images = render_phantoms(phantoms, channels=1, num_workers=2)
        labels = torch.tensor([phantoms.grade(n).labels for n in range(count)])
        sets.append((grey_statistics(images), labels))
    (train, train_labels), (test, test_labels) = sets
    mean, spread = train.mean(0), train.std(0).clamp(min=1e-6)
    train, test = (train - mean) / spread, (test - mean) / spread
    for head, name in enumerate(("ICM", "TE")):
        model = fit(train, train_labels[:, head])
        with torch.no_grad():
            score = balanced_accuracy(model(test).argmax(1), test_labels[:, head])
        print(f"{name}: balanced accuracy {score:.3f} of {len(test)} phantoms, seed 1")


if __name__ == "__main__":
    main()
