"""Reader of tables whose columns the user may name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from blastogan.data.readers.builder import TableBuilder
from blastogan.data.readers.cells import UNKNOWN, is_not_gradable, parse_grade, part_of, path_of
from blastogan.data.readers.columns import SYNONYMS, EmbryoColumns, column_of
from blastogan.data.readers.options import ReaderOptions
from blastogan.data.readers.tables import SEPARATOR_HINT, Row, Table, header_of, read_table
from blastogan.data.readers.tree import ImageTree
from blastogan.data.records import GradedTable
from blastogan.errors import UserError


class _Layout(NamedTuple):
    columns: Mapping[str, str]  # by role, without the embryo
    letters: bool  # whether the grade comes from the letters' own columns
    embryos: EmbryoColumns


class CSVTableReader:
    """Reader of any table with a row for each image.

    Columns are named by `ReaderOptions.columns`, else found by `SYNONYMS` in any spelling: the
    image (path below the root, or its file name alone), a grade or the two letters, and optionally
    expansion, embryo and part. See `EmbryoColumns` for what tells embryos apart. If a table has
    both a grade and letters, the columns that are not named fill in for unknown values, and must
    not contradict the others.
    """

    format = "csv"
    layout = "a CSV with a column for the image and one for the grade, or for icm and te"

    def claims(self, tree: ImageTree, options: ReaderOptions) -> bool:
        """Whether a table beside the images has such columns."""
        return bool(_candidates(tree))

    def read(self, tree: ImageTree, options: ReaderOptions) -> GradedTable:
        """Read the table, see `Reader.read`."""
        path = _table_path(tree, options)
        table = read_table(path)
        layout = _layout(path, table, options.names_by_role)
        builder = TableBuilder(tree, self.format, options)
        builder.notes += filter(None, [*table.notes, layout.embryos.note])
        builder.embryos_by = str(layout.embryos)
        builder.split_by = f"the column {layout.columns.get('part', '')}"
        for row in table.rows:
            if row.fault:
                name = path_of(row.cells.get(layout.columns["image"], ""))
                builder.reject(row.where, name, row.fault)
            else:
                _add(builder, row, layout)
        return builder.build()


def _add(builder: TableBuilder, row: Row, layout: _Layout) -> None:
    cells = {role: row.cells[column] for role, column in layout.columns.items()}
    name, part = path_of(cells["image"]), cells.get("part", "")
    embryo = layout.embryos.embryo(row.cells)
    known_part = part_of(part)
    grade, icm, te = (cells.get(role, "") for role in ("grade", "icm", "te"))
    letters = layout.letters
    if known_part is None:
        builder.reject_value(row.where, name, f"part {part[:20]!r}, expected train, val or test")
        return
    if "grade" in cells and ("icm" in cells or "te" in cells):
        of_grade = _letters_of(builder.meaning(grade))
        of_columns = _letter(builder.meaning(icm)), _letter(builder.meaning(te))
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
    """Letters of ICM and TE; D if not gradable, empty if the text is not a grade."""
    if is_not_gradable(grade):
        return "D", "D"
    parsed = parse_grade(grade)
    return (parsed.icm, parsed.te) if parsed else ("", "")


def _letter(text: str) -> str:
    """Letter of a cell; D if not gradable, empty if the text is not a letter."""
    text = text.upper()
    if is_not_gradable(text):
        return "D"
    return text[0] if re.fullmatch("[A-D][+-]?", text) else ""


def _candidates(tree: ImageTree) -> list[str]:
    """Tables beside the images with known columns."""
    return [name for name in tree.tables if "/" not in name and _known(header_of(tree.root / name))]


def _known(columns: list[str]) -> bool:
    found = {role for role, names in SYNONYMS.items() if column_of(columns, names)}
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


def _layout(path: Path, table: Table, named: Mapping[str, str]) -> _Layout:
    """Column of each role, as named by the user or found by `SYNONYMS`."""
    columns = {role: name.strip().lower() for role, name in named.items()}
    embryos = [part.strip() for part in columns.pop("embryo", "").split("+") if part.strip()]
    wanted = [*columns.items(), *(("embryo", name) for name in embryos)]
    missing = [f"{name} (for {role})" for role, name in wanted if name not in ("", *table.columns)]
    if not missing:
        for role, names in SYNONYMS.items():
            if role not in named and role != "embryo":
                columns[role] = column_of(table.columns, names)
        columns = {role: name for role, name in columns.items() if name}
        if "image" not in columns:
            missing = ["one for the image"]
        elif "grade" not in columns and not {"icm", "te"} <= set(columns):
            missing = ["one for the grade, or icm and te"]
    if missing:
        raise UserError(
            f"{path} has the columns {', '.join(table.columns)}: missing {', '.join(missing)}. "
            "Name them by the option columns, such as image=file,grade=score. "
            f"{SEPARATOR_HINT}"
        )
    letters_named = {"icm", "te"} <= set(named) and "grade" not in named
    without = "embryo" in named and not embryos
    found = EmbryoColumns(() if without else table.columns, table.rows, embryos)
    return _Layout(columns, letters_named or "grade" not in columns, found)
