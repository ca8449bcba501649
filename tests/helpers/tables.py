"""Trees of empty images for readers, and views of their tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from blastogan.data.readers import read_graded_images
from blastogan.data.records import GradedTable
from blastogan.errors import ProblemList


def write_images(root: Path, *names: str) -> Path:
    """Write placeholder images, as readers never open them."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def names(table: GradedTable) -> list[str]:
    return [record.path.relative_to(table.root).as_posix() for record in table.records]


def grades(table: GradedTable) -> list[str]:
    return [str(record.grade) for record in table.records]


def embryos(table: GradedTable) -> list[str]:
    return [record.embryo for record in table.records]


def problems(root: Path, format_: str = "auto") -> list[str]:
    with pytest.raises(ProblemList) as caught:
        read_graded_images(root, format_)
    return caught.value.problems
