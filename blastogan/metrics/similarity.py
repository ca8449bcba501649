"""Diversity of an image set by multi-scale structural similarity."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from blastogan.errors import UserError

BETAS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Weights of the five scales (Wang et al. 2003)."""

KERNEL = 11
"""Side of the Gaussian window in pixels."""


def scale_weights(resolution: int) -> tuple[float, ...]:
    """Weights of as many scales as fit: five from 256 pixels on, one less per halving.

    Normalised to the sum 1, so that values of one resolution are comparable among themselves.

    Raises:
        UserError: Below 16 pixels, where the window does not fit.
    """
    scales = min(len(BETAS), resolution.bit_length() - 4)
    if scales < 1:
        raise UserError(f"MS-SSIM needs images of 16 pixels or more: got {resolution}")
    return tuple(beta / sum(BETAS[:scales]) for beta in BETAS[:scales])


def pairwise_ms_ssim(images: Tensor, *, pairs: int = 1000, seed: int = 0) -> float:
    """Mean MS-SSIM between random pairs of different images: high where images are alike.

    Odena et al. 2017, section 4.2; Karras et al. 2018, section 5. Copies of one image give 1.

    Args:
        images: uint8 ``(N, C, R, R)``, R a power of two, at least 16, N at least 2.
        pairs: Number of pairs drawn.
        seed: Seed of the pairs.

    Raises:
        UserError: If there are fewer than two images, or they are too small.
    """
    count = len(images)
    if count < 2:
        raise UserError(f"MS-SSIM compares images with each other: got {count}, needs 2 or more")
    generator = torch.Generator().manual_seed(seed)
    first = torch.randint(count, (pairs,), generator=generator)
    second = (first + torch.randint(1, count, (pairs,), generator=generator)) % count
    return float(_similarities(images, first, second).mean())


def ms_ssim_within_classes(
    images: Tensor, labels: Tensor, *, pairs: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Mean MS-SSIM between random pairs of one class, with its standard error over the pairs.

    Classes count by their number of images. Collapse within a grade shows here, and hides among
    pairs of different grades. Arguments are as in `pairwise_ms_ssim`, labels int64 ``(N, 2)``.

    Raises:
        UserError: If no class has two images, or they are too small.
    """
    _, classes, sizes = torch.unique(labels, dim=0, return_inverse=True, return_counts=True)
    order = classes.argsort(stable=True)
    begins = sizes.cumsum(0) - sizes
    paired = (sizes[classes] > 1).nonzero().squeeze(1)
    if not len(paired):
        raise UserError("MS-SSIM within classes needs a class of two images or more")
    generator = torch.Generator().manual_seed(seed)
    first = paired[torch.randint(len(paired), (pairs,), generator=generator)]
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    others = sizes[classes[first]] - 1
    steps = 1 + (torch.rand(pairs, generator=generator) * others).long().clamp_max(others - 1)
    begin, size = begins[classes[first]], sizes[classes[first]]
    second = order[begin + (place[first] - begin + steps) % size]
    values = _similarities(images, first, second)
    return float(values.mean()), float(values.std() / pairs**0.5)


def _similarities(images: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """MS-SSIM of pairs, float64 ``(P,)``."""
    betas = scale_weights(images.shape[-1])
    values = []
    for part in torch.split(torch.arange(len(first)), 64):
        a, b = images[first[part]].float(), images[second[part]].float()
        value = multiscale_structural_similarity_index_measure(
            a,
            b,
            data_range=255.0,
            kernel_size=KERNEL,
            betas=betas,
            normalize="relu",
            reduction="none",
        )
        assert isinstance(value, Tensor)
        values.append(value.double().view(-1).cpu())
    return torch.cat(values)
