"""Sliced Wasserstein distance between patches of two image sets.

Karras et al., "Progressive Growing of GANs" (2018), section 5. It needs no trained network.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from blastogan.errors import UserError
from blastogan.growth import resolutions_between

PATCH = 7
"""Side of a descriptor in pixels."""

COARSEST = 16
"""Resolution of the coarsest level in pixels."""

_PATCHES_PER_IMAGE = 128
_DIRECTIONS = 512


def laplacian_pyramid(images: Tensor) -> dict[int, Tensor]:
    """Split images into bands of spatial frequency (Burt and Adelson 1987).

    Images are ``(N, C, R, R)``, R a power of two. The bands are by resolution, finest first; the
    coarsest, of 16 pixels, holds what the others leave.
    """
    taps = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=images.device) / 16
    kernel = torch.outer(taps, taps).expand(images.shape[1], 1, 5, 5)

    def smooth(x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, groups=x.shape[1])

    levels = {}
    while images.shape[-1] > COARSEST:
        smaller = smooth(images)[:, :, ::2, ::2]
        spread = torch.zeros_like(images)
        spread[:, :, ::2, ::2] = smaller
        levels[images.shape[-1]] = images - smooth(spread) * 4
        images = smaller
    levels[images.shape[-1]] = images
    return levels


def patch_descriptors(band: Tensor, per_image: int, generator: torch.Generator) -> Tensor:
    """Draw 7x7 patches and normalise each colour channel of all to mean 0 and deviation 1.

    From ``(N, C, R, R)`` to ``(N * per_image, C * 49)``; the generator is on the CPU.
    """
    count, channels, size, _ = band.shape
    corners = torch.randint(size - PATCH + 1, (2, count, per_image), generator=generator)
    steps = torch.arange(PATCH)
    rows = (corners[0][..., None, None] + steps[:, None]).to(band.device)  # (N, P, 7, 1)
    columns = (corners[1][..., None, None] + steps[None, :]).to(band.device)  # (N, P, 1, 7)
    index = torch.arange(count, device=band.device)[:, None, None, None]
    patches = band.permute(0, 2, 3, 1)[index, rows, columns]  # (N, P, 7, 7, C)
    patches = patches.flatten(0, 1)
    mean = patches.mean(dim=(0, 1, 2), keepdim=True)
    deviation = patches.std(dim=(0, 1, 2), keepdim=True)
    normalised = (patches - mean) / deviation.clamp_min(1e-8)
    return normalised.reshape(count * per_image, channels * PATCH**2)


def sliced_wasserstein(
    first: Tensor, second: Tensor, *, directions: int, generator: torch.Generator
) -> Tensor:
    """Distance of the sorted projections of two point sets, for each of the random directions.

    Rabin et al. 2011: the L1 transport cost in one dimension; the distance is the mean over
    directions. Both sets are ``(M, D)``; the generator and the result, float64 ``(directions,)``,
    are on the CPU.
    """
    axes = torch.randn(directions, first.shape[1], generator=generator)
    axes = (axes / axes.norm(dim=1, keepdim=True)).to(first.device)
    distances = []
    for part in torch.split(axes, 64):
        ordered = [_sorted_rows(part @ points.T) for points in (first, second)]
        distances.append((ordered[0] - ordered[1]).abs().mean(dim=1).double().cpu())
    return torch.cat(distances)


def _sorted_rows(values: Tensor) -> Tensor:
    # on CPUs NumPy sorts floats with vector instructions, torch does not
    if values.device.type == "cpu":
        return torch.from_numpy(np.sort(values.numpy(), axis=1))
    return values.sort(dim=1).values


def image_swd(reals: Tensor, fakes: Tensor, *, seed: int = 0) -> dict[int, float]:
    """Sliced Wasserstein distance by level of the Laplacian pyramid, in thousandths.

    The paper compares 16,384 images with 128 patches each over 512 directions. Fewer images give
    a larger distance for the same distributions: compare only at equal numbers. Images are uint8
    ``(N, C, R, R)``, R a power of two, at least 16.

    Returns:
        Distance times 1000 by resolution, finest first.

    Raises:
        UserError: If the sets differ in shape, or are too small for a patch.
    """
    levels = image_swd_by_direction(reals, fakes, seed=seed)
    return {resolution: float(along.mean()) for resolution, along in levels.items()}


def image_swd_by_direction(reals: Tensor, fakes: Tensor, *, seed: int = 0) -> dict[int, Tensor]:
    """The distances of `image_swd` along each direction, float64 ``(512,)``."""
    if reals.shape != fakes.shape or reals.shape[-1] < COARSEST or not len(reals):
        raise UserError(
            f"sliced Wasserstein distance needs two sets of one shape, {COARSEST} pixels or more: "
            f"got {tuple(reals.shape)} and {tuple(fakes.shape)}"
        )
    generator = torch.Generator().manual_seed(seed)
    distances = {}
    pyramids = [laplacian_pyramid(images.float()) for images in (reals, fakes)]
    for resolution in reversed(resolutions_between(COARSEST, reals.shape[-1])):
        first, second = (
            patch_descriptors(pyramid[resolution], _PATCHES_PER_IMAGE, generator)
            for pyramid in pyramids
        )
        along = sliced_wasserstein(first, second, directions=_DIRECTIONS, generator=generator)
        distances[resolution] = 1000 * along
    return distances
