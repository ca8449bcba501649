"""Synthetic images as files: a folder per class, and a table in the clinic's columns."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blastogan.files import written_whole
from blastogan.grades import CLASSES

COLUMNS = (
    "folder",
    "filename",
    "embryo_ivf_id",
    "embryo_guid",
    "stage",
    "guid",
    "thawed",
    "grade",
)
"""Columns of ``metadata.csv``, as the clinic's own table has them."""

TABLE = "metadata.csv"

Kind = Literal["generated", "phantom"]


def write_image(root: Path, kind: Kind, index: int, grade: str, image: NDArray[np.uint8]) -> Path:
    """Write ``GRADE/KIND-INDEX.png``, whole or not at all.

    Args:
        root: Folder of the set.
        kind: What the image is; part of its name, so that it stays known for what it is.
        index: Number of the image.
        grade: Its class.
        image: uint8 ``(H, W)`` or ``(H, W, 3)``.
    """
    path = root / grade / f"{kind}-{index:06d}.png"
    with written_whole(path) as part:
        Image.fromarray(image).save(part, format="PNG")
    return path


def write_table(root: Path, kind: Kind) -> Path:
    """Write ``metadata.csv`` for the images below `root`; each is an embryo of its own."""
    path = root / TABLE
    with written_whole(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(_rows(root, kind))
    return path


def _rows(root: Path, kind: Kind) -> Iterable[dict[str, str]]:
    files = [file for name in CLASSES for file in (root / name).glob(f"{kind}-*.png")]
    for file in sorted(files, key=lambda each: each.name):
        yield {
            "folder": file.parent.name,
            "filename": file.name,
            "embryo_ivf_id": file.stem,
            "embryo_guid": file.stem,
            "stage": kind,
            "grade": file.parent.name,
        }
