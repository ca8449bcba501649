"""How a reader gathers its images: every fault is noted before any is refused."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import NamedTuple

from blastogan.data.readers.options import ReaderOptions
from blastogan.data.readers.tree import Folder, normal
from blastogan.data.records import GradedTable, ImageRecord
from blastogan.errors import UserError
from blastogan.grades import Grade

NOT_DEFINED = "ND"
"""What a table writes where an embryo cannot be graded yet."""

UNKNOWN = frozenset({"", "NA", "N/A", "?"})
"""What stands in place of a grade where there is none: not noted, no consensus."""

_NO_EMBRYO = UNKNOWN | {NOT_DEFINED, "NAN", "NONE", "NULL", "UNKNOWN", "UNK", "-", "--"}


class _Entry(NamedTuple):
    where: str
    record: ImageRecord
    knows_embryo: bool


class TableBuilder:
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

    def __init__(self, folder: Folder, format_: str, reading: ReaderOptions) -> None:
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
        self._images = frozenset(folder.images)
        self._found_by_name = 0

    def add(self, where: str, name: str, grade: str, embryo: str = "", part: str = "") -> None:
        """Add one image.

        Args:
            where: Place to name in a problem, such as a line.
            name: Posix path of the image below the root, as found; not trusted. A file name alone
                may also be that of the one image in a subfolder that is called so.
            grade: Grade as found.
            embryo: The embryo as found; empty or a word such as ``NA`` if it is not known, and the
                image is taken for an embryo of its own.
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

        An expansion that is missing or unknown is no fault; it may be written ``4.0``.
        """
        cells = [icm.strip().upper(), te.strip().upper()]
        digit = whole(expansion.strip().upper())
        if any(cell in UNKNOWN for cell in cells):
            self.drop(name or where, f"grade {' and '.join(cell or 'empty' for cell in cells)}")
        elif NOT_DEFINED in cells:
            self.add_not_gradable(where, name, "grade ND", embryo, part)
        elif digit in UNKNOWN or digit == NOT_DEFINED:
            self.add(where, name, "".join(cells), embryo, part)
        elif not re.fullmatch(r"[1-6]", digit):
            self.refuse(where, name, f"expansion {expansion[:20]!r}, expected 1 to 6")
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
            self.refuse(where, name, str(error))
            return None

    def drop(self, name: str, why: str) -> None:
        """Leave out an image without a grade; no fault."""
        self._meet(name)
        self._dropped.append((name, why))

    def refuse(self, where: str, name: str, why: str) -> None:
        """Note a fault for which an image is not used, though it is listed."""
        self._meet(name)
        self.problems.append(f"{where}: {why}")

    def ignore(self, names: Iterable[str]) -> None:
        """Files that are no images to be graded, such as masks."""
        self._met.update(names)

    def _add(self, where: str, name: str, grade: Grade | None, embryo: str, part: str) -> None:
        try:
            found = self._find(name)
        except UserError as error:
            self.refuse(where, name, str(error))
            return
        self._met.add(found)
        if self._pattern is not None:
            embryo = _matched(self._pattern, found)
            if not embryo:
                pattern = self._pattern.pattern
                self.problems.append(
                    f"{where}: the embryo_pattern {pattern!r} matches nothing in {found}"
                )
                return
        embryo = known_embryo(embryo)
        self.grouped |= bool(embryo)
        if grade is None:
            return
        self._found_by_name += "/" in found and "/" not in name
        record = ImageRecord(self.folder.root / found, grade, normal(embryo or found), part)
        entry = _Entry(where, record, bool(embryo))
        known = self._entries.setdefault(self.folder.identity(found), entry)
        if known is not entry:
            self._meet_again(found, known, entry)

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        """Images by their path, and by their file name alone, both without case."""
        groups: dict[str, list[str]] = {}
        for name in self.folder.images:
            folded = normal(name).casefold()
            for key in {folded, folded.rpartition("/")[2]}:
                groups.setdefault(key, []).append(name)
        return groups

    def _alike(self, name: str) -> list[str]:
        """Images that a name may mean; a file name alone means those at the root, if any."""
        alike = self._by_name.get(normal(posixpath.normpath(name)).casefold(), [])
        return [each for each in alike if "/" not in each] or alike

    def _find(self, name: str) -> str:
        """As `Folder.find`; a file name alone is also found in a subfolder."""
        if name in self._images or "/" in name:
            return self.folder.find(name)
        deeper = [each for each in self._alike(name) if "/" in each]
        if len(deeper) > 1:
            raise UserError(
                f"{name!r} may be {' or '.join(deeper[:3])}: put the folder before the name"
            )
        return self.folder.find(deeper[0] if deeper else name)

    def _meet(self, name: str) -> None:
        """Count an image as listed, also where it cannot be told or must not be read."""
        try:
            self._met.add(self._find(name))
        except UserError:
            self._met.update(self._alike(name))

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
        entries = [entry for own, entry in self._entries.items() if own not in self._disputed]
        records = sorted(
            (entry.record for entry in entries), key=lambda record: normal(str(record.path))
        )
        alone = sum(not entry.knows_embryo for entry in entries)
        if alone and self.grouped:
            self.notes.append(
                f"{alone} of {len(records)} images have no known embryo: each is taken for an "
                "embryo of its own, though some may show the same one"
            )
        if self._found_by_name:
            self.notes.append(
                f"{self._found_by_name} images are listed without their folder: they were found "
                "in a subfolder by their file name"
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


def known_embryo(text: str) -> str:
    """Name of an embryo as found; empty if it is a word for an unknown one, such as ``NA``."""
    text = text.strip()
    return "" if text.upper() in _NO_EMBRYO else text


def whole(text: str) -> str:
    """A digit as it is meant where it was saved with decimals, as in ``4.0``; else the text."""
    match = re.fullmatch(r"(\d)\.0*", text)
    return match.group(1) if match else text


def _matched(pattern: re.Pattern[str], text: str) -> str:
    """What the group ``embryo`` of a pattern finds, else its first group, else all of it.

    Empty if the pattern is not there, or if its group took no part.
    """
    match = pattern.search(text)
    if match is None:
        return ""
    group = "embryo" if "embryo" in pattern.groupindex else min(pattern.groups, 1)
    return (match.group(group) or "").strip()


def _told(record: ImageRecord) -> str:
    part = f", part {record.part}" if record.part else ""
    return f"grade {record.grade}, embryo {record.embryo}{part}"
