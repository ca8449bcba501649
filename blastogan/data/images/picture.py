"""Decoded images, made upright and turned to grey or RGB in pieces, so that none is held twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import TiffImageFile

PictureMode = Literal["L", "RGB"]

_SMALL = 2**22
_PIECE = 2**20
_WHITE_IS_ZERO = 0
_BITS_PER_SAMPLE, _PHOTOMETRIC, _ORIENTATION, _ROWS_PER_STRIP = 258, 262, 274, 278
_TILE_WIDTH, _TILE_HEIGHT = 322, 323
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LYING = {_TURNS[orientation] for orientation in (5, 6, 7, 8)}


class Picture:
    """A decoded image of 8 bits, upright, in grey or RGB.

    Of a large image that is stored otherwise, channels are made one at a time: for each of its
    pixels Pillow holds 4 bytes, so that one of 64 megapixels takes 256 MB, and a second one,
    turned or without alpha, as much again.

    Args:
        image: An opened image, which is decoded here.
        mode: ``L`` or ``RGB``.

    Attributes:
        mode: As given.
        size: Width and height in pixels, upright.
    """

    def __init__(self, image: Image.Image, mode: PictureMode) -> None:
        image.load()
        image.info.pop("transparency", None)
        # Pillow turns a TIFF itself, and takes away the tag
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
        self.mode = mode
        self._negative = _is_negative(image)
        self._stored = image
        self._turn = turn
        if image.width * image.height <= _SMALL:
            self._stored = self._converted(image, mode)
            if turn is not None:
                self._stored = self._stored.transpose(turn)
            self._turn = None
        self.size = self._stored.size
        if self._turn in _LYING:
            self.size = self.size[::-1]

    def parts(self) -> Iterator[Image.Image]:
        """The image; where it would be a second one, each of its channels as ``L``."""
        if self._stored.mode == self.mode and self._turn is None:
            yield self._stored
        else:
            yield from self.planes()

    def planes(self) -> Iterator[Image.Image]:
        """Each channel as ``L``."""
        for band in range(len(self.mode)):
            yield self._plane(self.mode, band)

    def grey(self) -> Image.Image:
        """As ``L``, by ITU-R 601 luma."""
        return self._plane("L", 0)

    def _plane(self, mode: PictureMode, band: int) -> Image.Image:
        """A channel of the image in a mode."""
        if self._turn is None and self._stored.mode == "L":
            return self._stored
        if self._turn is None and self._stored.mode == "RGB":
            return self._stored.convert("L") if mode == "L" else self._stored.getchannel(band)
        plane = Image.new("L", self._stored.size)
        for box in boxes(*plane.size):
            piece = self._converted(self._stored.crop(box), mode)
            plane.paste(piece.getchannel(band), box[:2])
        return plane if self._turn is None else plane.transpose(self._turn)

    def _converted(self, image: Image.Image, mode: PictureMode) -> Image.Image:
        if image.mode.startswith("I;16"):
            values = (np.asarray(image).astype(np.uint32) + 128) // 257
            grey = values.astype(np.uint8)
            image = Image.fromarray(255 - grey if self._negative else grey)
        # Pillow drops the alpha of RGBA on the way to grey as on the way to RGB
        elif image.mode not in ("L", "RGB", "RGBA"):
            image = image.convert("RGB")
        return image if image.mode == mode else image.convert(mode)


def boxes(width: int, height: int) -> Iterator[tuple[int, int, int, int]]:
    """Left, top, right and bottom of pieces that make an image of a size, row by row."""
    columns, rows = min(width, _PIECE), max(1, _PIECE // width)
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            yield left, top, min(left + columns, width), min(top + rows, height)


def decoder_bytes(image: Image.Image, file_size: int) -> int:
    """Memory that Pillow takes to decode an opened image of some bytes, its pixels included."""
    pixels = image.width * image.height
    wide = 2 if image.mode.startswith("I;16") else 4
    held = pixels * (1 if image.mode in ("1", "L", "P") else wide)
    if isinstance(image, TiffImageFile):
        tags = image.tag_v2
        # Pillow turns a copy
        held *= 1 if tags.get(_ORIENTATION, 1) == 1 else 2
        if image.tile[0].codec_name == "libtiff":
            # which maps the file, and unpacks a strip or a tile as a whole
            rows = min(tags.get(_ROWS_PER_STRIP, image.height), image.height)
            piece = tags.get(_TILE_WIDTH, image.width) * tags.get(_TILE_HEIGHT, rows)
            held += file_size + piece * sum(tags.get(_BITS_PER_SAMPLE, (1,))) // 8
    elif image.info.get("progressive"):
        # all coefficients, of 16 bits
        held += 2 * pixels * len(image.getbands())
    return held


def _is_negative(image: Image.Image) -> bool:
    """Whether white is 0, which Pillow heeds for up to 8 bits, and not for 16."""
    if not isinstance(image, TiffImageFile) or not image.mode.startswith("I;16"):
        return False
    return bool(image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO)
