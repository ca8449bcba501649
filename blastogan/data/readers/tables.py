"""CSV tables with any usual separator, encoding and line end."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from blastogan.errors import UserError

MAX_BYTES = 200_000_000

_SEPARATORS = ",;\t|"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_DECLARED = re.compile(r'\s*"?sep=[,;\t|]"?[,;\t|]*', re.IGNORECASE)
_START = 2**16
_SHOWN = 300

SEPARATOR_HINT = "Columns are separated by a comma, semicolon, tab or |"


@dataclass(frozen=True)
class Row:
    """One row of a table: stripped cells by the lower-case name of their column."""

    where: str  # table and line, for messages
    cells: Mapping[str, str]
    fault: str = ""


@dataclass(frozen=True)
class Table:
    """A table with a header.

    Attributes:
        columns: Lower-case names of the columns.
        rows: The rows with content.
        notes: Assumptions made in reading it.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def require(self, wanted: Iterable[str], remedy: str) -> None:
        """Raise a `UserError` with a remedy if columns are missing."""
        missing = [name for name in wanted if name not in self.columns]
        if missing:
            # a table of one column rather has another separator
            hint = f". {SEPARATOR_HINT}" if len(self.columns) == 1 else ""
            raise UserError(
                f"{self.path} has the columns {', '.join(self.columns)[:_SHOWN] or '(none)'}: "
                f"missing {', '.join(missing)}. {remedy}{hint}"
            )


def read_table(
    path: Path, header: Iterable[str] | None = None, *, own_names: bool = False
) -> Table:
    """Read a table: UTF-8, UTF-16 with a mark, or Latin-1; separated by ``,``, ``;``, tab or ``|``.

    A first line such as ``sep=;``, which spreadsheets write, is skipped.

    Args:
        path: The file.
        header: Names of the columns, if the file has no header.
        own_names: Whether to keep bytes that are not UTF-8 by surrogateescape, as Python does in
            file names, instead of reading the table as Latin-1.

    Raises:
        UserError: If the table cannot be read, is empty, or has a column twice.
    """
    text, notes = _text(path, own_names=own_names)
    lines = list(_lines(path, text))
    if header is not None:
        columns = [name.lower() for name in header]
    else:
        columns = [cell.lower() for cell in lines[0][1]] if lines else []
        lines = lines[1:]
    while columns and not columns[-1]:
        columns.pop()
    twice = ", ".join(sorted({name for name in columns if name and columns.count(name) > 1}))
    if twice:
        raise UserError(f"{path} has the column {twice} more than once: rename or remove one")
    if not columns or not lines:
        raise UserError(f"{path} is empty: expected a header and a row for each image")
    rows = tuple(_row(path, columns, number, cells) for number, cells in lines)
    return Table(path, tuple(columns), rows, tuple(notes))


def header_of(path: Path) -> list[str]:
    """Lower-case columns of a table; empty if unreadable, never raises for content."""
    # opening a pipe would wait for a writer
    if not path.is_file():
        return []
    try:
        with path.open("rb") as file:
            start = file.read(_START)
    except OSError:
        return []
    whole = start
    if len(start) == _START and start[:2] not in _UTF_16:
        # a cut in the middle of a letter would look like another encoding
        whole = start[: max(start.rfind(b"\n"), start.rfind(b"\r"))] or start
    # a table is recognised by its header even if later lines cannot be decoded
    lines = [line for line in start.splitlines(keepends=True) if line.strip()]
    for content in (whole, b"".join(lines[:2]), b"".join(lines[:1])):
        with suppress(UserError):
            _, cells = next(_lines(path, _decoded(path, content)[0]), (0, []))
            return [cell.lower() for cell in cells]
    return []


def _text(path: Path, *, own_names: bool = False) -> tuple[str, list[str]]:
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path} is a folder or a pipe: replace it by a table")
        if path.stat().st_size > MAX_BYTES:
            size, most = (f"{number / 1e6:.0f}" for number in (path.stat().st_size, MAX_BYTES))
            remedy = "remove columns, or split the set"
            raise UserError(f"{path} has {size} MB, expected at most {most}: {remedy}")
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): make it readable") from error
    if own_names:
        return content.decode("utf-8-sig", errors="surrogateescape"), []
    return _decoded(path, content)


def _decoded(path: Path, content: bytes) -> tuple[str, list[str]]:
    encodings = ["utf-16"] if content[:2] in _UTF_16 else ["utf-8-sig", "cp1252"]
    for encoding in encodings:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        # a null byte in a row of UTF-8 is a fault of that row; in the header it means UTF-16
        if "\0" in (_first_line(text) if encoding == "utf-8-sig" else text):
            break
        note = f"{path.name} is not UTF-8: read as Latin-1 (Windows-1252)"
        return text, [note] if encoding == "cp1252" else []
    raise UserError(f"{path} is not text in UTF-8 or Latin-1: save it as CSV UTF-8")


def _first_line(text: str) -> str:
    """The first line with content."""
    found = re.search(r"(?<![^\r\n])[^\r\n]*?\S[^\r\n]*", text)
    return found[0] if found else ""


def _lines(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and stripped cells of every line with content."""
    first = _first_line(text)
    separator = max(_SEPARATORS, key=first.count)
    declared = _DECLARED.fullmatch(first)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    last = 0
    try:
        for cells in reader:
            last = reader.line_num
            stripped = [cell.strip() for cell in cells]
            if declared and any(stripped):
                declared = None
            elif any(stripped):
                yield reader.line_num, stripped
    except csv.Error as error:
        raise UserError(f"{path} line {last + 1}: {error}; close every opening quote") from error


def _row(path: Path, columns: list[str], number: int, cells: list[str]) -> Row:
    short, long = len(cells) < len(columns), any(cells[len(columns) :])
    fault = f"{len(cells)} cells under {len(columns)} columns" if short or long else ""
    return Row(f"{path.name} line {number}", dict(zip(columns, cells, strict=False)), fault)
