"""Readers of graded images: one small class for each layout on disk.

To add a layout, write a class with the members of `Reader` in a file here, and add it to `READERS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from blastogan.data.readers.blasts_online import BlastsOnlineReader
from blastogan.data.readers.clinic import ClinicTableReader
from blastogan.data.readers.csv_table import CSVTableReader
from blastogan.data.readers.exclusion import excluded_images, without_excluded
from blastogan.data.readers.folders import ClassFolderReader
from blastogan.data.readers.kromp import KrompReader
from blastogan.data.readers.names import GradedNameReader
from blastogan.data.readers.nantes import NantesReader
from blastogan.data.readers.options import ReaderOptions
from blastogan.data.readers.tree import IMAGE_SUFFIXES, ImageTree
from blastogan.data.readers.ungraded import UngradedReader, possible_tables
from blastogan.data.records import GradedTable
from blastogan.errors import ProblemList, UserError
from blastogan.grades import CLASSES

__all__ = [
    "READERS",
    "Reader",
    "ReaderOptions",
    "has_known_layout",
    "read_graded_images",
    "scan_graded_images",
]


class Reader(Protocol):
    """Reader of one layout, selected by its `format`; `TableBuilder` collects images and faults."""

    format: str
    layout: str
    """Short description, shown when no reader recognises a folder."""

    def claims(self, tree: ImageTree, options: ReaderOptions) -> bool:
        """Whether the folder looks like this layout; cheap, and never raises for its content."""
        ...

    def read(self, tree: ImageTree, options: ReaderOptions) -> GradedTable:
        """Read the folder; faults of rows and files go to the table's `problems`.

        Raises:
            UserError: If the folder as a whole has another layout.
        """
        ...


READERS: tuple[Reader, ...] = (
    KrompReader(),
    NantesReader(),
    ClinicTableReader(),
    BlastsOnlineReader(),
    CSVTableReader(),
    GradedNameReader(),
    ClassFolderReader(),
    UngradedReader(),
)
"""The first that claims a folder reads it."""


def scan_graded_images(root: str | Path, options: ReaderOptions | str = "auto") -> GradedTable:
    """Read the graded images of a folder, tolerating faulty rows and files.

    Images outside the folder are never read. The table may be empty.

    Raises:
        UserError: If the folder is missing or has no image, or if it cannot be read as a whole.
        ProblemList: If images to be left out are not in the set.
    """
    if isinstance(options, str):
        options = ReaderOptions(format=options)
    tree = open_tree(root)
    excluded = excluded_images(tree, options.exclude)
    return without_excluded(_choose(tree, options).read(tree, options), excluded)


def read_graded_images(root: str | Path, options: ReaderOptions | str = "auto") -> GradedTable:
    """Like `scan_graded_images`, but an empty table or any problem is an error.

    Raises:
        UserError: If the folder is missing or has no graded image, or if no reader recognises it.
        ProblemList: If rows or files are faulty; lists them all.
    """
    table = scan_graded_images(root, options)
    reject_problems(table.root, table.format, table.problems)
    reject_empty(table)
    return table


def has_known_layout(root: str | Path) -> bool:
    """Whether a reader of grades recognises the folder."""
    tree, options = open_tree(root), ReaderOptions(ungraded="drop")
    return any(reader.claims(tree, options) for reader in READERS)


def open_tree(root: str | Path) -> ImageTree:
    """List the files of a folder; raises a `UserError` if it is missing or has no image."""
    root = Path(root)
    if not root.is_dir():
        got = "is a file" if root.exists() else "does not exist"
        raise UserError(f"{root} {got}: expected a folder of images")
    tree = ImageTree(root)
    if not tree.images:
        others = ", ".join(f"{count} {suffix}" for suffix, count in tree.others.items())
        raise UserError(
            f"{root} has no images{f' but {others}, which are not supported' if others else ''}: "
            f"expected files ending in {', '.join(sorted(IMAGE_SUFFIXES))} in it or its "
            "subfolders. Links to folders are not followed; unpack archives first"
        )
    return tree


def reject_problems(root: Path, format_: str, problems: Sequence[str]) -> None:
    """Raise a `ProblemList` if there are problems."""
    if problems:
        raise ProblemList(
            f"{root} (format {format_}) has faulty rows or files",
            problems,
            "Fix or remove them; blastogan audit lists them all. Grades are "
            f"{', '.join(CLASSES)}, with an expansion digit, + or - if known (4AB, 3AA-); ND if "
            "not gradable yet; NA, ? or nothing if unknown; say what other values mean by "
            "grade_map, such as 'EB=ND,1=AA'. Images must lie in this folder; copy those from "
            "elsewhere into it.",
        )


def reject_empty(table: GradedTable) -> None:
    """Raise a `UserError` if there is no image."""
    if not table.records:
        raise UserError(f"no graded image is left: grade some images. {table.summary()}")


def _choose(tree: ImageTree, options: ReaderOptions) -> Reader:
    readers = {reader.format: reader for reader in READERS}
    format_ = options.format
    if format_ not in ("auto", *readers):
        raise UserError(f"unknown format {format_!r}: expected auto, {', '.join(readers)}")
    if options.selects_csv:
        if format_ not in ("auto", CSVTableReader.format):
            got = f"the format is {format_}: omit one of them"
            raise UserError(f"table and columns are options of the format csv, but {got}")
        format_ = CSVTableReader.format
    if format_ != "auto":
        return readers[format_]
    claiming = next((reader for reader in READERS if reader.claims(tree, options)), None)
    if claiming is not None:
        return claiming
    layouts = "; ".join(f"{reader.format}: {reader.layout}" for reader in READERS)
    raise UserError(
        f"{tree.root} has {len(tree.images)} images, such as {', '.join(tree.images[:3])}, "
        f"but no known layout. {possible_tables(tree)}Known layouts are {layouts}. "
        "Give the folder that holds the table or the class folders, or arrange the images so. "
        "To use images without grades, set format to ungraded, and ungraded to use (the default)"
    )
