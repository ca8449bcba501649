"""Resampling images under an affine map, differentiable as often as one likes."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def warp(images: Tensor, matrices: Tensor) -> Tensor:
    """Images seen through affine maps, by cubic interpolation, reflected beyond their edges.

    Karras et al. 2020 sample an image of twice the resolution and filter it, which takes more work;
    here images that are made smaller may alias a little. Reals and fakes alike.

    Coordinates are those of `torch.nn.functional.affine_grid`: x to the right and y down, -1 and 1
    the outer edges of the image.

    Args:
        images: ``(B, C, R, R)``.
        matrices: ``(B, 3, 3)``, from a place in the new image to the place in the old one that is
            seen there. No gradient is taken of them.

    Returns:
        ``(B, C, R, R)``. Images whose matrix is the identity are returned as they are, to the bit.
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
    """`grid_sample` of images, which PyTorch differentiates once only.

    Resampling is linear in the image: the gradient of it is its adjoint, and that of the adjoint is
    resampling again.
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
    """The transpose of `_Resample`: spreads each pixel over those that it was taken from."""

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
