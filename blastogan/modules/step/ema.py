"""Exponential moving average of a network's weights over the images shown."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def ema_decay(batch_size: int, images_shown: int, half_life_kimg: float, rampup: float) -> float:
    """Decay of one step, 0 to 1, that halves the weight of the past in one half-life of images.

    Karras et al. 2020 (ADA), appendix C.

    Args:
        batch_size: Global batch size.
        images_shown: Images shown before the step.
        half_life_kimg: Half-life in thousands of images; 0 copies the weights.
        rampup: The half-life is at most this fraction of `images_shown`; 0 for no ramp-up.
    """
    half_life = half_life_kimg * 1000
    if rampup > 0:
        half_life = min(half_life, images_shown * rampup)
    return float(0.5 ** (batch_size / half_life)) if half_life > 0 else 0.0


@torch.no_grad()
def update_ema(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the parameters of `average` towards those of `network`; copy its buffers."""
    torch._foreach_lerp_(_data(average.parameters()), _data(network.parameters()), 1.0 - decay)
    if buffers := list(average.buffers()):
        torch._foreach_copy_(buffers, list(network.buffers()))


def _data(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    return [parameter.data for parameter in parameters]
