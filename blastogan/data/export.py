"""Synthetic images as files: a folder for each class, and a table in the clinic's columns."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from blastogan.data.readers.tree import TABLE
from blastogan.grades import CLASSES, Grade
from blastogan.utils.files import atomic_write
from blastogan.utils.sheets import image_sheet, to_hwc

_NAMES = ("folder", "filename", "embryo_ivf_id", "embryo_guid")
COLUMNS = (*_NAMES, "stage", "guid", "thawed", "grade")
"""Columns of ``metadata.csv``, as in the clinic's own table."""

_BETWEEN = ("filename", "latent", "from", "to", "share")

Kind = Literal["generated", "phantom"]

UNGRADED = "ungraded"
"""Folder of images without a grade."""


def write_image(
    root: Path, kind: Kind, index: int, grade: str | None, image: NDArray[np.uint8]
) -> Path:
    """Write an image, see `write_png`, as ``GRADE/KIND-INDEX.png``; without a grade, `UNGRADED`."""
    return write_png(root / (grade or UNGRADED) / f"{kind}-{index:06d}.png", image)


def write_png(path: Path, image: NDArray[np.uint8]) -> Path:
    """Write an image uint8 ``(H, W)`` or ``(H, W, 3)`` atomically."""
    with atomic_write(path, durable=False) as part:
        Image.fromarray(image).save(part, format="PNG")
    return path


def write_table(root: Path, kind: Kind) -> Path:
    """Write ``metadata.csv`` for the images in `root`; each counts as an embryo of its own."""
    return write_rows(root / TABLE, COLUMNS, _rows(root, kind))


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write a table atomically; missing values stay empty."""
    with atomic_write(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def _rows(root: Path, kind: Kind) -> Iterable[dict[str, str]]:
    files = [file for name in (*CLASSES, UNGRADED) for file in (root / name).glob(f"{kind}-*.png")]
    for file in sorted(files, key=lambda each: each.name):
        yield {
            "folder": file.parent.name,
            "filename": file.name,
            "embryo_ivf_id": file.stem,
            "embryo_guid": file.stem,
            "stage": kind,
            "grade": "" if file.parent.name == UNGRADED else file.parent.name,
        }


def write_between(root: Path, images: Tensor, start: str, end: str) -> Path:
    """Write images from grade `start` to `end`, a table of them, and a sheet; returns its path.

    Args:
        root: Folder of the set.
        images: uint8 ``(latents, steps, C, R, R)``.
        start: Grade of the first step.
        end: Grade of the last step.
    """
    shares = [step / (images.shape[1] - 1) for step in range(images.shape[1])]
    rows = []
    for latent, path in enumerate(images):
        for step, image in enumerate(path):
            name = f"generated-{latent:06d}-step-{step:02d}.png"
            write_png(root / name, to_hwc(image))
            share = f"{shares[step]:.4g}"
            rows.append(dict(zip(_BETWEEN, (name, latent, start, end, share), strict=True)))
    write_rows(root / "between.csv", _BETWEEN, rows)
    sheet = image_sheet(
        images.flatten(0, 1),
        len(shares),
        caption=f"Generated, from {start} to {end}: one latent per row",
        titles=[f"{share:.0%} {end}" for share in shares],
    )
    return write_png(root / f"from-{start}-to-{end}.png", np.asarray(sheet))


def write_predictions(folder: Path, prediction: Any, *, graded: bool) -> None:
    """Write a batch of `BaseGANModule.predict_step`; without `graded`, its images have no grade."""
    images, labels, index = (prediction[name] for name in ("image", "labels", "index"))
    for image, both, n in zip(images.cpu(), labels.tolist(), index.tolist(), strict=True):
        grade = Grade.from_labels(*both).name if graded else None
        write_image(folder, "generated", n, grade, to_hwc(image))
