"""Builder of the table that a reader returns; it collects faults instead of raising the first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from blastogan.data.readers.cells import (
    NOT_DEFINED,
    UNKNOWN,
    embryo_name,
    parse_grade,
    parse_letters,
    without_decimals,
)
from blastogan.data.readers.options import ReaderOptions
from blastogan.data.readers.tree import ImageTree, normal
from blastogan.data.records import GradedTable, ImageRecord
from blastogan.errors import UserError
from blastogan.grades import UNGRADED, Grade


class _Entry(NamedTuple):
    where: str
    record: ImageRecord
    knows_embryo: bool


class TableBuilder:
    """Builder of a `GradedTable`.

    A reader calls `add`, `add_letters`, `drop`, `reject` or `ignore` for each image or row, then
    `build`. An image that none of them names is reported as unlisted.

    Attributes:
        problems: Faults found so far, each with its place.
        notes: Assumptions of the reader, a sentence each.
    """

    def __init__(self, tree: ImageTree, format_: str, options: ReaderOptions) -> None:
        self.tree = tree
        self.problems: list[str] = []
        self.notes: list[str] = []
        self._format = format_
        self._options = options
        self._pattern = re.compile(options.embryo_pattern) if options.embryo_pattern else None
        self._dropped: list[tuple[str, str]] = [(name, "link to a folder") for name in tree.links]
        self._entries: dict[str, _Entry] = {}
        self._disputed: set[str] = set()
        self._seen: set[str] = set()
        self._grouped = False
        self._found_by_name = 0

    def add(self, where: str, name: str, grade: str, embryo: str = "", part: str = "") -> None:
        """Add one image.

        Args:
            where: Place to name in a problem, such as a line.
            name: Posix path below the root, not trusted; see `ImageTree.find_listed`.
            grade: Grade as found.
            embryo: Embryo as found; without one, the image counts as an embryo of its own.
            part: Part of the published split, if any.
        """
        text = grade.strip().upper()
        if text in UNKNOWN:
            self._add_incomplete(where, name, UNGRADED, f"grade {text or 'empty'}", embryo, part)
        elif text == NOT_DEFINED:
            self.add_not_gradable(where, name, embryo, part)
        else:
            parsed = parse_grade(text)
            if parsed is None:
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
        """Like `add`, for separate columns; the expansion may be unknown, or written ``4.0``."""
        letters = [icm.strip().upper(), te.strip().upper()]
        digit = without_decimals(expansion.strip().upper())
        if NOT_DEFINED in letters:
            self.add_not_gradable(where, name, embryo, part)
        elif any(letter in UNKNOWN for letter in letters):
            why = f"grade {' and '.join(each or 'empty' for each in letters)}"
            known = ["" if letter in UNKNOWN else letter for letter in letters]
            grade = parse_letters(*known)
            if grade is None:
                self.reject(where, name, f"unknown {why}")
            else:
                self._add_incomplete(where, name, grade, why, embryo, part)
        elif digit in UNKNOWN or digit == NOT_DEFINED:
            self.add(where, name, "".join(letters), embryo, part)
        elif not re.fullmatch(r"[1-6]", digit):
            self.reject(where, name, f"expansion {expansion[:20]!r}, expected 1 to 6")
        else:
            self.add(where, name, digit + "".join(letters), embryo, part)

    def add_not_gradable(
        self, where: str, name: str, embryo: str = "", part: str = "", digit: str = ""
    ) -> None:
        """Add an image that is not gradable yet to the class DD if asked for, else drop it."""
        if self._options.not_gradable == "DD":
            self._add(where, name, parse_grade(f"{digit}DD"), embryo, part)
        else:
            self.drop(name or where, "grade ND")

    def _add_incomplete(
        self, where: str, name: str, grade: Grade, why: str, embryo: str, part: str
    ) -> None:
        """Add an image whose grade is not known in full, or drop it if so asked."""
        if self._options.ungraded == "use":
            self._add(where, name, grade, embryo, part)
        else:
            self.drop(name or where, why)

    def locate(self, where: str, name: str, among: Sequence[str] = ()) -> str | None:
        """Like `ImageTree.find_anywhere`, but records a fault and returns ``None``."""
        try:
            return self.tree.find_anywhere(name, among)
        except UserError as error:
            self.reject(where, name, str(error))
            return None

    def drop(self, name: str, why: str) -> None:
        """Leave out an image without a grade; no fault."""
        self._mark_seen(name)
        self._dropped.append((name, why))

    def reject(self, where: str, name: str, why: str) -> None:
        """Record a fault that keeps an image from being used."""
        self._mark_seen(name)
        self.problems.append(f"{where}: {why}")

    def ignore(self, names: Iterable[str]) -> None:
        """Leave out files that are not images to grade, such as masks."""
        self._seen.update(names)

    def build(self) -> GradedTable:
        """The finished table, with its faults."""
        entries = [entry for key, entry in self._entries.items() if key not in self._disputed]
        entries.sort(key=lambda entry: normal(str(entry.record.path)))
        alone = sum(not entry.knows_embryo for entry in entries)
        if alone and self._grouped:
            self.notes.append(
                f"{alone} of {len(entries)} images have no known embryo: each counts as an embryo "
                "of its own, though some may show the same one"
            )
        if self._found_by_name:
            self.notes.append(
                f"{self._found_by_name} images are listed without their folder: they were found "
                "in a subfolder by their file name"
            )
        return GradedTable(
            self.tree.root,
            self._format,
            tuple(entry.record for entry in entries),
            tuple(self._dropped),
            tuple(dict.fromkeys(self.problems)),
            tuple(self.notes),
            tuple(name for name in self.tree.images if name not in self._seen),
            self._grouped,
        )

    def _add(self, where: str, name: str, grade: Grade | None, embryo: str, part: str) -> None:
        try:
            found = self.tree.find_listed(name)
        except UserError as error:
            self.reject(where, name, str(error))
            return
        self._seen.add(found)
        if self._pattern is not None:
            embryo = _matched(self._pattern, found)
            if not embryo:
                pattern = f"the embryo_pattern {self._pattern.pattern!r}"
                self.problems.append(f"{where}: {pattern} matches nothing in {found}")
                return
        embryo = embryo_name(embryo)
        self._grouped |= bool(embryo)
        if grade is None:
            return
        self._found_by_name += "/" in found and "/" not in name
        record = ImageRecord(self.tree.root / found, grade, normal(embryo or found), part)
        entry = _Entry(where, record, bool(embryo))
        known = self._entries.setdefault(self.tree.identity(found), entry)
        if known is not entry:
            self._add_again(found, known, entry)

    def _add_again(self, name: str, known: _Entry, again: _Entry) -> None:
        """Merge or dispute a second entry for one file."""
        first, second = known.record, again.record
        key = self.tree.identity(name)
        # an image that is an embryo of its own may have several names
        first_name = first.path.relative_to(self.tree.root).as_posix()
        same_embryo = first.embryo == second.embryo or (
            {first.embryo, second.embryo} <= {normal(name), normal(first_name)}
        )
        if first.grade.name != second.grade.name or first.part != second.part or not same_embryo:
            self._disputed.add(key)
            self.problems.append(
                f"{again.where}: {name} has {_described(second)} here, but {_described(first)} at "
                f"{known.where}: keep one of them"
            )
        elif first.grade != second.grade:
            self.drop(name, f"listed twice, as {first.grade} and {second.grade}")
            certain = Grade(first.grade.icm, first.grade.te)
            self._entries[key] = known._replace(record=replace(first, grade=certain))
        else:
            self.drop(name, "listed twice")

    def _mark_seen(self, name: str) -> None:
        """Count an image as listed, even if its name is ambiguous or not allowed."""
        try:
            self._seen.add(self.tree.find_listed(name))
        except UserError:
            self._seen.update(self.tree.matches(name))


def _matched(pattern: re.Pattern[str], text: str) -> str:
    """The embryo by `ReaderOptions.embryo_pattern`; empty if it or its group does not match."""
    match = pattern.search(text)
    group = "embryo" if "embryo" in pattern.groupindex else min(pattern.groups, 1)
    return (match.group(group) or "").strip() if match else ""


def _described(record: ImageRecord) -> str:
    part = f", part {record.part}" if record.part else ""
    return f"grade {record.grade}, embryo {record.embryo}{part}"
