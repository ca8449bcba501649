"""Inspection of image files: facts of each, or why it cannot be decoded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from blastogan.audit.duplicates import Fingerprint, hash_plane, image_fingerprint
from blastogan.audit.measures import ColourSample, Measures, measure_image
from blastogan.data.images.decoding import loaded, opened
from blastogan.errors import UserError
from blastogan.utils.workers import ignore_interrupt

_GREY = ("1", "L", "LA", "La")


class FileFacts(NamedTuple):
    """Facts of a decoded image.

    Attributes:
        size: Width and height in pixels, upright.
        mode: Pillow's mode, such as ``L``, ``RGB`` or ``I;16``.
        grey: Whether it is stored as RGB with equal channels.
        levels: Darkest and lightest grey, 0 to 255, ignoring a thousandth of the pixels at either
            end.
        fingerprint: For comparison with other images.
        measures: Light, colour, and what is in the frame.
    """

    size: tuple[int, int]
    mode: str
    grey: bool
    levels: tuple[int, int]
    fingerprint: Fingerprint
    measures: Measures


def inspect_file(path: Path) -> FileFacts:
    """Decode one image as training does; raises a `UserError` if that fails."""
    with opened(path) as header:
        mode = header.mode
    with loaded(path) as found:
        bands = "L" if mode in _GREY or mode.startswith("I;16") else "RGB"
        planes, sample = [], ColourSample()
        for band in bands:
            plane = found.plane(band)
            planes.append(hash_plane(plane))
            sample.add(band, plane)
        grey = found.plane("L")
    all_grey = mode == "RGB" and len(set(planes)) == 1
    print_ = image_fingerprint(planes, grey)
    measures = measure_image(grey, sample)
    return FileFacts(grey.size, mode, all_grey, _levels(grey), print_, measures)


def _levels(grey: Image.Image) -> tuple[int, int]:
    """Darkest and lightest grey of an image of mode L, see `FileFacts`."""
    below = np.cumsum(grey.histogram())
    ignored = below[-1] // 1000
    low, high = np.searchsorted(below, (ignored, below[-1] - ignored - 1), side="right")
    return int(low), int(high)


def inspect_files(paths: Sequence[Path], num_workers: int = 0) -> Iterator[FileFacts | str]:
    """Facts of each file in order, or the reason why it cannot be decoded."""
    loader: DataLoader[FileFacts | str] = DataLoader(
        paths,  # type: ignore[arg-type]
        batch_size=None,
        num_workers=min(num_workers, len(paths)),
        # no shared memory, and no draw from the global generator
        collate_fn=_inspected,  # type: ignore[arg-type]
        worker_init_fn=ignore_interrupt,
        generator=torch.Generator(),
    )
    yield from loader


def _inspected(path: Path) -> FileFacts | str:
    try:
        return inspect_file(path)
    except UserError as error:
        return str(error).removeprefix(f"{path}: ")
