"""Readers of graded images: one small class for each layout on disk.

A further layout takes one class with the members of `Reader` and one line in `READERS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from blastogan.data.readers.blasts_online import BlastsOnlineReader
from blastogan.data.readers.clinic import ClinicTableReader
from blastogan.data.readers.csv_table import CSVTableReader
from blastogan.data.readers.folders import ClassFolderReader
from blastogan.data.readers.kromp import KrompReader
from blastogan.data.readers.names import GradedNameReader
from blastogan.data.readers.nantes import NantesReader
from blastogan.data.readers.options import ReaderOptions
from blastogan.data.readers.protocol import Reader
from blastogan.data.readers.tables import header_of
from blastogan.data.readers.tree import IMAGE_SUFFIXES, Folder
from blastogan.data.records import GradedTable
from blastogan.errors import ProblemList, UserError
from blastogan.grades import CLASSES

__all__ = [
    "READERS",
    "Reader",
    "ReaderOptions",
    "claimed",
    "read_graded_images",
    "scan_graded_images",
]

READERS: tuple[Reader, ...] = (
    KrompReader(),
    NantesReader(),
    ClinicTableReader(),
    BlastsOnlineReader(),
    CSVTableReader(),
    GradedNameReader(),
    ClassFolderReader(),
)
"""Every known reader; of those that claim a folder, the first one reads it."""

_SHOWN = 300


def scan_graded_images(root: str | Path, reading: ReaderOptions | str = "auto") -> GradedTable:
    """Read the graded images of a folder; what is wrong with single rows is no error.

    Args:
        root: The folder; no image outside it is read.
        reading: How, or the name of a format.

    Returns:
        The table, with its `problems`; it may have no record.

    Raises:
        UserError: If the folder is missing or has no image, or if it cannot be read as a whole.
    """
    reading = reading if isinstance(reading, ReaderOptions) else ReaderOptions(format=reading)
    folder = open_folder(root)
    return _choose(folder, reading).read(folder, reading)


def read_graded_images(root: str | Path, reading: ReaderOptions | str = "auto") -> GradedTable:
    """As `scan_graded_images`, but every problem is an error.

    Returns:
        The table, with at least one record and no problem.

    Raises:
        UserError: If the folder is missing or has no graded image, or if no reader knows it.
        ProblemList: If it is of a known layout, with faults; all are listed.
    """
    table = scan_graded_images(root, reading)
    refuse_problems(table.root, table.format, table.problems)
    refuse_nothing(table)
    return table


def claimed(root: str | Path) -> bool:
    """Whether a reader knows the folder."""
    folder = open_folder(root)
    return any(reader.claims(folder) for reader in READERS)


def open_folder(root: str | Path) -> Folder:
    """The folder, if there are images in it.

    Raises:
        UserError: If it is missing or has no image.
    """
    root = Path(root)
    if not root.is_dir():
        got = "is a file" if root.exists() else "does not exist"
        raise UserError(f"{root} {got}: expected the folder that holds the graded images")
    folder = Folder(root)
    if not folder.images:
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
        others = ", ".join(f"{count} {suffix}" for suffix, count in folder.others.items())
        raise UserError(
            f"{root} has no images{f' but {others}, which are not read' if others else ''}: "
            f"expected files ending in {suffixes} in it or its subfolders. Links to folders are "
            "not followed; unpack archives first"
        )
    return folder


def refuse_problems(root: Path, format_: str, problems: Sequence[str]) -> None:
    """Raise a `ProblemList` if there are problems."""
    if problems:
        raise ProblemList(
            f"{root} (format {format_}) cannot be read as it is",
            problems,
            "Mend these or take them out; blastogan audit lists them all. Grades are "
            f"{', '.join(CLASSES)}, with an expansion digit, + or - if known (4AB, 3AA-); ND if "
            "not gradable yet; NA, ? or nothing if unknown. Images lie in this folder, or are "
            "copied into it.",
        )


def refuse_nothing(table: GradedTable) -> None:
    """Raise a `UserError` if there is no graded image."""
    if not table.records:
        raise UserError(f"no graded image is left: give some images a grade. {table.summary()}")


def _choose(folder: Folder, reading: ReaderOptions) -> Reader:
    readers = {reader.format: reader for reader in READERS}
    format_ = reading.format
    if format_ not in ("auto", *readers):
        raise UserError(f"unknown format {format_!r}: expected auto, {', '.join(readers)}")
    if reading.names_a_table and format_ not in ("auto", CSVTableReader.format):
        raise UserError(
            f"table and columns are options of the format csv, but the format is {format_}: "
            "leave one of them out"
        )
    if format_ == "auto" and reading.names_a_table:
        format_ = CSVTableReader.format
    if format_ != "auto":
        return readers[format_]
    for reader in READERS:
        if reader.claims(folder):
            return reader
    layouts = "; ".join(f"{reader.format}: {reader.layout}" for reader in READERS)
    raise UserError(
        f"{folder.root} has {len(folder.images)} images, such as {', '.join(folder.images[:3])}, "
        f"but no known layout. {_tables(folder)}Known are {layouts}. "
        "Name the folder that holds the table or the class folders, or arrange the images so"
    )


def _tables(folder: Folder) -> str:
    """Of tables that are not known, what a user would have to tell."""
    headers = {name: header_of(folder.root / name) for name in folder.tables if "/" not in name}
    told = [
        f"{name} has the columns {', '.join(columns)[:_SHOWN]}"
        for name, columns in headers.items()
        if len(columns) > 1
    ]
    if not told:
        return ""
    return (
        f"{'; '.join(told[:3])}: if the grades are in there, name its columns by the option "
        "columns, such as image=file,grade=score. "
    )
