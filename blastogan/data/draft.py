"""How a reader gathers its images: every fault is noted before any is refused."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from blastogan.data.folder import Folder, normal
from blastogan.data.reading import Reading
from blastogan.data.records import GradedTable, ImageRecord
from blastogan.errors import UserError
from blastogan.grades import Grade

NOT_DEFINED = "ND"
"""What a table writes where an embryo cannot be graded yet."""

UNKNOWN = frozenset({"", "NA", "N/A", "?"})
"""What stands in place of a grade where there is none: not noted, no consensus."""


class _Entry(NamedTuple):
    where: str
    record: ImageRecord


class TableDraft:
    """Table in the making.

    Args:
        folder: Where the images lie.
        format_: Name of the reader.
        reading: What the user asked for.

    Attributes:
        folder: As given.
        problems: Faults found so far.
        notes: What the reader takes for granted.
        grouped: Whether anything told which images show the same embryo.
    """

    def __init__(self, folder: Folder, format_: str, reading: Reading) -> None:
        self.folder = folder
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.grouped = False
        self._format = format_
        self._reading = reading
        self._pattern = re.compile(reading.embryo_pattern) if reading.embryo_pattern else None
        self._dropped: list[tuple[str, str]] = [(name, "link to a folder") for name in folder.links]
        self._entries: dict[str, _Entry] = {}
        self._disputed: set[str] = set()
        self._met: set[str] = set()

    def add(self, where: str, name: str, grade: str, embryo: str = "", part: str = "") -> None:
        """Add one image.

        Args:
            where: Place to name in a problem, such as a line.
            name: Posix path of the image below the root, as found; not trusted.
            grade: Grade as found.
            embryo: The embryo; empty if the image is an embryo of its own.
            part: Part of the published split, if there is one.
        """
        text = grade.strip().upper()
        if text in UNKNOWN:
            self.drop(name or where, f"grade {text or 'empty'}")
            return
        if text == NOT_DEFINED:
            self.add_not_gradable(where, name, "grade ND", embryo, part)
            return
        parsed: Grade | None = None
        try:
            parsed = _parse(text)
        except UserError:
            self.problems.append(f"{where}: unknown grade {grade[:40]!r}")
        self._add(where, name, parsed, embryo, part)

    def add_letters(
        self,
        where: str,
        name: str,
        icm: str,
        te: str,
        expansion: str = "",
        embryo: str = "",
        part: str = "",
    ) -> None:
        """Add one image whose letters stand apart; otherwise as `add`.

        An expansion that is missing or unknown is no fault.
        """
        cells = [icm.strip().upper(), te.strip().upper()]
        digit = expansion.strip().upper()
        if any(cell in UNKNOWN for cell in cells):
            self.drop(name or where, f"grade {' and '.join(cell or 'empty' for cell in cells)}")
        elif NOT_DEFINED in cells:
            self.add_not_gradable(where, name, "grade ND", embryo, part)
        elif digit in UNKNOWN or digit == NOT_DEFINED:
            self.add(where, name, "".join(cells), embryo, part)
        elif not re.fullmatch(r"[1-6]", digit):
            self.problems.append(f"{where}: expansion {expansion[:20]!r}, expected 1 to 6")
        else:
            self.add(where, name, digit + "".join(cells), embryo, part)

    def add_not_gradable(
        self, where: str, name: str, why: str, embryo: str = "", part: str = "", digit: str = ""
    ) -> None:
        """Add one image that cannot be graded yet: as class DD if asked for, else drop it."""
        if self._reading.not_gradable == "DD":
            self._add(where, name, _parse(f"{digit}DD"), embryo, part)
        else:
            self.drop(name or where, why)

    def locate(self, where: str, name: str, among: Sequence[str] = ()) -> str | None:
        """As `Folder.find_anywhere`, but a fault is noted, and ``None`` given."""
        try:
            return self.folder.find_anywhere(name, among)
        except UserError as error:
            self.problems.append(f"{where}: {error}")
            return None

    def drop(self, name: str, why: str) -> None:
        """Leave out an image without a grade; no fault."""
        self._met.add(name)
        self._dropped.append((name, why))

    def ignore(self, names: Iterable[str]) -> None:
        """Files that are no images to be graded, such as masks."""
        self._met.update(names)

    def _add(self, where: str, name: str, grade: Grade | None, embryo: str, part: str) -> None:
        try:
            found = self.folder.find(name)
        except UserError as error:
            self.problems.append(f"{where}: {error}")
            return
        self._met.add(found)
        if self._pattern is not None:
            match = self._pattern.search(found)
            if match is None:
                pattern = self._pattern.pattern
                self.problems.append(
                    f"{where}: the embryo_pattern {pattern!r} matches nothing in {found}"
                )
                return
            embryo = _group(match)
        self.grouped |= bool(embryo)
        if grade is None:
            return
        record = ImageRecord(self.folder.root / found, grade, normal(embryo or found), part)
        known = self._entries.setdefault(self.folder.identity(found), _Entry(where, record))
        if known.record is not record:
            self._meet_again(found, known, _Entry(where, record))

    def _meet_again(self, name: str, known: _Entry, again: _Entry) -> None:
        """Settle a second entry for one file."""
        first, second = known.record, again.record
        own = self.folder.identity(name)
        # an image that is an embryo of its own may have several names
        same_embryo = first.embryo == second.embryo or (
            {first.embryo, second.embryo} <= {normal(name), normal(self._name(first))}
        )
        if first.grade.name != second.grade.name or first.part != second.part or not same_embryo:
            # nobody knows which is right
            self._disputed.add(own)
            self.problems.append(
                f"{again.where}: {name} is {_told(second)} here, but {_told(first)} at "
                f"{known.where}: keep one of them"
            )
        elif first.grade != second.grade:
            self.drop(name, f"listed twice, as {first.grade} and {second.grade}")
            doubtful = Grade(first.grade.icm, first.grade.te)
            self._entries[own] = known._replace(record=replace(first, grade=doubtful))
        else:
            self.drop(name, "listed twice")

    def _name(self, record: ImageRecord) -> str:
        return record.path.relative_to(self.folder.root).as_posix()

    def table(self) -> GradedTable:
        """The finished table, faults included."""
        records = sorted(
            (entry.record for own, entry in self._entries.items() if own not in self._disputed),
            key=lambda record: normal(str(record.path)),
        )
        return GradedTable(
            self.folder.root,
            self._format,
            tuple(records),
            tuple(self._dropped),
            tuple(dict.fromkeys(self.problems)),
            tuple(self.notes),
            tuple(name for name in self.folder.images if name not in self._met),
            self.grouped,
        )


@lru_cache(maxsize=4096)
def _parse(text: str) -> Grade:
    return Grade.parse(text)


def _group(match: re.Match[str]) -> str:
    """The group ``embryo`` of a match, else the first one, else the whole."""
    named = match.groupdict().get("embryo")
    return str(named or (match.group(1) if match.re.groups else match.group()) or "")


def _told(record: ImageRecord) -> str:
    part = f", part {record.part}" if record.part else ""
    return f"grade {record.grade}, embryo {record.embryo}{part}"
