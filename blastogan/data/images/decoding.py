"""Bounded decoding of image files into square uint8 arrays, and their mean pyramid."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL import TiffImagePlugin as Tiff
from torch import Tensor

from blastogan.data.batches import map_in_processes
from blastogan.data.images.framing import Circle, Crop, find_embryo
from blastogan.data.records import ImageRecord
from blastogan.errors import ProblemList, UserError
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
_WHITE_IS_ZERO = 0


def load_image(
    path: Path, resolution: int, channels: int, crop: Crop = _CENTRE
) -> NDArray[np.uint8]:
    """Decode one image: upright, one square of it, resized once with antialiasing (Lanczos).

    Alpha is ignored; 16-bit grey is divided by 257; RGB becomes grey by ITU-R 601 luma.

    Args:
        path: PNG, JPEG, BMP or TIFF file, recognised by its content.
        resolution: Side of the result, in pixels.
        channels: 1 for grey, 3 for RGB.
        crop: Square that is shown; by default the largest in the middle.

    Returns:
        Array (channels, resolution, resolution), 0 to 255.

    Raises:
        UserError: If the file is no image, damaged, larger than `MAX_PIXELS` or `MAX_BYTES`,
            animated, of 32 bits per value, or neither grey nor RGB; if its decoder takes more than
            `MAX_DECODER_BYTES`; or if `resolution` or `channels` is out of range.
    """
    return load_framed(path, resolution, channels, crop)[0]


def load_framed(
    path: Path, resolution: int, channels: int, crop: Crop
) -> tuple[NDArray[np.uint8], bool]:
    """See `load_image`; also returns False if an embryo was sought and not found, else True.

    Without an embryo the square in the middle is shown.

    Raises:
        UserError: See `load_image`.
    """
    _check_shape(resolution, channels)
    image = decode(path, channels)
    seeks = crop.kind == "embryo"
    circle = _embryo(image) if seeks else None
    left, top, side = crop.box(*image.size, circle)
    shape, box = (resolution, resolution), (left, top, left + side, top + side)
    square = image.resize(shape, Image.Resampling.LANCZOS, box=box)
    return to_chw(square), circle is not None or not seeks


def _embryo(image: Image.Image) -> Circle | None:
    """Circle of the embryo, sought in a shrunken copy of a large image."""
    factor = max(1, min(image.size) // _SOUGHT_SIDE)
    circle = find_embryo(np.asarray(image.reduce(factor).convert("L")))
    return circle and Circle(*(factor * value for value in circle))


def decode(path: Path, channels: int) -> Image.Image:
    """Decode one image of mode L or RGB: upright, at its own size, bounded as in `load_image`.

    Raises:
        UserError: See `load_image`.
    """
    with opened(path) as image:
        image.load()
        # Pillow has turned a TIFF itself, and removed the tag
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        # transparency would end up in the colours
        image.info.clear()
        if channels == 3 and image.mode == "RGB" and orientation == 1:
            return image
        # never two copies of a large image in colour, for which Pillow holds 4 bytes a pixel
        planes = [_grey(image)] if channels == 1 else _colours(image)
        image.close()
    for plane in planes:
        plane.getexif()[ExifTags.Base.Orientation] = orientation
        ImageOps.exif_transpose(plane, in_place=True)
    return planes[0] if channels == 1 else Image.merge("RGB", planes)


def _grey(image: Image.Image) -> Image.Image:
    """A decoded image as L."""
    if image.mode.startswith("I;16"):
        return _to_8_bits(image)
    if image.mode == "LA":
        return image.getchannel("L")
    return (image if image.mode in ("L", "RGB", "RGBA") else image.convert("RGB")).convert("L")


def _colours(image: Image.Image) -> list[Image.Image]:
    """Red, green and blue of a decoded image, each as L."""
    if image.mode in ("L", "LA") or image.mode.startswith("I;16"):
        grey = _grey(image)
        return [grey, grey.copy(), grey.copy()]
    colour = image if image.mode in ("RGB", "RGBA") else image.convert("RGB")
    return [colour.getchannel(band) for band in "RGB"]


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits divided by 257 and rounded, in pieces that keep the memory low."""
    scale = ((np.arange(2**16) + 128) // 257).astype(np.uint8)
    # Pillow inverts a TIFF whose white is 0 if it has up to 8 bits, not if it has 16
    if isinstance(image, Tiff.TiffImageFile):
        negative = image.tag_v2.get(Tiff.PHOTOMETRIC_INTERPRETATION) == _WHITE_IS_ZERO
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


def load_images(
    records: Sequence[ImageRecord],
    resolution: int,
    channels: int,
    num_workers: int = 0,
    crop: Crop = _CENTRE,
) -> Tensor:
    """Decode the images of all records, see `load_image`.

    Args:
        records: The images.
        resolution: Side of the result, in pixels.
        channels: 1 for grey, 3 for RGB.
        num_workers: Processes that decode; 0 decodes in this one.
        crop: See `load_image`.

    Returns:
        Tensor (N, channels, resolution, resolution), uint8, in the order of `records`.

    Raises:
        ProblemList: Listing every file that cannot be decoded.
    """
    _check_shape(resolution, channels)
    images = torch.empty((len(records), channels, resolution, resolution), dtype=torch.uint8)
    load = partial(_load_or_fault, resolution=resolution, channels=channels, crop=crop)
    problems = []
    paths = [record.path for record in records]
    for position, item in enumerate(map_in_processes(load, paths, num_workers)):
        if isinstance(item, str):
            problems.append(item)
        else:
            images[position] = torch.from_numpy(item)
    if problems:
        raise ProblemList("images cannot be decoded", problems, "Fix these files and try again.")
    return images


def _load_or_fault(path: Path, **settings: Any) -> NDArray[np.uint8] | str:
    try:
        return load_image(path, **settings)
    except UserError as error:
        return str(error)


def pyramid(images: Tensor, smallest: int) -> dict[int, Tensor]:
    """Images at every power of two from their own resolution down to `smallest`.

    Each pixel is the exact mean of its area at the top resolution, rounded half up once, so no
    rounding adds up from level to level.

    Args:
        images: Tensor (N, C, R, R), uint8, R a power of two.
        smallest: Smallest resolution, a power of two up to R.

    Returns:
        Tensors (N, C, r, r), uint8, by resolution r, largest first; that of R is `images` itself.

    Raises:
        UserError: If the images or `smallest` have another shape, type or range.
    """
    resolution = images.shape[-1]
    if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[-2] != resolution:
        raise UserError(
            f"got images of {images.dtype} and shape {tuple(images.shape)}: "
            "expected square uint8 images (N, C, R, R), as load_images makes them"
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
            sums = (
                sums[..., 0::2, 0::2]
                + sums[..., 0::2, 1::2]
                + sums[..., 1::2, 0::2]
                + sums[..., 1::2, 1::2]
            )
            area = (resolution // side) ** 2
            levels[side][start : start + chunk] = (sums + area // 2) // area
    return {resolution: images, **levels}


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """An image whose header has been read and whose pixels have not.

    Raises:
        UserError: If it must not be decoded, see `load_image`; also for whatever Pillow raises
            while the image is in use.
    """
    try:
        # opening a pipe would wait for a writer
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: cannot be decoded (a folder or a pipe, no file): take it out")
        # given a path, Pillow would map an uncompressed TIFF, and scramble one that lies
        with path.open("rb") as file, warnings.catch_warnings():
            size = os.fstat(file.fileno()).st_size
            check_size(path, size)
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
        raise UserError(
            f"{path}: no image in one of the formats {', '.join(_FORMATS)}: convert it, "
            "or take it out"
        ) from error
    # damaged files make decoders raise nearly anything: OSError, SyntaxError, struct.error, ...
    except Exception as error:
        raise UserError(
            f"{path}: cannot be decoded ({error}): copy it again, or take it out"
        ) from error


def check_size(path: Path, size: int) -> None:
    """Refuse a file of more than `MAX_BYTES` bytes.

    Raises:
        UserError: If it is larger.
    """
    if size > MAX_BYTES:
        raise UserError(
            f"{path}: a file of {size / 1e6:.0f} MB, expected at most {MAX_BYTES / 1e6:.0f}: "
            "save the image again, or take it out"
        )


def _fault(image: Image.Image, file_size: int) -> str:
    """Why an image must not be decoded; empty if it may be."""
    if image.width * image.height > MAX_PIXELS:
        return f"{image.width}x{image.height} pixels. {_too_large()}"
    # MPO is a JPEG that a camera has put a preview or a gain map behind
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        return "several frames, expected one: save the frame that was graded as an image"
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


def _decoder_bytes(image: Image.Image, file_size: int) -> int:
    """Memory that Pillow needs to decode an opened image, including its pixels."""
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


def _check_shape(resolution: int, channels: int) -> None:
    if resolution < 1 or channels not in (1, 3):
        raise UserError(
            f"got resolution {resolution} and {channels} channels: "
            "expected a resolution of at least 1, and 1 (grey) or 3 (RGB) channels"
        )
