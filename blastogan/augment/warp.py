"""Resampling of images under affine maps, differentiable any number of times."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def warp(images: Tensor, matrices: Tensor) -> Tensor:
    """Resample images through affine maps: bicubic, reflected beyond the edges.

    Karras et al. 2020 sample an image of twice the resolution and filter it, which costs more; here
    images that shrink may alias a little, reals and fakes alike.

    Coordinates are those of `torch.nn.functional.affine_grid`: x to the right and y down, -1 and 1
    the outer edges of the image.

    Args:
        images: ``(B, C, R, R)``.
        matrices: ``(B, 3, 3)``, from a place in the new image to its source in the old one. They
            get no gradient.

    Returns:
        ``(B, C, R, R)``. Images with an identity matrix stay bit-equal.
    """
    rows = matrices[:, :2].to(images.dtype)
    grid = F.affine_grid(rows, list(images.shape), align_corners=False)
    moved = (matrices != torch.eye(3, device=matrices.device)).any(dim=(1, 2))
    warped: Tensor = _Resample.apply(images, grid.detach())
    return torch.where(moved.view(-1, 1, 1, 1), warped, images)


def _sample(images: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(
        images, grid, mode="bicubic", padding_mode="reflection", align_corners=False
    )


class _Resample(torch.autograd.Function):
    """`grid_sample` of images, which PyTorch differentiates only once.

    Resampling is linear in the image: its gradient is its adjoint, and the gradient of the adjoint
    is resampling again.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        return _sample(images, grid)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (grid,) = ctx.saved_tensors
        adjoint: Tensor = _Adjoint.apply(gradient, grid)
        return adjoint, None


class _Adjoint(torch.autograd.Function):
    """The transpose of `_Resample`: spreads each pixel over its sources."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        with torch.enable_grad():
            # its values do not matter
            images = torch.zeros_like(gradient).requires_grad_()
            (adjoint,) = torch.autograd.grad(_sample(images, grid), images, gradient)
        return adjoint

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (grid,) = ctx.saved_tensors
        resampled: Tensor = _Resample.apply(gradient, grid)
        return resampled, None
