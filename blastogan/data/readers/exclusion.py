"""Images that a person leaves out of a set, listed in a table ``image,why``."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from blastogan.data.readers.tables import header_of, read_table
from blastogan.data.readers.tree import ImageTree
from blastogan.data.records import GradedTable
from blastogan.errors import ProblemList, UserError
from blastogan.utils.files import atomic_write

COLUMNS = ("image", "why")
"""Columns of the table; only ``image`` is required to read one."""


def write_exclude_file(path: str | Path, images: Mapping[str, str]) -> None:
    """Write why to leave out images, by posix path below the root, atomically."""
    with (
        atomic_write(path) as unfinished,
        unfinished.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(images.items())


def excluded_images(tree: ImageTree, file: str | None) -> frozenset[str]:
    """Posix paths below the root of the images that a file names; none without a file.

    Raises:
        UserError: If it is not such a table.
        ProblemList: If it names images that are not in the set; lists them all.
    """
    if file is None:
        return frozenset()
    path = Path(file)
    if not path.is_file():
        raise UserError(
            f"the file {path} of images to leave out does not exist: blastogan audit "
            "--write-exclude writes one"
        )
    table = read_table(path, own_names=tuple(header_of(path)) == COLUMNS)
    table.require(("image",), "Give a table like that of blastogan audit --write-exclude")
    names, problems = set(), []
    for row in table.rows:
        try:
            # a path may contain backslashes if it was edited on Windows
            names.add(tree.find(row.cells.get("image", "").replace("\\", "/")))
        except UserError as error:
            problems.append(f"{row.where}: {error}")
    if problems:
        raise ProblemList(
            f"{path} leaves out images that are not in {tree.root}",
            problems,
            "Correct or remove these rows, or give the folder that was audited.",
        )
    return frozenset(names)


def without_excluded(table: GradedTable, names: frozenset[str]) -> GradedTable:
    """The table without these images, which are counted as dropped."""
    if not names:
        return table
    root = table.root
    out = [each for each in table.records if each.path.relative_to(root).as_posix() in names]
    left_out = set(out)
    return replace(
        table,
        records=tuple(record for record in table.records if record not in left_out),
        dropped=(*table.dropped, *((name, "excluded by hand") for name in sorted(names))),
        unlisted=tuple(name for name in table.unlisted if name not in names),
        excluded=tuple(out),
    )
