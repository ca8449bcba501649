"""The metrics of a run as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from html import escape
from typing import Any

from blastogan.errors import UserError, printable

FIRST_ROWS, LAST_ROWS = 4, 6
"""Rows that a long table shows."""

WIDTH = 100
"""Characters of a line."""


class MetricsTable(list[dict[str, Any]]):
    """Rows by kimg, thousands of images shown: a list of dictionaries, without empty cells.

    It prints as a table, also in a notebook; ``pandas.DataFrame(table)`` takes it as it is.
    """

    @property
    def columns(self) -> list[str]:
        """Names of all columns, in order."""
        return list(dict.fromkeys(name for row in self for name in row))

    def column(self, name: str) -> dict[float, Any]:
        """Values of a column by kimg.

        Raises:
            UserError: If there is no such column.
        """
        found = {row["kimg"]: row[name] for row in self if name in row}
        if not found:
            near = get_close_matches(name, self.columns, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UserError(
                f"no column {name!r}: {hint}There are {', '.join(self.columns) or 'none yet'}"
            )
        return found

    def __repr__(self) -> str:
        columns, rows = self._shown()
        widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
        kept = sum(sum(widths[: n + 1]) + 2 * n <= WIDTH for n in range(len(widths)))
        lines = [
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths[:kept], strict=False))
            for row in (columns, *rows)
        ]
        if hidden := columns[kept:]:
            lines.append(f"and {len(hidden)} more columns: {', '.join(hidden)}")
        return "\n".join([*lines, f"{len(self)} rows"])

    def _repr_html_(self) -> str:
        columns, rows = self._shown()
        head = _html_row("th", columns)
        body = "".join(_html_row("td", row) for row in rows)
        return f"<table><thead>{head}</thead><tbody>{body}</tbody></table>{len(self)} rows"

    def _shown(self) -> tuple[list[str], list[list[str]]]:
        """Headers, and the cells of the first and the last rows."""
        columns = self.columns
        rows = [[_text(row, name) for name in columns] for row in self]
        if len(rows) > FIRST_ROWS + LAST_ROWS + 1:
            rows[FIRST_ROWS:-LAST_ROWS] = [["..."] * len(columns)]
        return [printable(name) for name in columns], rows


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name, "")
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value))


def _html_row(tag: str, cells: Iterable[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"
