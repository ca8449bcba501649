"""Features and pictures whose statistics are known."""

from __future__ import annotations

import torch


def normal(count, dim=8, seed=0, scale=1.0, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, dim, generator=generator) * scale + shift


def pictures(count, seed=0, level=128, resolution=16):
    generator = torch.Generator().manual_seed(seed)
    shape = (count, 1, resolution, resolution)
    noise = torch.randint(-60, 60, shape, generator=generator)
    return (noise + level).clamp(0, 255).to(torch.uint8)
