"""Decoding of image files into levels, each half the side of the one before, by processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from blastogan.data.images.decoding import load_framed, pyramid
from blastogan.data.images.framing import Crop
from blastogan.errors import UserError
from blastogan.growth import is_power_of_two
from blastogan.utils.terminal import track
from blastogan.utils.workers import ignore_interrupt, unchanged

SMALLEST = 4
"""Side of the last level in pixels, where the first is not smaller yet."""

Picture = dict[int, NDArray[np.uint8]]
"""One image at every level: uint8 ``(C, r, r)`` by resolution r in pixels."""


@dataclass(frozen=True)
class Plan:
    """How files become images.

    Args:
        resolution: Side of the first level in pixels, a power of two.
        channels: 1 (grey) or 3 (RGB).
        crop: Which square of the file is shown.

    Raises:
        UserError: If there are no such levels.
    """

    resolution: int
    channels: int
    crop: Crop

    def __post_init__(self) -> None:
        if not is_power_of_two(self.resolution) or self.channels not in (1, 3):
            raise UserError(
                f"got resolution {self.resolution} and {self.channels} channels: expected a "
                "resolution that is a power of two, and 1 (grey) or 3 (RGB) channels"
            )

    @property
    def smallest(self) -> int:
        """Side of the last level in pixels."""
        return min(SMALLEST, self.resolution)

    def shapes(self, count: int) -> dict[int, tuple[int, int, int, int]]:
        """Shape ``(count, C, r, r)`` of each level by its resolution, largest first."""
        halvings = (self.resolution // self.smallest).bit_length()
        sides = (self.resolution >> halving for halving in range(halvings))
        return {side: (count, self.channels, side, side) for side in sides}

    def nbytes(self, count: int) -> int:
        """Bytes of all levels of so many images."""
        return sum(int(np.prod(shape)) for shape in self.shapes(count).values())


class HashedFile(NamedTuple):
    """A file as it was when its content was hashed.

    Attributes:
        path: Where it is.
        size: Its bytes.
        stamp: What else changes when it is written to or replaced.
    """

    path: Path
    size: int
    stamp: tuple[int, ...]

    @classmethod
    def now(cls, path: Path) -> HashedFile:
        """A file as it is."""
        found = path.stat()
        return cls(path, found.st_size, (found.st_ino, found.st_mtime_ns))


@dataclass
class Contents:
    """What came out of the files, each named by the digest of its content.

    Attributes:
        digests: File of each row of the levels.
        faults: Why a file is in no row, by its digest; without its path.
        not_found: Rows that show the centre because no embryo was found.
    """

    digests: list[str] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)
    not_found: list[int] = field(default_factory=list)


def decode_files(
    files: Mapping[str, HashedFile], plan: Plan, num_workers: int, append: Callable[[Picture], None]
) -> Contents:
    """Decode all files, in order, and give on what can be decoded.

    Args:
        files: Files by digest.
        plan: How.
        num_workers: Processes that decode; 0 decodes in this one.
        append: Takes the pictures, a row each; they are held nowhere else.
    """
    contents = Contents()
    pictures = _pictures(list(files.values()), plan, num_workers)
    for digest, item in zip(files, track(pictures, len(files), "decoding images"), strict=True):
        if item.picture is None:
            contents.faults[digest] = item.fault
            continue
        append(item.picture)
        if not item.found:
            contents.not_found.append(len(contents.digests))
        contents.digests.append(digest)
    return contents


def recovered(
    faults: Mapping[str, str], files: Mapping[str, HashedFile], plan: Plan
) -> Iterator[Path]:
    """Files that can be decoded now, though they could not be when a store was built."""
    faulty = [files[digest] for digest in faults]
    for file, item in zip(faulty, _pictures(faulty, plan, 0), strict=True):
        if item.picture is not None:
            yield file.path


def decode_to_memory(
    files: Mapping[str, HashedFile], plan: Plan, num_workers: int
) -> tuple[Contents, dict[int, Tensor]]:
    """Decode all files into tensors ``(M, C, r, r)``, by resolution r."""
    levels = {
        side: torch.empty(shape, dtype=torch.uint8)
        for side, shape in plan.shapes(len(files)).items()
    }
    rows = iter(range(len(files)))

    def append(picture: Picture) -> None:
        row = next(rows)
        for side, pixels in picture.items():
            levels[side][row] = torch.from_numpy(pixels)

    contents = decode_files(files, plan, num_workers, append)
    return contents, {side: level[: len(contents.digests)] for side, level in levels.items()}


class _Item(NamedTuple):
    """A picture and whether the embryo was found in it, or else the fault."""

    picture: Picture | None
    found: bool
    fault: str


def _pictures(files: Sequence[HashedFile], plan: Plan, num_workers: int) -> Iterable[_Item]:
    return DataLoader(
        _Pictures(files, plan),
        batch_size=None,
        num_workers=min(num_workers, len(files)),
        # arrays go through a pipe; tensors would need shared memory, which containers are short of
        collate_fn=unchanged,
        worker_init_fn=ignore_interrupt,
        # without one of its own, the loader draws its seed from the global generator
        generator=torch.Generator(),
    )


class _Pictures(Dataset[Any]):
    def __init__(self, files: Sequence[HashedFile], plan: Plan) -> None:
        self._files = files
        self._plan = plan

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> _Item:
        path, plan = self._files[index].path, self._plan
        try:
            image, found = load_framed(path, plan.resolution, plan.channels, plan.crop)
            changed = HashedFile.now(path) != self._files[index]
        except UserError as error:
            return _Item(None, False, str(error).removeprefix(f"{path}: "))
        except OSError as error:
            return _Item(None, False, f"cannot be read ({error}): start again")
        if changed:
            return _Item(None, False, "changed while it was read: start again")
        levels = pyramid(torch.from_numpy(image)[None], plan.smallest)
        return _Item({side: level[0].numpy() for side, level in levels.items()}, found, "")
