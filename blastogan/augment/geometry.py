"""Random affine maps of pixels: turns, shifts and scales."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from blastogan.augment.gates import OperationGates

GEOMETRIC = ("flip", "turn", "shift", "scale", "rotate", "stretch", "offset")
"""Operations that move pixels."""


def random_map(
    gates: OperationGates, amplitudes: Mapping[str, float], count: int, resolution: int
) -> Tensor:
    """Affine maps ``(count, 3, 3)`` for `warp`, composed of all operations that take place.

    The order is that of Karras et al. 2020 ("Training generative adversarial networks with limited
    data"), appendix B: flip, quarter turn, shift by whole pixels, scale, rotation, anisotropic
    scale, rotation again, shift by fractions. Operations without an amplitude do not take place.
    """
    device = gates.device
    inverse = torch.eye(3, device=device).expand(count, 3, 3)
    one = torch.ones(count, device=device)
    if "flip" in amplitudes:
        sign = 1.0 - 2.0 * gates.pick("flip", 2)
        inverse = inverse @ _scaling(sign, one)
    if "turn" in amplitudes:
        quarters = gates.pick("turn", 4)
        # exact, unlike sine and cosine of multiples of pi / 2
        cosine = (quarters == 0).float() - (quarters == 2).float()
        sine = (quarters == 1).float() - (quarters == 3).float()
        inverse = inverse @ _rotation(cosine.to(one.dtype), sine.to(one.dtype))
    if amplitude := amplitudes.get("shift", 0.0):
        moved = gates.uniform("shift", 2) * amplitude * resolution
        inverse = inverse @ _translation(moved.round() * (2.0 / resolution))
    if amplitude := amplitudes.get("scale", 0.0):
        factor = torch.exp2(gates.normal("scale", 1)[:, 0] * amplitude)
        inverse = inverse @ _scaling(factor, factor)
    # two rotations about the stretch, together as likely as one operation
    if amplitude := amplitudes.get("rotate", 0.0):
        inverse = inverse @ _turned(gates, "rotate", amplitude)
    if amplitude := amplitudes.get("stretch", 0.0):
        factor = torch.exp2(gates.normal("stretch", 1)[:, 0] * amplitude)
        inverse = inverse @ _scaling(factor, 1.0 / factor)
    if amplitude := amplitudes.get("rotate", 0.0):
        inverse = inverse @ _turned(gates, "rotate again", amplitude)
    if amplitude := amplitudes.get("offset", 0.0):
        inverse = inverse @ _translation(gates.normal("offset", 2) * (2.0 * amplitude))
    return inverse


def _turned(gates: OperationGates, name: str, amplitude: float) -> Tensor:
    angle = gates.uniform(name, 1, half=True)[:, 0] * (amplitude * math.pi)
    return _rotation(angle.cos(), angle.sin())


def _scaling(x: Tensor, y: Tensor) -> Tensor:
    return torch.diag_embed(torch.stack([x, y, torch.ones_like(x)], dim=1))


def _rotation(cosine: Tensor, sine: Tensor) -> Tensor:
    zero, one = torch.zeros_like(cosine), torch.ones_like(cosine)
    rows = [[cosine, -sine, zero], [sine, cosine, zero], [zero, zero, one]]
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)


def _translation(shift: Tensor) -> Tensor:
    matrix = torch.eye(3, device=shift.device).repeat(len(shift), 1, 1)
    matrix[:, :2, 2] = shift
    return matrix
