"""Decoding of image files into square uint8 arrays, and their mean pyramid."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from blastogan.data.records import ImageRecord
from blastogan.data.workers import ignore_interrupt, unchanged
from blastogan.errors import ProblemList, UserError
from blastogan.growth import is_power_of_two

MAX_PIXELS = 64_000_000
"""Largest image that is decoded, in pixels: 64 megapixels take 256 MB as RGBA."""

_FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
_CHUNK_VALUES = 2**22


def load_image(path: Path, resolution: int, channels: int) -> NDArray[np.uint8]:
    """Decode one image: upright, its centre square, resized once with antialiasing (Lanczos).

    Alpha is ignored; 16-bit grey is divided by 257; RGB becomes grey by ITU-R 601 luma.

    Args:
        path: PNG, JPEG, BMP or TIFF file, told by its content.
        resolution: Side of the result, in pixels.
        channels: 1 for grey, 3 for RGB.

    Returns:
        Array (channels, resolution, resolution), 0 to 255.

    Raises:
        UserError: If the file is no image, damaged, larger than `MAX_PIXELS`, animated, or of 32
            bits per value; or if `resolution` or `channels` cannot be.
    """
    _check_shape(resolution, channels)
    pixels = decode(path, channels)
    side = min(pixels.size)
    left, top = (pixels.width - side) // 2, (pixels.height - side) // 2
    square = pixels.resize(
        (resolution, resolution),
        Image.Resampling.LANCZOS,
        box=(left, top, left + side, top + side),
    )
    return to_chw(square)


def decode(path: Path, channels: int) -> Image.Image:
    """Decode one image of mode L or RGB: upright, at its own size, bounded as in `load_image`.

    Raises:
        UserError: As `load_image`.
    """
    try:
        with opened(path) as image:
            return _to_mode(ImageOps.exif_transpose(image), "L" if channels == 1 else "RGB")
    except UserError:
        raise
    # on damaged files, the decoders raise nearly anything: OSError, SyntaxError, struct.error, ...
    except Exception as error:
        raise UserError(
            f"{path}: cannot be decoded ({error}): copy it anew, or take it out"
        ) from error


def to_chw(image: Image.Image) -> NDArray[np.uint8]:
    """Pixels of an image of mode L or RGB, uint8 ``(C, H, W)``."""
    values = np.array(image).reshape(image.height, image.width, -1)
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def load_images(
    records: Sequence[ImageRecord], resolution: int, channels: int, num_workers: int = 0
) -> Tensor:
    """Decode the images of all records, see `load_image`.

    Args:
        records: The images.
        resolution: Side of the result, in pixels.
        channels: 1 for grey, 3 for RGB.
        num_workers: Processes that decode; 0 decodes in this one.

    Returns:
        Tensor (N, channels, resolution, resolution), uint8, in the order of `records`.

    Raises:
        ProblemList: Listing every file that cannot be decoded.
    """
    _check_shape(resolution, channels)
    images = torch.empty((len(records), channels, resolution, resolution), dtype=torch.uint8)
    loader = DataLoader(
        _Files([record.path for record in records], resolution, channels),
        batch_size=None,
        num_workers=min(num_workers, len(records)),
        # arrays go through a pipe; tensors would need shared memory, which containers are short of
        collate_fn=unchanged,
        worker_init_fn=ignore_interrupt,
        # without one of its own, the loader draws its seed from the global generator
        generator=torch.Generator(),
    )
    problems = []
    for position, item in enumerate(loader):
        if isinstance(item, str):
            problems.append(item)
        else:
            images[position] = torch.from_numpy(item)
    if problems:
        raise ProblemList("images cannot be decoded", problems, "Mend these files and try again.")
    return images


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
        UserError: If the images or `smallest` are none of these.
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


class _Files(Dataset[NDArray[np.uint8] | str]):
    """Decoded files; in place of one that cannot be decoded, the message that says why."""

    def __init__(self, paths: list[Path], resolution: int, channels: int) -> None:
        self._paths = paths
        self._resolution = resolution
        self._channels = channels

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> NDArray[np.uint8] | str:
        try:
            return load_image(self._paths[index], self._resolution, self._channels)
        except UserError as error:
            return str(error)


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """An image of which the header is read, and nothing yet decoded.

    Raises:
        UserError: If it must not be decoded: no image, too large, animated, 32 bits per value.
    """
    # by its path Pillow would map an uncompressed TIFF into memory, and scramble one that lies
    try:
        file = path.open("rb")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file: check the path") from error
    with file, _read_header(path, file) as image:
        yield image


def _read_header(path: Path, file: IO[bytes]) -> Image.Image:
    try:
        with warnings.catch_warnings():
            # the bound below is tighter than the one that this warns of
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(file, formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise UserError(f"{path}: {error} {_too_large()}") from error
    except UnidentifiedImageError as error:
        raise UserError(
            f"{path}: no image in one of the formats {', '.join(_FORMATS)}: convert it, "
            "or take it out"
        ) from error
    fault = ""
    if image.width * image.height > MAX_PIXELS:
        fault = f"{image.width}x{image.height} pixels. {_too_large()}"
    # MPO is a JPEG that a camera has put a preview or a gain map behind
    elif image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        fault = "several frames, expected one: save the frame that was graded as an image"
    elif image.mode in ("I", "F"):
        fault = "32 bits per value, expected 8 or 16: convert it, which fixes its white point"
    if fault:
        image.close()
        raise UserError(f"{path}: {fault}")
    return image


def _too_large() -> str:
    return f"At most {MAX_PIXELS / 1e6:g} megapixels are decoded: crop or shrink it"


def _to_mode(image: Image.Image, mode: str) -> Image.Image:
    """Decoded image as ``L`` or ``RGB``, 8 bits."""
    image.info.pop("transparency", None)
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    elif image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    return image.convert(mode)


def _check_shape(resolution: int, channels: int) -> None:
    if resolution < 1 or channels not in (1, 3):
        raise UserError(
            f"got resolution {resolution} and {channels} channels: "
            "expected a resolution of at least 1, and 1 (grey) or 3 (RGB) channels"
        )
