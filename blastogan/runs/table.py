"""A CSV table in a run folder, one row per event, which a resumed run continues."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from blastogan.utils.files import atomic_write, naming


class RunTable:
    """Rows with a ``kimg`` column and any others; a column added later is empty in earlier rows.

    Args:
        path: The file; created with the first row.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def rows(self) -> list[dict[str, str]]:
        """All complete rows; one cut short by a crash is left out."""
        if not self.path.exists():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            # the cut may be within the last number
            lines = [line for line in file if line.endswith("\n")]
        return [row for row in csv.DictReader(lines) if None not in row.values()]

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a row."""
        columns = self._columns()
        if columns and set(row) <= set(columns):
            with naming(self.path), self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, columns, restval="").writerow(row)
        else:
            self._write([*dict.fromkeys([*columns, *row])], [*self.rows(), row])

    def replace(self, row: Mapping[str, Any], same: Sequence[str] = ()) -> None:
        """Put a row in the place of one at the same ``kimg`` with the same columns; or add it.

        Args:
            row: Values by column.
            same: Columns of texts that must be equal too.
        """
        rows = self.rows()
        for n in reversed(range(len(rows))):
            same_columns = {name for name, value in rows[n].items() if value} == set(row)
            same_columns = same_columns and all(rows[n][name] == row[name] for name in same)
            if same_columns and float(rows[n]["kimg"]) == row["kimg"]:
                self._write(self._columns(), [*rows[:n], row, *rows[n + 1 :]])
                return
        self.append(row)

    def truncate(self, kimg: float, *, inclusive: bool) -> None:
        """Drop the rows after `kimg`, where the run resumes; with `inclusive` also those at it."""
        rows = self.rows()
        kept = [row for row in rows if float(row["kimg"]) < kimg + (0 if inclusive else 1e-9)]
        cut_short = self.path.exists() and not self.path.read_bytes().endswith(b"\n")
        if rows != kept or cut_short:
            self._write(self._columns(), kept)

    def _columns(self) -> list[str]:
        if not self.path.exists():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            return next(csv.reader(file), [])

    def _write(self, columns: list[str], rows: list[Any]) -> None:
        with atomic_write(self.path) as part, part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(rows)
