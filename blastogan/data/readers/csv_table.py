"""Reader of tables whose columns the user may name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from blastogan.data.draft import TableDraft
from blastogan.data.folder import Folder
from blastogan.data.readers.clinic import path_of
from blastogan.data.readers.protocol import part_of
from blastogan.data.readers.tables import Row, header_of, read_table
from blastogan.data.reading import Reading
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
"""Names of columns that are known without being told, by role, the likeliest first."""


class CSVTableReader:
    """Reader of any table with a row for each image.

    Columns are named by `Reading.columns`, else found by `SYNONYMS`: the image (path below the
    root), and a grade or the two letters. Optional are expansion, embryo, and part of a published
    split.
    """

    format = "csv"
    layout = "a CSV with a column for the image and one for the grade, or for icm and te"

    def claims(self, folder: Folder) -> bool:
        """Whether a table beside the images has such columns."""
        return bool(_candidates(folder))

    def read(self, folder: Folder, reading: Reading) -> GradedTable:
        """Read the table, see `Reader.read`."""
        path = _table_path(folder, reading)
        table = read_table(path)
        columns = _columns(path, table.columns, reading.names_by_role)
        draft = TableDraft(folder, self.format, reading)
        draft.notes += table.notes
        for row in table.rows:
            if row.fault:
                draft.problems.append(f"{row.where}: {row.fault}")
            else:
                _add(draft, row, columns)
        return draft.table()


def _add(draft: TableDraft, row: Row, columns: Mapping[str, str]) -> None:
    cells = {role: row.cells[column] for role, column in columns.items()}
    part = part_of(cells.get("part", ""))
    if part is None:
        draft.problems.append(
            f"{row.where}: part {cells['part'][:20]!r}, expected train, val or test"
        )
        return
    name, embryo = path_of(cells["image"]), cells.get("embryo", "")
    if "grade" in cells:
        draft.add(row.where, name, cells["grade"], embryo, part)
    else:
        expansion = cells.get("expansion", "")
        draft.add_letters(row.where, name, cells["icm"], cells["te"], expansion, embryo, part)


def _candidates(folder: Folder) -> list[str]:
    """Tables beside the images whose columns are known."""
    return [
        name for name in folder.tables if "/" not in name and _known(header_of(folder.root / name))
    ]


def _known(columns: list[str]) -> bool:
    found = {role for role, names in SYNONYMS.items() if set(names) & set(columns)}
    return {"image", "grade"} <= found or {"image", "icm", "te"} <= found


def _table_path(folder: Folder, reading: Reading) -> Path:
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


def _columns(path: Path, found: tuple[str, ...], asked: Mapping[str, str]) -> dict[str, str]:
    """Column of each role."""
    columns = {role: name.strip().lower() for role, name in asked.items()}
    missing = [f"{name} (for {role})" for role, name in asked.items() if columns[role] not in found]
    if not missing:
        for role, names in SYNONYMS.items():
            known = next((name for name in names if name in found), None)
            if known is not None:
                columns.setdefault(role, known)
        if "grade" in asked or ("grade" in columns and not {"icm", "te"} <= set(asked)):
            columns.pop("icm", None)
            columns.pop("te", None)
        else:
            columns.pop("grade", None)
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
    return columns
