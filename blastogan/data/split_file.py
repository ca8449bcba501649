"""Split of a set as a table ``image,embryo,grade,part``."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from blastogan.data.readers.tables import header_of, read_table
from blastogan.data.records import PARTS, ImageRecord
from blastogan.errors import ProblemList, UserError
from blastogan.grades import UNGRADED, Grade
from blastogan.utils.files import atomic_write

COLUMNS = ("image", "embryo", "grade", "part")
"""Columns of a split file; only ``image`` and ``part`` are required to read one."""


def image_names(records: Sequence[ImageRecord], root: Path | None) -> list[str]:
    """Names of images in a split file: posix paths, below the root if there is one."""
    paths = [record.path if root is None else record.path.relative_to(root) for record in records]
    return [path.as_posix() for path in paths]


def write_split_file(
    path: Path,
    records: Sequence[ImageRecord],
    split: Mapping[str, Sequence[int]],
    root: Path | None,
) -> None:
    """Write a split, as positions in `records` by part, atomically.

    `root` is the folder of the images, ``None`` for phantoms.
    """
    names = image_names(records, root)
    rows = [
        (names[n], records[n].embryo, _written(records[n].grade), part)
        for part in PARTS
        for n in split.get(part, ())
    ]
    with (
        atomic_write(path) as unfinished,
        unfinished.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(rows)


def _written(grade: Grade) -> str:
    return "" if grade == UNGRADED else str(grade)


def read_split_file(path: str | Path) -> dict[str, str]:
    """Read a split.

    Args:
        path: File of `write_split_file`, or any table with the columns ``image`` and ``part``.

    Returns:
        ``train``, ``val`` or ``test`` by posix path of the image below its root.

    Raises:
        UserError: If it is not such a table.
        ProblemList: If rows are invalid; lists them all.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"the split file {path} does not exist: give the split.csv of a run")
    table = read_table(path, own_names=tuple(header_of(path)) == COLUMNS)
    table.require(("image", "part"), "Give the split.csv of a run, or a table like it")
    parts: dict[str, str] = {}
    problems = []
    for row in table.rows:
        name, part = row.cells.get("image", ""), row.cells.get("part", "").lower()
        if row.fault or not name:
            problems.append(f"{row.where}: {row.fault or 'no image name'}")
        elif part not in PARTS:
            problems.append(f"{row.where}: part {part[:20]!r}, expected {', '.join(PARTS)}")
        elif parts.setdefault(name, part) != part:
            problems.append(f"{row.where}: {name} is {part}, but {parts[name]} in an earlier row")
    if problems:
        raise ProblemList(
            f"the split file {path} has invalid rows", problems, "Fix or remove these rows."
        )
    return parts
