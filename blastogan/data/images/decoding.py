"""Bounded decoding of image files into square uint8 arrays, and their mean pyramid."""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL import TiffImagePlugin as Tiff
from torch import Tensor

from blastogan.data.images.colour import ColourRule, cast_gains, with_gains
from blastogan.data.images.framing import Circle, Crop, find_embryo
from blastogan.errors import UserError
from blastogan.growth import is_power_of_two

MAX_PIXELS = 64_000_000
"""Largest image that is decoded, in pixels: 64 megapixels take 256 MB as RGBA."""

MAX_BYTES = 512_000_000
"""Largest file that is opened: an uncompressed image of `MAX_PIXELS`, 16-bit RGBA."""

MAX_DECODER_BYTES = 384_000_000
"""Most memory that a decoder may take, for the pixels and its own buffers."""

_FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
_MODES = frozenset(("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX"))
_CENTRE = Crop()
_SOUGHT_SIDE = 512
_CHUNK_VALUES = 2**22


def load_image(
    path: Path, resolution: int, channels: int, crop: Crop = _CENTRE, colour: ColourRule = "keep"
) -> NDArray[np.uint8]:
    """Decode one image: upright, one square of it, resized once with antialiasing (Lanczos).

    Alpha is ignored; 16-bit grey is divided by 257; RGB becomes grey by ITU-R 601 luma.

    Args:
        path: PNG, JPEG, BMP or TIFF file, recognised by its content.
        resolution: Side R of the result, in pixels.
        channels: C, 1 for grey or 3 for RGB.
        crop: Square that is shown.
        colour: Of RGB: ``keep`` it, make it ``grey``, or ``balance`` it by the whole image.

    Returns:
        uint8 ``(C, R, R)``.

    Raises:
        UserError: If the file is no image, damaged, larger than `MAX_PIXELS` or `MAX_BYTES`,
            animated, of 32 bits per value, or neither grey nor RGB; if its decoder takes more than
            `MAX_DECODER_BYTES`; or if `resolution` or `channels` is out of range.
    """
    return load_framed(path, resolution, channels, crop, colour)[0]


def load_framed(
    path: Path, resolution: int, channels: int, crop: Crop, colour: ColourRule = "keep"
) -> tuple[NDArray[np.uint8], bool]:
    """See `load_image`; also False if the centre is shown as no embryo was found, else True."""
    check_shape(resolution, channels)
    image = decode(path, channels)
    seeks = crop.kind == "embryo"
    circle = _embryo(image) if seeks else None
    left, top, side = crop.box(*image.size, circle)
    box = (left, top, left + side, top + side)
    square = image.resize((resolution, resolution), Image.Resampling.LANCZOS, box=box)
    if channels == 3 and colour == "grey":
        square = square.convert("L").convert("RGB")
    elif channels == 3 and colour == "balance":
        square = with_gains(square, cast_gains(image))
    return to_chw(square), circle is not None or not seeks


def _embryo(image: Image.Image) -> Circle | None:
    """Circle of the embryo, sought in a shrunken copy of a large image."""
    factor = max(1, min(image.size) // _SOUGHT_SIDE)
    circle = find_embryo(np.asarray(image.reduce(factor).convert("L")))
    return circle and Circle(*(factor * value for value in circle))


def decode(path: Path, channels: int) -> Image.Image:
    """Image of mode L or RGB: upright, at its own size; bounds and errors of `load_image`."""
    with loaded(path) as found:
        if channels == 3 and found.image.mode == "RGB" and found.orientation == 1:
            return found.image
        if channels == 1 or found.is_grey:
            planes = [found.plane("L")] * channels
        else:
            planes = [found.plane(band) for band in "RGB"]
        # never two copies of a large image in colour, for which Pillow holds 4 bytes a pixel
        found.image.close()
    return planes[0] if channels == 1 else Image.merge("RGB", planes)


class Loaded(NamedTuple):
    """A decoded image of mode L, LA, RGB, RGBA or I;16, and its EXIF orientation."""

    image: Image.Image
    orientation: int

    @property
    def is_grey(self) -> bool:
        """Whether it has one channel, apart from transparency."""
        return not self.image.mode.startswith("RGB")

    def plane(self, band: str) -> Image.Image:
        """Upright plane of mode L: ``L`` is the grey of any image, ``R``, ``G``, ``B`` a colour."""
        if self.image.mode.startswith("I;16"):
            plane = _to_8_bits(self.image)
        elif band == "L" and self.image.mode != "LA":
            plane = self.image.convert("L")
        else:
            plane = self.image.getchannel(band)
        plane.getexif()[ExifTags.Base.Orientation] = self.orientation
        ImageOps.exif_transpose(plane, in_place=True)
        return plane


@contextmanager
def loaded(path: Path) -> Iterator[Loaded]:
    """Decode an image; its planes can then be had one by one, to keep the memory low.

    Raises:
        UserError: See `load_image`.
    """
    with opened(path) as image:
        image.load()
        # Pillow has turned a TIFF itself, and removed the tag
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        # transparency would end up in the colours
        image.info.clear()
        plain = image.mode in ("L", "LA", "RGB", "RGBA") or image.mode.startswith("I;16")
        yield Loaded(image if plain else image.convert("RGB"), orientation)


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits divided by 257 and rounded, in pieces that keep the memory low."""
    scale = ((np.arange(2**16) + 128) // 257).astype(np.uint8)
    # Pillow inverts a TIFF whose white is 0 if it has up to 8 bits, not if it has 16
    if isinstance(image, Tiff.TiffImageFile):
        negative = image.tag_v2.get(Tiff.PHOTOMETRIC_INTERPRETATION) == 0
        scale = 255 - scale if negative else scale
    values = np.asarray(image).reshape(-1)
    grey = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), _CHUNK_VALUES):
        piece = slice(start, start + _CHUNK_VALUES)
        grey[piece] = scale[values[piece]]
    return Image.fromarray(grey.reshape(image.height, image.width))


def to_chw(image: Image.Image) -> NDArray[np.uint8]:
    """Pixels of an image of mode L or RGB, uint8 ``(C, H, W)``."""
    values = np.array(image).reshape(image.height, image.width, -1)
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def pyramid(images: Tensor, smallest: int) -> dict[int, Tensor]:
    """Images at every power of two from their own resolution down to `smallest`.

    Each pixel is the exact mean of its area at the top resolution, rounded half up once, so no
    rounding adds up from level to level.

    Args:
        images: uint8 ``(N, C, R, R)``, R a power of two.
        smallest: Smallest resolution, a power of two up to R.

    Returns:
        uint8 ``(N, C, r, r)`` by resolution r, largest first; that of R is `images` itself.

    Raises:
        UserError: If the images or `smallest` have another shape, type or range.
    """
    resolution = images.shape[-1]
    if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[-2] != resolution:
        raise UserError(
            f"got images of {images.dtype} and shape {tuple(images.shape)}: "
            "expected square uint8 images (N, C, R, R)"
        )
    if not (is_power_of_two(resolution) and is_power_of_two(smallest)) or smallest > resolution:
        raise UserError(
            f"no pyramid from {resolution} to {smallest} pixels: both must be powers of two, "
            "the second not above the first"
        )
    sides = [resolution >> level for level in range((resolution // smallest).bit_length())]
    levels = {side: images.new_empty((*images.shape[:2], side, side)) for side in sides[1:]}
    chunk = max(1, _CHUNK_VALUES // max(1, images[:1].numel()))
    for start in range(0, len(images), chunk):
        sums = images[start : start + chunk].to(torch.int32)
        for side in sides[1:]:
            rows = sums[..., 0::2, :] + sums[..., 1::2, :]
            sums = rows[..., 0::2] + rows[..., 1::2]
            area = (resolution // side) ** 2
            levels[side][start : start + chunk] = (sums + area // 2) // area
    return {resolution: images, **levels}


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """An image whose header has been read and whose pixels have not.

    Raises:
        UserError: See `load_image`; also for whatever Pillow raises while the image is in use.
    """
    try:
        # opening a pipe would wait for a writer
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: cannot be decoded (a folder or a pipe, no file): take it out")
        # given a path, Pillow would map an uncompressed TIFF, and scramble one that lies
        with path.open("rb") as file, warnings.catch_warnings():
            size = os.fstat(file.fileno()).st_size
            _check_size(path, size)
            # MAX_PIXELS is below the size that this warns of
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file, formats=_FORMATS) as image:
                if fault := _fault(image, size):
                    raise UserError(f"{path}: {fault}")
                yield image
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file: check the path") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{path}: {error} {_too_large()}") from error
    except UnidentifiedImageError as error:
        got = _unknown_tiff(path) or f"no image in one of the formats {', '.join(_FORMATS)}"
        raise UserError(f"{path}: {got}: convert it, or take it out") from error
    # damaged files make decoders raise nearly anything: OSError, SyntaxError, struct.error, ...
    except Exception as error:
        raise UserError(
            f"{path}: cannot be decoded ({error}): copy it again, or take it out"
        ) from error


def content_digest(path: Path) -> str:
    """Digest of the content of a file of up to `MAX_BYTES`, 32 hexadecimal digits.

    Raises:
        UserError: If it is larger, or cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    try:
        # reading a pipe would never end
        if not path.is_file():
            raise UserError(f"{path}: no such file: check the path")
        _check_size(path, path.stat().st_size)
        with path.open("rb") as content:
            while chunk := content.read(2**20):
                digest.update(chunk)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error}): check its permissions, or copy it again"
        ) from error
    return digest.hexdigest()


def _check_size(path: Path, size: int) -> None:
    if size > MAX_BYTES:
        raise UserError(
            f"{path}: a file of {size / 1e6:.0f} MB, expected at most {MAX_BYTES / 1e6:.0f}: "
            "save the image again, or take it out"
        )


def _fault(image: Image.Image, file_size: int) -> str:
    """Why an image must not be decoded; empty if it may be."""
    if image.width * image.height > MAX_PIXELS:
        return f"{image.width}x{image.height} pixels. {_too_large()}"
    if pages := _stack_of_imagej(image):
        return f"a stack of {pages} images, expected one: save the one that was graded as an image"
    # MPO is a JPEG that a camera has put a preview or a gain map behind
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        return "several frames, expected one: save the frame that was graded as an image"
    if image.mode == "I" and isinstance(image, Tiff.TiffImageFile):
        bits = max(image.tag_v2.get(Tiff.BITSPERSAMPLE, (1,)))
        if bits < 32:  # signed values, which Pillow widens
            return f"signed values of {bits} bits, expected unsigned ones: convert it to them"
    if image.mode in ("I", "F"):
        return "32 bits per value, expected 8 or 16: convert it, which fixes its white point"
    if image.mode not in _MODES and not image.mode.startswith("I;16"):
        return (
            f"{image.mode} colours, expected grey or RGB: convert it with the colour profile "
            "that it was made with"
        )
    needed = _decoder_bytes(image, file_size)
    if needed > MAX_DECODER_BYTES:
        return (
            f"decoding it takes {needed / 1e6:.0f} MB, expected at most "
            f"{MAX_DECODER_BYTES / 1e6:.0f}: convert it to PNG, or to a JPEG that is not "
            "progressive"
        )
    return ""


def _stack_of_imagej(image: Image.Image) -> int:
    """Number of images in a stack of ImageJ with one page directory, else 0."""
    if not isinstance(image, Tiff.TiffImageFile):
        return 0
    text = str(image.tag_v2.get(Tiff.IMAGEDESCRIPTION, ""))
    found = re.search(r"^images=(\d+)", text, re.MULTILINE) if text.startswith("ImageJ=") else None
    return int(found[1]) if found and int(found[1]) > 1 else 0


def _unknown_tiff(path: Path) -> str:
    """Why Pillow cannot read a TIFF; empty if the file is not a TIFF or the reason is unknown."""
    with suppress(Exception), path.open("rb") as file:
        head = file.read(8)
        if head[:4] in (b"II*\0", b"MM\0*"):
            tags = Tiff.ImageFileDirectory_v2(head)
            file.seek(tags.next)
            tags.load(file)
            bits = tags.get(Tiff.BITSPERSAMPLE, (1,))
            white = ", white is zero" if tags.get(Tiff.PHOTOMETRIC_INTERPRETATION) == 0 else ""
            return f"a TIFF that cannot be read ({len(bits)} x {max(bits)} bits{white})"
    return ""


def _decoder_bytes(image: Image.Image, file_size: int) -> int:
    """Memory in bytes that Pillow needs to decode an opened image, including its pixels."""
    pixels = image.width * image.height
    wide = 2 if image.mode.startswith("I;16") else 4
    needed = pixels * (1 if image.mode in ("1", "L", "P") else wide)
    if isinstance(image, Tiff.TiffImageFile):
        tags = image.tag_v2
        # Pillow turns a copy
        needed *= 1 if tags.get(ExifTags.Base.Orientation, 1) == 1 else 2
        if image.tile[0].codec_name == "libtiff":
            # which maps the file, and unpacks a strip or a tile as a whole
            rows = min(tags.get(Tiff.ROWSPERSTRIP, image.height), image.height)
            piece = tags.get(Tiff.TILEWIDTH, image.width) * tags.get(Tiff.TILELENGTH, rows)
            needed += file_size + piece * sum(tags.get(Tiff.BITSPERSAMPLE, (1,))) // 8
    elif image.info.get("progressive"):
        # all coefficients, of 16 bits
        needed += 2 * pixels * len(image.getbands())
    return needed


def _too_large() -> str:
    return f"At most {MAX_PIXELS / 1e6:g} megapixels are decoded: crop or shrink it"


def check_shape(resolution: int, channels: int) -> None:
    """Raise a `UserError` for a resolution below 1, and channels other than 1 and 3."""
    if resolution < 1 or channels not in (1, 3):
        raise UserError(
            f"got resolution {resolution} and {channels} channels: "
            "expected a resolution of at least 1, and 1 (grey) or 3 (RGB) channels"
        )
