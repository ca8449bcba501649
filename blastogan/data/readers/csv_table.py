"""Reader of tables whose columns the user may name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from blastogan.data.readers.builder import TableBuilder
from blastogan.data.readers.cells import NOT_DEFINED, UNKNOWN, parse_grade, part_of, path_of
from blastogan.data.readers.options import ReaderOptions
from blastogan.data.readers.tables import SEPARATOR_HINT, Row, header_of, read_table
from blastogan.data.readers.tree import ImageTree
from blastogan.data.records import GradedTable
from blastogan.errors import UserError

SYNONYMS = {
    "image": ("image", "filename", "file", "path", "image_path", "file_name", "name"),
    "grade": ("grade", "gardner", "class", "label"),
    "icm": ("icm",),
    "te": ("te",),
    "expansion": ("expansion", "exp", "be"),
    "embryo": ("embryo", "embryo_id", "embryo_guid", "group", "patient", "patient_id"),
    "part": ("part", "split", "set"),
}
"""Names by which columns are recognised, by role, the likeliest first."""


class _Layout(NamedTuple):
    columns: Mapping[str, str]  # by role
    letters: bool  # whether the grade comes from the letters' own columns


class CSVTableReader:
    """Reader of any table with a row for each image.

    Columns are named by `ReaderOptions.columns`, else found by `SYNONYMS`: the image (path below
    the root, or its file name alone), a grade or the two letters, and optionally expansion, embryo
    and part. If a table has both a grade and letters, the columns that are not named fill in for
    unknown values, and must not contradict the others.
    """

    format = "csv"
    layout = "a CSV with a column for the image and one for the grade, or for icm and te"

    def claims(self, tree: ImageTree) -> bool:
        """Whether a table beside the images has such columns."""
        return bool(_candidates(tree))

    def read(self, tree: ImageTree, options: ReaderOptions) -> GradedTable:
        """Read the table, see `Reader.read`."""
        path = _table_path(tree, options)
        table = read_table(path)
        layout = _layout(path, table.columns, options.names_by_role)
        builder = TableBuilder(tree, self.format, options)
        builder.notes += table.notes
        for row in table.rows:
            if row.fault:
                name = path_of(row.cells.get(layout.columns["image"], ""))
                builder.reject(row.where, name, row.fault)
            else:
                _add(builder, row, layout)
        return builder.build()


def _add(builder: TableBuilder, row: Row, layout: _Layout) -> None:
    cells = {role: row.cells[column] for role, column in layout.columns.items()}
    name, embryo, part = path_of(cells["image"]), cells.get("embryo", ""), cells.get("part", "")
    known_part = part_of(part)
    grade, icm, te = cells.get("grade", ""), cells.get("icm", ""), cells.get("te", "")
    letters = layout.letters
    if known_part is None:
        builder.reject(row.where, name, f"part {part[:20]!r}, expected train, val or test")
        return
    if "grade" in cells and ("icm" in cells or "te" in cells):
        of_grade, of_columns = _letters_of(grade), (_letter(icm), _letter(te))
        if any(a and b and a != b for a, b in zip(of_grade, of_columns, strict=True)):
            got = f"grade {grade[:20]!r} contradicts ICM {icm[:20]!r} and TE {te[:20]!r}"
            builder.reject(row.where, name, f"{got}: correct the wrong one")
            return
        if letters:
            letters = not (all(of_grade) and UNKNOWN & {icm.upper(), te.upper()})
        else:
            letters = grade.upper() in UNKNOWN and all(of_columns)
    if letters:
        expansion = cells.get("expansion", "")
        builder.add_letters(row.where, name, icm, te, expansion, embryo, known_part)
    else:
        builder.add(row.where, name, grade, embryo, known_part)


def _letters_of(grade: str) -> tuple[str, str]:
    """Letters of ICM and TE; D if not defined, empty if the text is not a grade."""
    if grade.upper() == NOT_DEFINED:
        return "D", "D"
    parsed = parse_grade(grade)
    return (parsed.icm, parsed.te) if parsed else ("", "")


def _letter(text: str) -> str:
    """Letter of a cell; D if not defined, empty if the text is not a letter."""
    text = text.upper()
    if text == NOT_DEFINED:
        return "D"
    return text[0] if re.fullmatch("[A-D][+-]?", text) else ""


def _candidates(tree: ImageTree) -> list[str]:
    """Tables beside the images with known columns."""
    return [name for name in tree.tables if "/" not in name and _known(header_of(tree.root / name))]


def _known(columns: list[str]) -> bool:
    found = {role for role, names in SYNONYMS.items() if set(names) & set(columns)}
    return {"image", "grade"} <= found or {"image", "icm", "te"} <= found


def _table_path(tree: ImageTree, options: ReaderOptions) -> Path:
    if options.table is not None:
        for path in (tree.root / options.table, Path(options.table)):
            if path.is_file():
                return path
        where = f"{tree.root} or in the working directory"
        raise UserError(f"table is {options.table}, but there is no such file in {where}")
    names = _candidates(tree)
    if not names and options.columns:
        names = [name for name in tree.tables if "/" not in name]
    if len(names) != 1:
        got = f"has several tables, {', '.join(names)}" if names else "has no table of known layout"
        raise UserError(f"{tree.root} {got}: name the table, and its columns if needed")
    return tree.root / names[0]


def _layout(path: Path, found: tuple[str, ...], named: Mapping[str, str]) -> _Layout:
    """Column of each role, as named by the user or found by `SYNONYMS`."""
    columns = {role: name.strip().lower() for role, name in named.items()}
    missing = [f"{name} (for {role})" for role, name in named.items() if columns[role] not in found]
    if not missing:
        for role, names in SYNONYMS.items():
            for name in names:
                if name in found:
                    columns.setdefault(role, name)
        if "image" not in columns:
            missing = ["one for the image"]
        elif "grade" not in columns and not {"icm", "te"} <= set(columns):
            missing = ["one for the grade, or icm and te"]
    if missing:
        raise UserError(
            f"{path} has the columns {', '.join(found)}: missing {', '.join(missing)}. Name them "
            f"by the option columns, such as image=file,grade=score. {SEPARATOR_HINT}"
        )
    letters_named = {"icm", "te"} <= set(named) and "grade" not in named
    return _Layout(columns, letters_named or "grade" not in columns)
