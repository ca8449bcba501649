"""Readers of graded images: one small class for each layout on disk.

A further layout takes one class with the members of `Reader` and one line in `READERS`.
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path, PurePosixPath
from typing import Protocol

from blastogan.data.records import (
    IMAGE_SUFFIXES,
    NOT_GRADABLE,
    GradedTable,
    TableDraft,
    list_images,
)
from blastogan.errors import UserError
from blastogan.grades import Grade


class Reader(Protocol):
    """Reader of one layout.

    Attributes:
        format: Name by which a user asks for this reader.
        layout: What it reads, in half a sentence; shown when no reader knows a folder.
    """

    format: str
    layout: str

    def claims(self, root: Path) -> bool:
        """Whether the folder looks like this layout; cheap, and never raises for its content."""
        ...

    def read(self, root: Path) -> GradedTable:
        """Read the folder.

        Raises:
            UserError: If the folder has another layout.
            ProblemList: Listing every fault at once.
        """
        ...


class ClinicTableReader:
    """Reader of a clinic's table ``metadata.csv``, its cells separated by ``,`` or ``;``.

    Columns: filename and grade; folder, embryo_guid and embryo_ivf_id if there are any; others are
    ignored. The image is ``root/folder/filename``. The embryo is the embryo_guid, else that of
    another row with the same embryo_ivf_id, else the embryo_ivf_id, else the image itself.
    """

    format = "clinic"
    layout = "a table metadata.csv with the columns filename and grade"
    _FILE = "metadata.csv"

    def claims(self, root: Path) -> bool:
        """Whether there is a ``metadata.csv``."""
        return (root / self._FILE).is_file()

    def read(self, root: Path) -> GradedTable:
        """Read the table, see `Reader.read`."""
        table = root / self._FILE
        if not table.is_file():
            raise UserError(f"{table} is missing: put the table there, or ask for another format")
        draft = TableDraft(root, self.format)
        rows = _rows(table)
        guids: dict[str, str] = {}
        for _, row, _ in rows:
            guid, ivf_id = _identifier(row, "embryo_guid"), _identifier(row, "embryo_ivf_id")
            if guid and ivf_id:
                guids.setdefault(ivf_id, guid)
        for where, row, fault in rows:
            if fault:
                draft.problems.append(f"{where}: {fault}")
                continue
            guid, ivf_id = _identifier(row, "embryo_guid"), _identifier(row, "embryo_ivf_id")
            draft.add(where, _name(row), row["grade"], guid or guids.get(ivf_id, ivf_id))
        return draft.table()


class GradedNameReader:
    """Reader of images named ``<embryo>_<plane>_<grade>``, as in STORK (Khosravi et al. 2019).

    ``34107362_-15_3AA-.jpg`` shows embryo 34107362 in the focal plane -15. The plane, an integer,
    may be missing; a prefix ``good_`` or ``poor_`` is ignored; images may lie in subfolders.
    """

    format = "names"
    layout = "images named <embryo>_<plane>_<grade>, such as 34107362_-15_3AA-.jpg"
    _NAME = re.compile(
        r"((good|poor)_)?(?P<embryo>.+?)(_[+-]?\d+)?_(?P<grade>[^_]*)", re.IGNORECASE
    )

    def claims(self, root: Path) -> bool:
        """Whether at least half of the images have a grade at the end of their name."""
        images = list_images(root)
        matches = [self._NAME.fullmatch(PurePosixPath(name).stem) for name in images]
        graded = sum(match is not None and _is_grade(match["grade"]) for match in matches)
        return 0 < len(images) <= 2 * graded

    def read(self, root: Path) -> GradedTable:
        """Read the names of all images, see `Reader.read`."""
        draft = TableDraft(root, self.format)
        for name in draft.scan():
            match = self._NAME.fullmatch(PurePosixPath(name).stem)
            if match is None:
                draft.problems.append(f"{name}: not named <embryo>_<plane>_<grade>")
            else:
                draft.add(name, name, match["grade"], match["embryo"])
        return draft.table()


class ClassFolderReader:
    """Reader of one folder for each class: ``AA/``, ``ab/``, ``4BB/``; images may lie deeper in.

    Nothing tells which images show the same embryo, so each is taken for an embryo of its own.
    """

    format = "folders"
    layout = "one folder for each class, such as AA/ and AB/"

    def claims(self, root: Path) -> bool:
        """Whether an image lies in a folder named like a grade."""
        return any(_is_grade(name.partition("/")[0]) for name in list_images(root) if "/" in name)

    def read(self, root: Path) -> GradedTable:
        """Read the folders, see `Reader.read`."""
        draft = TableDraft(root, self.format)
        for name in draft.scan():
            folder, slash, _ = name.partition("/")
            if slash:
                draft.add(f"folder {folder}/", name, folder, "")
            else:
                draft.problems.append(f"{name}: lies in no class folder")
        return draft.table()


READERS: tuple[Reader, ...] = (
    ClinicTableReader(),
    GradedNameReader(),
    ClassFolderReader(),
)
"""Every known reader; of those that claim a folder, the first one reads it."""


def read_graded_images(root: str | Path, format: str = "auto") -> GradedTable:  # noqa: A002
    """Read the graded images of a folder.

    Args:
        root: The folder; nothing outside it is read.
        format: Name of a reader, or ``auto`` for the first that claims the folder.

    Returns:
        The table, with at least one record.

    Raises:
        UserError: If the folder is missing or has no graded image, or if no reader knows it.
        ProblemList: If it is of a known layout, with faults; all are listed.
    """
    root = Path(root)
    if not root.is_dir():
        got = "is a file" if root.exists() else "does not exist"
        raise UserError(f"{root} {got}: expected the folder that holds the graded images")
    images = list_images(root)
    if not images:
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
        raise UserError(
            f"{root} has no images: expected files ending in {suffixes} in it or its subfolders. "
            "Links to folders are not followed; unpack archives first"
        )
    readers = {reader.format: reader for reader in READERS}
    if format not in ("auto", *readers):
        raise UserError(f"unknown format {format!r}: expected auto, {', '.join(readers)}")
    if format == "auto":
        format = next((reader.format for reader in READERS if reader.claims(root)), "")  # noqa: A001
    if not format:
        layouts = "; ".join(f"{reader.format}: {reader.layout}" for reader in READERS)
        raise UserError(
            f"{root} has {len(images)} images, such as {', '.join(images[:3])}, "
            f"but no known layout. Known are {layouts}. "
            "Name the folder that holds the table or the class folders, or arrange the images so"
        )
    table = readers[format].read(root)
    if not table.records:
        raise UserError(f"no graded image is left: give some images a grade. {table.summary()}")
    return table


def _rows(table: Path) -> list[tuple[str, dict[str, str], str]]:
    """Place, stripped cells by column, and fault if it has any, of every row with content."""
    try:
        text = table.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{table} is no text in UTF-8 ({error}): save it as CSV UTF-8") from error
    separator = max(",;", key=text.partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text), delimiter=separator, strict=True)
    try:
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise UserError(
            f"{table} line {reader.line_num}: {error}; every quote that opens must close"
        ) from error
    columns = [column.lower() for column in lines[0][1]] if lines else []
    while columns and not columns[-1]:
        columns.pop()
    if not {"filename", "grade"} <= set(columns) or len(set(columns)) < len(columns):
        raise UserError(
            f"{table} has the columns {', '.join(columns) or '(none)'}: expected filename and "
            "grade, each column once; name them so, or ask for another format"
        )
    rows = []
    for number, cells in lines[1:]:
        short, long = len(cells) < len(columns), any(cells[len(columns) :])
        fault = f"{len(cells)} cells under {len(columns)} columns" if short or long else ""
        if any(cells):
            row = dict(zip(columns, cells, strict=False))
            rows.append((f"{table.name} line {number}", row, fault))
    return rows


def _name(row: dict[str, str]) -> str:
    """Posix path of a row's image below the root; empty without a filename."""
    # tables written on Windows separate folders by backslashes
    folder = row.get("folder", "").replace("\\", "/")
    filename = row["filename"].replace("\\", "/")
    return f"{folder}/{filename}" if folder and filename else filename


def _identifier(row: dict[str, str], column: str) -> str:
    value = row.get(column, "")
    return "" if value.upper() in NOT_GRADABLE else value


def _is_grade(text: str) -> bool:
    try:
        Grade.parse(text)
    except UserError:
        return False
    return True
