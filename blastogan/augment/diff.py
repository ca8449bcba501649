"""Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training" (2020)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from blastogan.augment.filters import cut_out
from blastogan.augment.gates import Draws, OperationGates

DIFFAUGMENT = "diffaugment"
"""Name of this augmentation, alongside the ready-made sets."""

_ORDER = ("brightness", "saturation", "contrast", "translation", "cutout")
_FARTHEST = 1 / 8
_CUT = 1 / 2


def diff_augment(images: Tensor, p: Tensor | float, draws: Draws) -> Tensor:
    """Colour, translation and cut-out (section 3.2), the cheap alternative to `augment_images`.

    Each takes place with probability p, 1 in the paper. Pixels beyond the edges are grey (0). At
    p = 0 images stay bit-equal. Arguments are those of `augment_images`.
    """
    gates = OperationGates(draws, torch.as_tensor(p), _ORDER)
    images = _coloured(images, gates)
    return cut_out(_translated(images, gates), gates, _CUT)


def _coloured(images: Tensor, gates: OperationGates) -> Tensor:
    def amount(name: str) -> Tensor:
        return gates.uniform(name, 1)[:, :, None, None].to(images.dtype)

    images = images + amount("brightness") / 2
    if images.shape[1] == 3:
        grey = images.mean(dim=1, keepdim=True)
        images = images + (images - grey) * amount("saturation")
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return images + (images - mean) * amount("contrast") / 2


def _translated(images: Tensor, gates: OperationGates) -> Tensor:
    side = images.shape[-1]
    farthest = int(side * _FARTHEST + 0.5)
    # all integers equally likely; 0 where the operation does not take place
    drawn = (gates.uniform("translation", 2) + 1.0) / 2.0 * (2 * farthest + 1)
    shift = drawn.floor().long() - farthest
    # a border of one pixel represents everything beyond the edge
    places = torch.arange(1, side + 1, device=images.device) + shift[:, :, None]
    x, y = places.clamp(0, side + 1).unbind(1)
    padded = F.pad(images, (1, 1, 1, 1)).permute(0, 2, 3, 1)
    image = torch.arange(len(images), device=images.device)
    return padded[image[:, None, None], y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2)
