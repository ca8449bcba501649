"""Random affine maps of the colours of an image."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from blastogan.augment.gates import OperationGates

PHOTOMETRIC = ("brightness", "contrast", "luma_flip", "hue", "saturation")
"""Operations on the colours; the last three are for RGB."""


def recolour(images: Tensor, gates: OperationGates, amplitudes: Mapping[str, float]) -> Tensor:
    """Apply all operations on colours that take place to images ``(B, C, H, W)``, composed.

    The order is that of Karras et al. 2020 ("Training generative adversarial networks with limited
    data"), appendix B. Grey images get contrast and brightness only. Values are around [-1, 1].
    """
    if not any(name in amplitudes for name in PHOTOMETRIC):
        return images
    channels = images.shape[1]
    shift = gates.normal("brightness", 1) * amplitudes.get("brightness", 0.0)
    gain = torch.exp2(gates.normal("contrast", 1) * amplitudes.get("contrast", 0.0))
    shift = shift * gain
    if channels == 1:
        shift, gain = shift.to(images.dtype), gain.to(images.dtype)
        return images * gain[:, :, None, None] + shift[:, :, None, None]
    matrix = gain[:, :, None] * torch.eye(channels, device=images.device)
    matrix = _of_colour(gates, amplitudes, images.device) @ matrix
    shift = (matrix / gain[:, :, None]).sum(dim=2) * shift
    # by elements: products of matrices may be rounded to fewer digits, in the backward pass too
    weights = matrix.to(images.dtype)[..., None, None]
    mixed = sum(weights[:, :, j] * images[:, j : j + 1] for j in range(channels))
    return mixed + shift[:, :, None, None].to(images.dtype)


def _of_colour(
    gates: OperationGates, amplitudes: Mapping[str, float], device: torch.device
) -> Tensor:
    """Matrices ``(B, 3, 3)`` about the grey axis: the operations of RGB images alone."""
    identity = torch.eye(3, device=device)
    grey = torch.full((3, 3), 1.0 / 3.0, device=device)
    matrix = identity.expand(gates.count, 3, 3)
    if "luma_flip" in amplitudes:
        flipped = gates.pick("luma_flip", 2)[:, None, None]
        matrix = (identity - 2.0 * flipped * grey) @ matrix
    if amplitude := amplitudes.get("hue", 0.0):
        angle = gates.uniform("hue", 1)[:, :, None] * (amplitude * math.pi)
        # the cross product with the grey axis
        cross = (identity.roll(1, 0) - identity.roll(-1, 0)) / math.sqrt(3.0)
        turned = grey + angle.cos() * (identity - grey) + angle.sin() * cross
        matrix = torch.where(gates.takes_place("hue")[:, None, None], turned, identity) @ matrix
    if amplitude := amplitudes.get("saturation", 0.0):
        factor = torch.exp2(gates.normal("saturation", 1)[:, :, None] * amplitude)
        paled = grey + factor * (identity - grey)
        gate = gates.takes_place("saturation")[:, None, None]
        matrix = torch.where(gate, paled, identity) @ matrix
    return matrix
