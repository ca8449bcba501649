"""A CSV table in a run folder, a row per event, that a resumed run goes on with."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blastogan.utils.files import atomic_write, naming


class RunTable:
    """Rows with a ``kimg`` and whatever else; columns may come later and are empty before.

    Args:
        path: The file; made with the first row.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def rows(self) -> list[dict[str, str]]:
        """All whole rows; one cut short by a crash is left out."""
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
            return
        new = [name for name in row if name not in columns]
        self._write([*columns, *new], [*self.rows(), row])

    def forget(self, kimg: float, *, itself: bool) -> None:
        """Drop the rows after `kimg`, those of steps that will be taken again.

        Args:
            kimg: Where the run goes on, in thousands of images shown.
            itself: Whether to drop rows at `kimg` too.
        """
        rows = self.rows()
        kept = [row for row in rows if float(row["kimg"]) < kimg + (0 if itself else 1e-9)]
        if rows != kept or self._is_cut_short():
            self._write(self._columns(), kept)

    def _columns(self) -> list[str]:
        if not self.path.exists():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            return next(csv.reader(file), [])

    def _is_cut_short(self) -> bool:
        return self.path.exists() and not self.path.read_bytes().endswith(b"\n")

    def _write(self, columns: list[str], rows: list[Any]) -> None:
        with atomic_write(self.path) as part, part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(rows)
