"""Reader of tables whose columns the user may name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from blastogan.data.readers.clinic import path_of
from blastogan.data.readers.draft import NOT_DEFINED, UNKNOWN, TableBuilder
from blastogan.data.readers.options import ReaderOptions
from blastogan.data.readers.protocol import part_of
from blastogan.data.readers.tables import Row, header_of, read_table
from blastogan.data.readers.tree import Folder
from blastogan.data.records import GradedTable
from blastogan.errors import UserError
from blastogan.grades import Grade

SYNONYMS = {
    "image": ("image", "filename", "file", "path", "image_path", "file_name", "name"),
    "grade": ("grade", "gardner", "class", "label"),
    "icm": ("icm",),
    "te": ("te",),
    "expansion": ("expansion", "exp", "be"),
    "embryo": ("embryo", "embryo_id", "embryo_guid", "group", "patient", "patient_id"),
    "part": ("part", "split", "set"),
}
"""Names of columns that are known without being told, by role, the likeliest first."""


class _Layout(NamedTuple):
    """Columns by role, and whether the letters in columns of their own are read, not the grade."""

    columns: Mapping[str, str]
    apart: bool


class CSVTableReader:
    """Reader of any table with a row for each image.

    Columns are named by `ReaderOptions.columns`, else found by `SYNONYMS`: the image (path below
    the root, or its file name alone), and a grade or the two letters. Optional are expansion,
    embryo, and part of a published split. Where a grade and letters are there, those that are not
    named fill in for those that are not known, and must not contradict them.
    """

    format = "csv"
    layout = "a CSV with a column for the image and one for the grade, or for icm and te"

    def claims(self, folder: Folder) -> bool:
        """Whether a table beside the images has such columns."""
        return bool(_candidates(folder))

    def read(self, folder: Folder, reading: ReaderOptions) -> GradedTable:
        """Read the table, see `Reader.read`."""
        path = _table_path(folder, reading)
        table = read_table(path)
        layout = _layout(path, table.columns, reading.names_by_role)
        draft = TableBuilder(folder, self.format, reading)
        draft.notes += table.notes
        for row in table.rows:
            if row.fault:
                name = path_of(row.cells.get(layout.columns["image"], ""))
                draft.refuse(row.where, name, row.fault)
            else:
                _add(draft, row, layout)
        return draft.table()


def _add(draft: TableBuilder, row: Row, layout: _Layout) -> None:
    cells = {role: row.cells[column] for role, column in layout.columns.items()}
    name, embryo, part = path_of(cells["image"]), cells.get("embryo", ""), cells.get("part", "")
    known_part = part_of(part)
    grade, icm, te = cells.get("grade", ""), cells.get("icm", ""), cells.get("te", "")
    apart = layout.apart
    if known_part is None:
        draft.refuse(row.where, name, f"part {part[:20]!r}, expected train, val or test")
        return
    if "grade" in cells and ("icm" in cells or "te" in cells):
        of_grade, of_columns = _letters_of(grade), (_letter(icm), _letter(te))
        if any(a and b and a != b for a, b in zip(of_grade, of_columns, strict=True)):
            told = f"grade {grade[:20]!r}, but ICM {icm[:20]!r} and TE {te[:20]!r}"
            draft.refuse(row.where, name, f"{told}: mend what is wrong")
            return
        if apart:
            apart = not (all(of_grade) and UNKNOWN & {icm.upper(), te.upper()})
        else:
            apart = grade.upper() in UNKNOWN and all(of_columns)
    if apart:
        expansion = cells.get("expansion", "")
        draft.add_letters(row.where, name, icm, te, expansion, embryo, known_part)
    else:
        draft.add(row.where, name, grade, embryo, known_part)


@lru_cache(maxsize=4096)
def _letters_of(grade: str) -> tuple[str, str]:
    """Letters of ICM and TE; D where they are not defined, empty where the text is no grade."""
    if grade.upper() == NOT_DEFINED:
        return "D", "D"
    try:
        parsed = Grade.parse(grade)
    except UserError:
        return "", ""
    return parsed.icm, parsed.te


def _letter(text: str) -> str:
    """The letter of a cell, as `_letters_of`."""
    text = text.upper()
    if text == NOT_DEFINED:
        return "D"
    return text[0] if re.fullmatch("[A-D][+-]?", text) else ""


def _candidates(folder: Folder) -> list[str]:
    """Tables beside the images whose columns are known."""
    return [
        name for name in folder.tables if "/" not in name and _known(header_of(folder.root / name))
    ]


def _known(columns: list[str]) -> bool:
    found = {role for role, names in SYNONYMS.items() if set(names) & set(columns)}
    return {"image", "grade"} <= found or {"image", "icm", "te"} <= found


def _table_path(folder: Folder, reading: ReaderOptions) -> Path:
    if reading.table is not None:
        for path in (folder.root / reading.table, Path(reading.table)):
            if path.is_file():
                return path
        raise UserError(
            f"the table {reading.table} is no file, neither in {folder.root} nor here: check it"
        )
    names = _candidates(folder)
    if not names and reading.columns:
        names = [name for name in folder.tables if "/" not in name]
    if len(names) != 1:
        got = f"may be read by {', '.join(names)}" if names else "holds no table that is known"
        raise UserError(f"{folder.root} {got}: name the table, and its columns if needed")
    return folder.root / names[0]


def _layout(path: Path, found: tuple[str, ...], asked: Mapping[str, str]) -> _Layout:
    """The column of each role, and which of those for the grade are read."""
    columns = {role: name.strip().lower() for role, name in asked.items()}
    missing = [f"{name} (for {role})" for role, name in asked.items() if columns[role] not in found]
    if not missing:
        for role, names in SYNONYMS.items():
            known = next((name for name in names if name in found), None)
            if known is not None:
                columns.setdefault(role, known)
        if "image" not in columns:
            missing = ["one for the image"]
        elif "grade" not in columns and not {"icm", "te"} <= set(columns):
            missing = ["one for the grade, or icm and te"]
    if missing:
        raise UserError(
            f"{path} has the columns {', '.join(found)}: {', '.join(missing)} missing. Name them "
            "by the option columns, such as image=file,grade=score; columns are separated by a "
            "comma, semicolon, tab or |"
        )
    letters_asked = {"icm", "te"} <= set(asked) and "grade" not in asked
    return _Layout(columns, letters_asked or "grade" not in columns)
