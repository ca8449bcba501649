"""The split of a set as a file that can be given back: ``image,embryo,grade,part``."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from blastogan.data.readers.tables import header_of, read_table
from blastogan.data.records import PARTS, ImageRecord
from blastogan.errors import ProblemList, UserError
from blastogan.utils.files import atomic_write

COLUMNS = ("image", "embryo", "grade", "part")
"""Columns of a split file; only ``image`` and ``part`` are needed to give one back."""


def image_names(records: Sequence[ImageRecord], root: Path | None) -> list[str]:
    """How a split file names images: their posix paths below the root, or as they are without."""
    paths = [record.path if root is None else record.path.relative_to(root) for record in records]
    return [path.as_posix() for path in paths]


def write_split_file(
    path: Path,
    records: Sequence[ImageRecord],
    split: Mapping[str, Sequence[int]],
    root: Path | None,
) -> None:
    """Write a split, whole or not at all.

    Args:
        path: The file.
        records: The images.
        split: Positions in `records` by part.
        root: Folder of the images; ``None`` for phantoms.
    """
    names = image_names(records, root)
    rows = [
        (names[n], records[n].embryo, str(records[n].grade), part)
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


def read_split_file(path: str | Path) -> dict[str, str]:
    """Read a split.

    Args:
        path: A file as `write_split_file` writes it, or any table with its columns ``image`` and
            ``part``.

    Returns:
        ``train``, ``val`` or ``test`` by the posix path of an image below its root.

    Raises:
        UserError: If it is no such table.
        ProblemList: If rows are wrong; all are listed.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"the split file {path} does not exist: give the split.csv of a run")
    table = read_table(path, own_names=tuple(header_of(path)) == COLUMNS)
    table.require(("image", "part"), "Give the split.csv of a run, or a table of that form")
    parts: dict[str, str] = {}
    problems = []
    for row in table.rows:
        name, part = row.cells.get("image", ""), row.cells.get("part", "").lower()
        if row.fault or not name:
            problems.append(f"{row.where}: {row.fault or 'no image'}")
        elif part not in PARTS:
            problems.append(f"{row.where}: part {part[:20]!r}, expected {', '.join(PARTS)}")
        elif parts.setdefault(name, part) != part:
            problems.append(f"{row.where}: {name} is {part} here, but {parts[name]} before")
    if problems:
        raise ProblemList(
            f"the split file {path} cannot be used", problems, "Mend these rows, or take them out."
        )
    return parts
