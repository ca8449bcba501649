"""Phantoms as a graded set: records, and pictures drawn in several processes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from blastogan.data.phantoms import PhantomImages, phantom_grade
from blastogan.data.records import ImageRecord
from blastogan.data.workers import ignore_interrupt, unchanged
from blastogan.grades import Grade


def phantom_records(phantoms: PhantomImages) -> tuple[ImageRecord, ...]:
    """Records of phantoms, each an embryo of its own."""
    names = [f"phantom-{n:05d}" for n in range(len(phantoms))]
    return tuple(
        ImageRecord(path=Path(name), grade=phantom_grade(phantoms.seed, n), embryo=name)
        for n, name in enumerate(names)
    )


def render_phantoms(phantoms: PhantomImages, channels: int, num_workers: int) -> Tensor:
    """Draw phantoms in several processes.

    Returns:
        uint8 ``(N, channels, R, R)``, the same for any number of processes.
    """
    pictures = phantom_loader(phantoms, num_workers)
    grey = torch.stack([torch.from_numpy(picture) for picture, _ in pictures])
    return grey[:, None].expand(-1, channels, -1, -1).contiguous()


def phantom_loader(
    phantoms: PhantomImages, num_workers: int
) -> Iterable[tuple[NDArray[np.uint8], Grade]]:
    """Phantoms in order, drawn in several processes if there are many."""
    return DataLoader(
        cast("Dataset[Any]", phantoms),
        batch_size=None,
        num_workers=num_workers if len(phantoms) > 200 else 0,
        collate_fn=unchanged,
        worker_init_fn=ignore_interrupt,
        generator=torch.Generator(),
    )
