"""Images as pictures, one by one or on captioned sheets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from blastogan.errors import UserError
from blastogan.utils.files import atomic_write

INK, PAPER = (30, 30, 30), (255, 255, 255)


def image_sheet(
    images: Tensor,
    columns: int,
    *,
    caption: str,
    titles: Sequence[str] = (),
    tile: int = 96,
    gap: int = 3,
) -> Image.Image:
    """Lay out images row by row under a caption, each column under its title.

    Args:
        images: uint8 ``(N, C, R, R)``, C 1 or 3.
        columns: Images per row.
        caption: What the images are; call generated images and phantoms by these names.
        titles: One per column.
        tile: Minimum side in pixels; smaller images are enlarged by an integer, uninterpolated.
        gap: Space between images in pixels.

    Returns:
        RGB picture.
    """
    font = ImageFont.load_default(13)
    factor = max(1, -(-tile // images.shape[-1]))
    side = images.shape[-1] * factor
    rows = -(-len(images) // columns)
    top = 22 + (18 if titles else 0)
    # few columns may be narrower than the caption
    width = max(columns * (side + gap), int(np.ceil(font.getlength(caption))) + gap) + gap
    sheet = Image.new("RGB", (width, top + rows * (side + gap) + gap), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((gap, 3), caption, INK, font=font)
    for column, title in enumerate(titles):
        left = gap + column * (side + gap)
        draw.text((left + side // 2, top - 16), title, INK, font=font, anchor="ma")
    for n, image in enumerate(images):
        picture = Image.fromarray(to_hwc(image)).resize((side, side), Image.Resampling.NEAREST)
        place = (gap + n % columns * (side + gap), top + n // columns * (side + gap))
        sheet.paste(picture, place)
    return sheet


def to_hwc(image: Tensor) -> NDArray[np.uint8]:
    """Array ``(H, W)`` or ``(H, W, 3)`` of an image uint8 ``(C, H, W)``, as image files have it."""
    array = image.cpu().numpy()
    return array[0] if array.shape[0] == 1 else np.ascontiguousarray(array.transpose(1, 2, 0))


def to_pil(images: Tensor) -> list[Image.Image]:
    """Pillow pictures, grey or RGB, of images as ``generate`` returns them.

    Args:
        images: uint8 ``(N, C, H, W)``, C 1 or 3, on any device.

    Raises:
        UserError: If the images have another type or shape.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise UserError(
            f"images are {images.dtype} {tuple(images.shape)}: expected torch.uint8 (N, C, H, W) "
            "with 1 or 3 channels, as generate returns them"
        )
    return [Image.fromarray(to_hwc(image)) for image in images]


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a PNG."""
    with atomic_write(path) as part:
        picture.save(part, format="PNG")
