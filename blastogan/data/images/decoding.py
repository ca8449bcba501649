"""Decoding of image files into square uint8 arrays, and their mean pyramid."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import methodcaller
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from blastogan.data.images.framing import Circle, Crop, find_embryo
from blastogan.data.images.picture import Picture, decoder_bytes
from blastogan.data.records import ImageRecord
from blastogan.errors import ProblemList, UserError
from blastogan.growth import is_power_of_two
from blastogan.utils.workers import ignore_interrupt, unchanged

MAX_PIXELS = 64_000_000
"""Largest image that is decoded, in pixels: 64 megapixels take 256 MB as RGBA."""

MAX_BYTES = 512_000_000
"""Largest file that is opened: an uncompressed image of `MAX_PIXELS`, 16-bit RGBA."""

MAX_DECODER_BYTES = 384_000_000
"""Most memory that decoding may take, pixels and all that a decoder holds beside them."""

_FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
_MODES = frozenset(("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX"))
_CENTRE = Crop()
_SOUGHT_SIDE = 512
_CHUNK_VALUES = 2**22


def load_image(
    path: Path, resolution: int, channels: int, crop: Crop = _CENTRE
) -> NDArray[np.uint8]:
    """Decode one image: upright, one square of it, resized once with antialiasing (Lanczos).

    Alpha is ignored; 16-bit grey is divided by 257; RGB becomes grey by ITU-R 601 luma.

    Args:
        path: PNG, JPEG, BMP or TIFF file, told by its content.
        resolution: Side of the result, in pixels.
        channels: 1 for grey, 3 for RGB.
        crop: Which square; by default the largest in the middle.

    Returns:
        Array (channels, resolution, resolution), 0 to 255.

    Raises:
        UserError: If the file is no image, damaged, larger than `MAX_PIXELS` or `MAX_BYTES`,
            animated, of 32 bits per value, or of colours that are neither grey nor RGB; if its
            decoder takes more than `MAX_DECODER_BYTES`; or if `resolution` or `channels` cannot
            be.
    """
    return load_framed(path, resolution, channels, crop)[0]


def load_framed(
    path: Path, resolution: int, channels: int, crop: Crop
) -> tuple[NDArray[np.uint8], bool]:
    """As `load_image`, and whether the embryo was found; a crop at the centre seeks none.

    Where none is found, the square is that at the centre.

    Returns:
        Array (channels, resolution, resolution), 0 to 255; False where an embryo was sought and
        not found, otherwise True.

    Raises:
        UserError: As `load_image`.
    """
    _check_shape(resolution, channels)
    picture = read_picture(path, channels)
    seeks = crop.kind == "embryo"
    circle = _embryo(picture) if seeks else None
    left, top, side = crop.box(*picture.size, circle)
    box = left, top, left + side, top + side

    def square(part: Image.Image) -> NDArray[np.uint8]:
        shape = (resolution, resolution)
        return to_chw(part.resize(shape, Image.Resampling.LANCZOS, box=box))

    # unlike a loop, it lets go of a part before the next is made
    squares = list(map(square, picture.parts()))
    return np.concatenate(squares), circle is not None or not seeks


def _embryo(picture: Picture) -> Circle | None:
    """The embryo's circle, sought in a shrunken copy, so that a large image is not held twice."""
    factor = max(1, min(picture.size) // _SOUGHT_SIDE)
    if factor == 1:
        return find_embryo(np.asarray(picture.grey()))
    shrunken = _merged([*map(methodcaller("reduce", factor), picture.parts())])
    circle = find_embryo(np.asarray(shrunken.convert("L")))
    return circle and Circle(*(factor * value for value in circle))


def decode(path: Path, channels: int) -> Image.Image:
    """Decode one image of mode L or RGB: upright, at its own size, bounded as in `load_image`.

    Raises:
        UserError: As `load_image`.
    """
    return _merged(list(read_picture(path, channels).parts()))


def read_picture(path: Path, channels: int) -> Picture:
    """Decode one image, bounded as in `load_image`, and hold it once.

    Raises:
        UserError: As `load_image`.
    """
    try:
        with opened(path) as image:
            return Picture(image, "L" if channels == 1 else "RGB")
    except UserError:
        raise
    except Exception as error:
        raise _undecodable(path, error) from error


def _merged(parts: list[Image.Image]) -> Image.Image:
    return parts[0] if len(parts) == 1 else Image.merge("RGB", parts)


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
        crop: As in `load_image`.

    Returns:
        Tensor (N, channels, resolution, resolution), uint8, in the order of `records`.

    Raises:
        ProblemList: Listing every file that cannot be decoded.
    """
    _check_shape(resolution, channels)
    images = torch.empty((len(records), channels, resolution, resolution), dtype=torch.uint8)
    loader = DataLoader(
        _Files([record.path for record in records], resolution, channels, crop),
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

    def __init__(self, paths: list[Path], resolution: int, channels: int, crop: Crop) -> None:
        self._paths = paths
        self._resolution = resolution
        self._channels = channels
        self._crop = crop

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> NDArray[np.uint8] | str:
        try:
            return load_image(self._paths[index], self._resolution, self._channels, self._crop)
        except UserError as error:
            return str(error)


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """An image of which the header is read, and nothing yet decoded.

    Raises:
        UserError: If it must not be decoded: no image, too large, animated, 32 bits per value,
            colours other than grey and RGB.
    """
    # opening a pipe would wait for a writer
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: cannot be decoded (a folder or a pipe, no file): take it out")
    # by its path Pillow would map an uncompressed TIFF into memory, and scramble one that lies
    try:
        file = path.open("rb")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file: check the path") from error
    except OSError as error:
        raise _undecodable(path, error) from error
    with file, _read_header(path, file) as image:
        yield image


def _read_header(path: Path, file: IO[bytes]) -> Image.Image:
    size = os.fstat(file.fileno()).st_size
    if size > MAX_BYTES:
        raise UserError(
            f"{path}: a file of {size / 1e6:.0f} MB, expected at most {MAX_BYTES / 1e6:.0f}: "
            "save the image anew, or take it out"
        )
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
    except Exception as error:
        raise _undecodable(path, error) from error
    try:
        fault = _fault(image, size)
    except Exception as error:
        raise _undecodable(path, error) from error
    if fault:
        image.close()
        raise UserError(f"{path}: {fault}")
    return image


def _undecodable(path: Path, error: Exception) -> UserError:
    """On damaged files, decoders raise nearly anything: OSError, SyntaxError, struct.error, ..."""
    return UserError(f"{path}: cannot be decoded ({error}): copy it anew, or take it out")


def _fault(image: Image.Image, file_size: int) -> str:
    """Why an image must not be decoded, empty where it may be."""
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
    held = decoder_bytes(image, file_size)
    if held > MAX_DECODER_BYTES:
        return (
            f"decoding it takes {held / 1e6:.0f} MB, expected at most "
            f"{MAX_DECODER_BYTES / 1e6:.0f}: convert it to PNG, or to a JPEG that is not "
            "progressive"
        )
    return ""


def _too_large() -> str:
    return f"At most {MAX_PIXELS / 1e6:g} megapixels are decoded: crop or shrink it"


def _check_shape(resolution: int, channels: int) -> None:
    if resolution < 1 or channels not in (1, 3):
        raise UserError(
            f"got resolution {resolution} and {channels} channels: "
            "expected a resolution of at least 1, and 1 (grey) or 3 (RGB) channels"
        )
