"""A folder of images of any origin, real or fake, to be compared."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image
from torch import Tensor

from blastogan.data.batches import map_in_processes
from blastogan.data.images.colour import ColourRule
from blastogan.data.images.decoding import (
    check_shape,
    content_digest,
    decode,
    load_framed,
    opened,
    to_chw,
)
from blastogan.data.images.framing import Crop
from blastogan.data.readers import (
    ReaderOptions,
    has_known_layout,
    open_tree,
    read_graded_images,
)
from blastogan.errors import ProblemList, UserError, check_choice

_NONE = "no metrics by class"
_SIZES_SHOWN = 5
_GREY_MODES = ("1", "L", "LA", "La")
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap width and height

Image8 = NDArray[np.uint8]


class ImageSet:
    """The images of a folder and its subfolders, decoded batch by batch.

    The folder may hold raw micrographs or any program's output. Images of a graded set that a
    reader knows have labels and embryos; others have none, which is no fault.

    Args:
        root: The folder.
        resolution: Side in pixels to which the squares are resized, as for training; ``None``
            takes all images as they are, upright, and then they must be of one size.
        channels: 1 (grey) or 3 (RGB); ``None`` for grey if every file is grey.
        crop: Square that is shown, given a `resolution`; ``None`` for the centre.
        colour: What becomes of the colours, given a `resolution`, see `load_image`.

    Attributes:
        names: Posix paths below `root`, sorted; the index of an image is its position here.
        size: Width and height of the delivered images, in pixels.
        labels: int64 ``(N, 2)`` if every image has a grade, else ``None``.
        groups: Embryo of each image if there are `labels`, else ``None``.
        not_found: Images that show the centre because no embryo was found; ``None`` until all
            have been decoded, if embryos are sought.
        note: Why a graded set has no `labels`, else empty.

    Raises:
        UserError: If there are fewer than two images, or without `resolution` several sizes.
        ProblemList: Listing every file whose header shows that it cannot be decoded.
    """

    def __init__(
        self,
        root: str | Path,
        resolution: int | None = None,
        channels: int | None = None,
        crop: Crop | None = None,
        colour: ColourRule = "keep",
    ) -> None:
        check_shape(1 if resolution is None else resolution, 1 if channels is None else channels)
        check_choice("colour", colour, ColourRule)
        self.crop, self.colour = crop or Crop(), colour
        if resolution is None and (self.crop != Crop() or colour != "keep"):
            raise UserError(
                "a crop and a change of colour need a resolution to resize to: add a resolution, "
                "or leave them out"
            )
        self.root = Path(root)
        self.names = _names(self.root)
        sizes, greys = zip(*self._headers(), strict=True)
        self.resolution = resolution
        self.channels = channels or (1 if all(greys) else 3)
        self.size = (resolution, resolution) if resolution else _one_size(self.root, sizes)
        self.labels: Tensor | None = None
        self.groups: list[str] | None = None
        self.not_found = None if self.crop.kind == "embryo" else 0
        self.note = self._find_grades()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def lossy(self) -> bool:
        """Whether most files are JPEGs, whose compression affects metrics."""
        jpeg = sum(name.lower().endswith((".jpg", ".jpeg")) for name in self.names)
        return jpeg > len(self.names) / 2

    def fingerprint(self) -> str:
        """Digest of files, names, grades and embryos, and of resolution, channels, crop, colour."""
        digest = hashlib.blake2b(digest_size=16)
        for name in self.names:
            content = content_digest(self.root / name)
            digest.update(repr((name, content)).encode(errors="surrogatepass"))
        labels = None if self.labels is None else self.labels.tolist()
        rest: tuple[object, ...] = (
            self.resolution,
            self.channels,
            labels,
            self.groups,
            self.crop.key(),
        )
        # features that were cached before the rule existed are of the files' colours
        rest = rest if self.colour == "keep" else (*rest, self.colour)
        digest.update(repr(rest).encode(errors="surrogatepass"))
        return digest.hexdigest()

    def batches(self, batch_size: int, num_workers: int = 0) -> Iterator[dict[str, Tensor]]:
        """The images in the order of `names`.

        Args:
            batch_size: Images to a batch; the last may have fewer.
            num_workers: Processes that decode; 0 decodes in this one.

        Yields:
            ``image`` uint8 ``(B, C, H, W)``, ``index`` int64 ``(B,)``, and for a graded set
            ``labels`` int64 ``(B, 2)``.

        Raises:
            ProblemList: After the last file, listing every one that cannot be decoded.
        """
        paths = [self.root / name for name in self.names]
        crop = self.crop if self.resolution else None
        load = partial(
            _load_or_fault,
            size=self.size,
            channels=self.channels,
            crop=crop,
            colour=self.colour,
        )
        problems: list[str] = []
        gathered: list[Image8] = []
        not_found = 0
        for position, item in enumerate(map_in_processes(load, paths, num_workers)):
            if isinstance(item, str):
                problems.append(item)
                continue
            image, found = item
            not_found += not found
            # after the first fault, the rest is decoded only to list all faults
            if not problems:
                gathered.append(image)
            full = len(gathered) == batch_size or position + 1 == len(self)
            if full and not problems:
                yield self._batch(gathered, position + 1 - len(gathered))
                gathered = []
        self._refuse(problems)
        self.not_found = not_found

    def _refuse(self, problems: list[str]) -> None:
        if problems:
            raise ProblemList(
                f"images in {self.root} cannot be decoded",
                problems,
                "Fix these files or take them out, and try again.",
            )

    def _batch(self, images: list[Image8], start: int) -> dict[str, Tensor]:
        index = torch.arange(start, start + len(images))
        batch = {"image": torch.from_numpy(np.stack(images)), "index": index}
        return batch if self.labels is None else {**batch, "labels": self.labels[index]}

    def _headers(self) -> list[tuple[tuple[int, int], bool]]:
        headers, problems = [], []
        for name in self.names:
            try:
                headers.append(_header(self.root / name))
            except UserError as error:
                problems.append(str(error))
        self._refuse(problems)
        return headers

    def _find_grades(self) -> str:
        """Set labels and groups where every image has a grade; return why a graded set has none."""
        if not has_known_layout(self.root):
            return ""
        try:
            records = read_graded_images(self.root, ReaderOptions(ungraded="drop")).records
        except ProblemList as error:
            return f"{_NONE}, faults of the grades: {len(error.problems)}, {error.problems[0]}"
        except UserError as error:
            return f"{_NONE}, the grades cannot be read: {error}"
        by_file = {record.path.resolve(): record for record in records}
        found = [by_file.get((self.root / name).resolve()) for name in self.names]
        graded = [record for record in found if record is not None]
        if len(graded) < len(found):
            return f"{len(found) - len(graded)} of {len(found)} images have no grade: {_NONE}"
        self.labels = torch.tensor([record.grade.labels for record in graded], dtype=torch.int64)
        self.groups = [record.embryo for record in graded]
        return ""


def _names(root: Path) -> list[str]:
    names = open_tree(root).images
    if len(names) == 1:
        raise UserError(
            f"{root} has one image, {names[0]}: a distance between sets needs two or more, a "
            "meaningful one hundreds. Name the folder that holds them all"
        )
    return names


def _header(path: Path) -> tuple[tuple[int, int], bool]:
    """Width and height of the upright image, and whether its mode is grey."""
    with opened(path) as image:
        # the method of the PNG class would decode the whole image
        orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation)
        size = image.size
        # Pillow gives the upright size of a TIFF, and the stored size of others
        if orientation in _SIDEWAYS and image.format != "TIFF":
            size = size[::-1]
        return size, image.mode in _GREY_MODES or image.mode.startswith("I;16")


def _one_size(root: Path, sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    found = Counter(sizes)
    if len(found) == 1:
        return sizes[0]
    shown = [f"{x}x{y} ({count})" for (x, y), count in found.most_common(_SIZES_SHOWN)]
    more = f" and {len(found) - _SIZES_SHOWN} more" if len(found) > _SIZES_SHOWN else ""
    raise UserError(
        f"{root} has images of {len(found)} sizes, in pixels: {', '.join(shown)}{more}. A distance "
        "between mixed sizes measures the sizes: add --resolution R, which crops the centre "
        "square of each image and resizes it to R pixels, as training does"
    )


def _load_or_fault(
    path: Path, size: tuple[int, int], channels: int, crop: Crop | None, colour: ColourRule
) -> tuple[Image8, bool] | str:
    """See `load_framed`; without a crop the whole image. A fault is returned as a message."""
    try:
        if crop:
            return load_framed(path, size[0], channels, crop, colour)
        pixels = decode(path, channels)
    except UserError as error:
        return str(error)
    if pixels.size != size:
        got, expected = (f"{width}x{height}" for width, height in (pixels.size, size))
        return f"{path}: {got} pixels, expected {expected} from its header"
    return to_chw(pixels), True
