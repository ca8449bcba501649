"""Image files opened one by one: what each is, or why it cannot be decoded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from blastogan.data.duplicates import Fingerprint, fingerprint
from blastogan.data.images import decode, opened
from blastogan.data.workers import ignore_interrupt, unchanged
from blastogan.errors import UserError


class FileFacts(NamedTuple):
    """What is known of a decoded image.

    Attributes:
        size: Width and height in pixels, upright.
        mode: Pillow's name of how its values are stored, such as ``L``, ``RGB`` or ``I;16``.
        grey: Whether its channels are equal, although it is stored as RGB.
        print: By which it is compared.
    """

    size: tuple[int, int]
    mode: str
    grey: bool
    print: Fingerprint


def inspect_file(path: Path) -> FileFacts:
    """Decode one image, as training does.

    Raises:
        UserError: As `decode`.
    """
    with opened(path) as header:
        mode = header.mode
    image = decode(path, channels=3)
    grey = False
    if mode == "RGB":
        values = np.asarray(image)
        grey = bool((values == values[..., :1]).all())
    return FileFacts(image.size, mode, grey, fingerprint(image))


def inspect_files(paths: Sequence[Path], num_workers: int = 0) -> Iterator[FileFacts | str]:
    """Facts of each file in order; in place of one that cannot be decoded, the reason.

    Args:
        paths: The files.
        num_workers: Processes that decode; 0 decodes in this one.
    """
    loader = DataLoader(
        _Files(paths),
        batch_size=None,
        num_workers=min(num_workers, len(paths)),
        # as in `load_images`: no shared memory, and no draw from the global generator
        collate_fn=unchanged,
        worker_init_fn=ignore_interrupt,
        generator=torch.Generator(),
    )
    yield from loader


class _Files(Dataset[FileFacts | str]):
    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> FileFacts | str:
        path = self._paths[index]
        try:
            return inspect_file(path)
        except UserError as error:
            return str(error).removeprefix(f"{path}: ")
