"""Roles of the columns of a table, found by their names, and what tells embryos apart."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from blastogan.data.readers.cells import embryo_name
from blastogan.data.readers.tables import Row

SYNONYMS = {
    "image": ("image", "filename", "file", "path", "imagepath", "name", "imagename", "imagefile"),
    "grade": ("grade", "gardner", "gardnergrade", "class", "label"),
    "icm": ("icm",),
    "te": ("te",),
    "expansion": ("expansion", "exp", "be"),
    "embryo": (
        *("embryo", "embryoid", "embryoguid", "embryono", "embryonr", "embryonumber"),
        *("embryoname", "embryoindex", "group"),
    ),
    "part": ("part", "split", "set"),
}
"""Names of columns by role, as `spelled`, the likeliest first."""

PATIENTS = ("patient", "patientid", "patientno", "patientnr", "patientnumber", "cycle", "cycleid")
"""Names of columns of what has several embryos, as `spelled`."""


def spelled(name: str) -> str:
    """A column's name without what spellings differ in: ``embryono`` for ``Embryo No.``."""
    return re.sub(r"[\W_]+", "", name.casefold())


def column_of(columns: Iterable[str], names: Sequence[str]) -> str:
    """The column that has the likeliest of these names; empty without one."""
    found: dict[str, str] = {}
    for column in columns:
        found.setdefault(spelled(column), column)
    return next((found[name] for name in names if name in found), "")


class EmbryoColumns:
    """What tells embryos apart in a table: a column, or several together.

    Embryos that are numbered within each patient are identified by both columns.

    Args:
        columns: Names of all columns.
        rows: The rows.
        named: Columns that the user named; empty to find them.

    Attributes:
        columns: The columns that count; empty without any.
        note: What was assumed, else empty.
    """

    def __init__(
        self, columns: Sequence[str], rows: Sequence[Row], named: Sequence[str] = ()
    ) -> None:
        self.note = ""
        patient = column_of(columns, PATIENTS)
        embryo = column_of(columns, SYNONYMS["embryo"])
        self.columns = tuple(named) or tuple(filter(None, [embryo or patient]))
        if len(self.columns) != 1 or not patient or patient == self.columns[0]:
            return
        embryo = self.columns[0]
        pairs = {(row.cells.get(patient, ""), row.cells.get(embryo, "")) for row in rows}
        pairs = {pair for pair in pairs if all(map(embryo_name, pair))}
        repeated = len(pairs) - len({name for _, name in pairs})
        if repeated and not named:
            self.columns = (patient, embryo)
        if repeated:
            told = "embryos are identified by both" if not named else "they count as one embryo"
            self.note = (
                f"values of the column {embryo} occur with several values of {patient}: {told}"
                + (f" (columns embryo={patient}+{embryo} tells them apart)" if named else "")
            )

    def __str__(self) -> str:
        names = " and ".join(self.columns)
        return f"the column{'s' if len(self.columns) > 1 else ''} {names}" if names else ""

    def embryo(self, cells: Mapping[str, str]) -> str:
        """Embryo of a row; empty if it is unknown."""
        found = [embryo_name(cells.get(column, "")) for column in self.columns]
        # without its number, it is unknown which embryo of a patient it is
        return "/".join(found) if all(found) else ""
