"""Conversion between network images in [-1, 1] and 8-bit images."""

from __future__ import annotations

import torch
from torch import Tensor


def to_float(images: Tensor) -> Tensor:
    """Map uint8 images 0..255 to float32 in [-1, 1], any shape.

    Raises:
        ValueError: If the images are not uint8: floats would silently be scaled twice.
    """
    if images.dtype != torch.uint8:
        raise ValueError(f"images are {images.dtype}: expected torch.uint8, values 0 to 255")
    return images.float() / 127.5 - 1.0


def to_uint8(images: Tensor) -> Tensor:
    """Map float images in [-1, 1] to uint8 0..255, any shape; other values are clipped.

    Raises:
        ValueError: If the images are not floats.
    """
    if not images.is_floating_point():
        raise ValueError(f"images are {images.dtype}: expected floats in [-1, 1]")
    return ((images.float() + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
