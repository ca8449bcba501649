"""Draws and images to be augmented."""

from __future__ import annotations

import torch

from blastogan.modules.step.draws import SampleDraws


def draws(count, seed=0):
    return SampleDraws(seed, ("test",), 0, count, torch.device("cpu"))


def images(count, channels=1, side=16, dtype=torch.float32):
    generator = torch.Generator().manual_seed(7)
    return torch.rand(count, channels, side, side, generator=generator, dtype=dtype) * 2 - 1
