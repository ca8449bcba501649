"""Reader of the blastocyst data set of Kromp et al. 2023."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from blastogan.data.readers.builder import TableBuilder
from blastogan.data.readers.cells import NOT_DEFINED, UNKNOWN, without_decimals
from blastogan.data.readers.options import ReaderOptions
from blastogan.data.readers.tables import Row, header_of, read_table
from blastogan.data.readers.tree import ImageTree
from blastogan.data.records import GradedTable
from blastogan.errors import UserError

_LETTERS = {"0": "A", "1": "B", "2": "C", "3": NOT_DEFINED}
_MAX_BROKEN = 0.1


class _Source(NamedTuple):
    file: str
    suffix: str  # of the names of the columns
    part: str


_OFFICIAL = (
    _Source("Gardner_train_silver.csv", "_silver", "train"),
    _Source("Gardner_test_gold_onlyGardnerScores.csv", "_gold", "test"),
)
_COPY = _Source("complete.csv", "", "")
_COPY_HEADER = ("image", "exp", "icm", "te")


class KrompReader:
    """Reader of the data set of Kromp et al. 2023 (Scientific Data 10, 271).

    Two tables grade the images of ``Images/``; a copy without a header, ``complete.csv``, is read
    if they are missing. ICM and TE are coded 0 to 2 for A to C and 3 for not defined, exactly if
    the expansion, 0 to 4 for Gardner's 1 to 5, is 0 or 1. The part of a name before ``_`` is the
    group: a patient or a cycle. The published split (silver for training, gold for test) separates
    images of one group.
    """

    format = "kromp"
    layout = "Gardner_train_silver.csv or complete.csv of Kromp et al., beside Images/"

    def claims(self, tree: ImageTree, options: ReaderOptions) -> bool:
        """Whether one of the tables exists."""
        official = any((tree.root / source.file).is_file() for source in _OFFICIAL)
        return official or _is_copy(header_of(tree.root / _COPY.file))

    def read(self, tree: ImageTree, options: ReaderOptions) -> GradedTable:
        """Read the tables, see `Reader.read`."""
        builder = TableBuilder(tree, self.format, options)
        sources = [source for source in _OFFICIAL if (tree.root / source.file).is_file()]
        copy = tree.root / _COPY.file
        if sources and copy.is_file():
            builder.notes.append(f"{_COPY.file} is ignored in favour of the published tables")
        if not sources:
            if not copy.is_file():
                raise UserError(
                    f"{tree.root} has no {_OFFICIAL[0].file}, {_OFFICIAL[1].file} or "
                    f"{_COPY.file}: give the unpacked folder, or choose another format"
                )
            sources = [_COPY]
        builder.embryos_by = "the file name up to the first _ (a patient or a cycle)"
        builder.embryo_of = _group
        builder.split_by = "the two published tables"
        for source in sources:
            rows = _rows(builder, tree, source)
            _check_codes(source, rows)
            for row, codes in rows:
                _add(builder, row, codes, source)
        return builder.build()


def _rows(
    builder: TableBuilder, tree: ImageTree, source: _Source
) -> list[tuple[Row, dict[str, str]]]:
    """Rows without a fault, with their codes by ``image``, ``exp``, ``icm`` and ``te``."""
    path = tree.root / source.file
    headless = source is _COPY and _is_copy(header_of(path))
    table = read_table(path, _COPY_HEADER if headless else None)
    names = ["image", *(f"{letter}{source.suffix}" for letter in ("exp", "icm", "te"))]
    table.require(names, "Keep the published columns, or choose another format")
    builder.notes += table.notes
    rows = []
    for row in table.rows:
        cells = (without_decimals(row.cells.get(name, "")) for name in names)
        codes = dict(zip(_COPY_HEADER, cells, strict=True))
        fault = row.fault or _fault(codes)
        if fault:
            builder.reject_value(row.where, codes["image"], fault)
        else:
            rows.append((row, {role: code.upper() for role, code in codes.items()}))
    return rows


def _is_copy(first_line: list[str]) -> bool:
    codes = [re.fullmatch(r"[0-9]|nd|na|\?", without_decimals(cell)) for cell in first_line[1:4]]
    image = len(first_line) >= 4 and re.search(r"\.\w+$", first_line[0])
    return bool(image) and all(codes)


def _fault(codes: Mapping[str, str]) -> str:
    """Fault of a row's codes; empty if valid."""
    for role, known in (("exp", "01234"), ("icm", "0123"), ("te", "0123")):
        code = codes[role]
        if code.upper() not in (*known, NOT_DEFINED, *UNKNOWN):
            return f"{role.upper()} is {code[:20]!r}, expected 0 to {known[-1]}, ND or NA"
    return "" if codes["image"] else "no file name"


def _check_codes(source: _Source, rows: Iterable[tuple[Row, Mapping[str, str]]]) -> None:
    """Raise a `UserError` if the codes do not have the published meaning."""
    full = [row.where for row, codes in rows if _complete(codes)]
    broken = [row.where for row, codes in rows if _broken(codes)]
    if len(broken) > _MAX_BROKEN * len(full):
        raise UserError(
            f"{source.file}: {len(broken)} of {len(full)} rows ({broken[0]}, ...) break the rule "
            "that ICM and TE are 3 exactly if the expansion is 0 or 1. Expected the published "
            "codes (ICM and TE 0 = A, 1 = B, 2 = C, 3 = not defined); these look shifted: "
            "subtract the offset, or use the format csv"
        )


def _complete(codes: Mapping[str, str]) -> bool:
    return all(codes[role].isdecimal() for role in ("exp", "icm", "te"))


def _broken(codes: Mapping[str, str]) -> bool:
    early = codes["exp"] in ("0", "1")
    return _complete(codes) and not early == (codes["icm"] == "3") == (codes["te"] == "3")


def _group(name: str) -> str:
    return name.rpartition("/")[2].partition("_")[0]


def _add(builder: TableBuilder, row: Row, codes: Mapping[str, str], source: _Source) -> None:
    exp, icm, te = codes["exp"], codes["icm"], codes["te"]
    name = builder.locate(row.where, codes["image"].lower())
    if name is None:
        return
    group = _group(name)
    if _broken(codes):
        builder.ignore([name])
        builder.problems.append(
            f"{row.where}: EXP {exp}, ICM {icm}, TE {te}: ICM and TE must be 3 exactly if the "
            "expansion is 0 or 1; correct the codes or remove the row"
        )
        return
    digit = str(int(exp) + 1) if exp.isdecimal() else ""
    icm, te = _LETTERS.get(icm, icm), _LETTERS.get(te, te)
    if icm == te == NOT_DEFINED:
        builder.add_not_gradable(row.where, name, group, source.part, digit)
    else:
        builder.add_letters(row.where, name, icm, te, digit, group, source.part)
