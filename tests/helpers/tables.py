"""Trees of files with names that readers know, and what they read."""

from __future__ import annotations

from pathlib import Path

import pytest

from blastogan.data.readers import read_graded_images
from blastogan.data.records import GradedTable
from blastogan.errors import ProblemList


def write_images(root: Path, *names: str) -> Path:
    """Files with the right names; a reader never opens them."""
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
