"""A feature extractor that any machine has."""

from __future__ import annotations

import torch


class Pixels:
    """The mean of each 4x4 cell of a grey image."""

    dim, label, key = 16, "pixels", "pixels-1"

    def __init__(self):
        self.calls = 0

    def __call__(self, images):
        self.calls += 1
        return torch.nn.functional.adaptive_avg_pool2d(images[:, :1].float(), 4).flatten(1) / 64
