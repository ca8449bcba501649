"""Builder of the table that a reader returns; it collects faults instead of raising the first."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

from blastogan.data.readers.cells import (
    NOT_DEFINED,
    UNKNOWN,
    embryo_name,
    foreign_letters,
    is_not_gradable,
    is_shortened,
    parse_grade,
    parse_letters,
    without_decimals,
)
from blastogan.data.readers.disputes import find_disputes
from blastogan.data.readers.notes import FOUND, how_found, stems_note, tree_notes
from blastogan.data.readers.options import GradeSource, ReaderOptions
from blastogan.data.readers.path_grades import PathGrades, Source, path_grades
from blastogan.data.readers.tree import ImageTree, is_mask, normal
from blastogan.data.records import GradedTable, ImageRecord, unlisted_note
from blastogan.errors import UserError
from blastogan.grades import UNGRADED, Grade


class _Reading(NamedTuple):
    """What a text says: a grade, a stage that is not gradable, or nothing that is understood."""

    text: str
    grade: Grade | None = None
    not_gradable: bool = False


class _Entry(NamedTuple):
    where: str
    record: ImageRecord
    knows_embryo: bool
    source: GradeSource


class TableBuilder:
    """Builder of a `GradedTable`.

    A reader calls `add`, `add_letters`, `add_by_path`, `drop`, `reject` or `ignore` for each image
    or row, then `build`. An image that none of them names is ungraded.

    Args:
        tree: Files of the folder.
        format_: Name of the reader.
        options: Options of the user.
        source: Where the reader finds its grades.

    Attributes:
        problems: Faults found so far, each with its place.
        notes: Assumptions of the reader, a sentence each.
        embryos_by: By what the reader tells embryos apart.
        split_by: What marks the parts of a published split.
        embryo_of: Function that gives the embryo of an image that no row names, empty if unknown.
    """

    def __init__(
        self,
        tree: ImageTree,
        format_: str,
        options: ReaderOptions,
        source: GradeSource = "table",
    ) -> None:
        self.tree = tree
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.embryos_by = ""
        self.split_by = ""
        self.embryo_of: Callable[[str], str] = lambda name: ""
        self._format = format_
        self._options = options
        self._source: GradeSource = source
        # the name of a reader of paths says which of them is right
        told = source if options.format == format_ and source != "table" else None
        self._trust = options.trust or told
        self._pattern = re.compile(options.embryo_pattern) if options.embryo_pattern else None
        self._dropped: list[tuple[str, str]] = [(name, "link to a folder") for name in tree.links]
        self._entries: dict[str, _Entry] = {}
        self._disputed: set[str] = set()
        self._seen: set[str] = set()
        self._parts: dict[str, str] = {}
        self._grouped = False
        self._found = dict.fromkeys(FOUND, 0)
        self._values: dict[str, tuple[str, list[str]]] = {}
        self._expansions: list[str] = []

    @cached_property
    def paths(self) -> PathGrades:
        """Grades in the paths of the images."""
        return path_grades(self.tree, self._options)

    def add(self, where: str, name: str, grade: str, embryo: str = "", part: str = "") -> None:
        """Add one image.

        Args:
            where: Place to name in a problem, such as a line.
            name: Posix path below the root, not trusted; see `ImageTree.find_listed`.
            grade: Grade as found.
            embryo: Embryo as found; without one, the image counts as an embryo of its own.
            part: Part of the published split, if any.
        """
        self._place(where, name, self._read(grade), embryo, part)

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
        """Like `add`, for separate columns; the expansion may be unknown, or written ``4,0``."""
        letters = [self.meaning(cell).upper() for cell in (icm, te)]
        digit = without_decimals(expansion.strip().upper())
        if digit not in UNKNOWN | {NOT_DEFINED} and not re.fullmatch("[1-6]", digit):
            self._expansions.append(f"{expansion[:20]!r} ({where})")
            digit = ""
        known = ["" if letter in UNKNOWN else letter for letter in letters]
        unread = _Reading("".join(known))
        if any(map(is_not_gradable, letters)):
            reading = _Reading(NOT_DEFINED, not_gradable=True)
        elif all(known):
            grade = parse_grade("".join(known)) if all(map(_is_letter, known)) else None
            reading = unread._replace(grade=grade)
        else:
            text = " and ".join(each or "empty" for each in letters)
            reading = _Reading(text, parse_letters(known[0], known[1]))
        if reading.grade is not None and digit.isdecimal():
            reading = reading._replace(grade=replace(reading.grade, expansion=int(digit)))
        self._place(where, name, reading, embryo, part)

    def add_not_gradable(
        self, where: str, name: str, embryo: str = "", part: str = "", digit: str = ""
    ) -> None:
        """Add an image that is not gradable yet to the class DD if asked for, else drop it."""
        self._place(where, name, _Reading(NOT_DEFINED, not_gradable=True), embryo, part, digit)

    def add_by_path(self, name: str, order: Sequence[Source], part: str = "") -> None:
        """Add one image with the grade of its name or folder, if any; the first in `order` wins.

        Without a grade, a stage in its path counts that is not gradable.
        """
        self._parts[name] = part
        if is_mask(name) and not (self._source == "folder" and name in self.paths.near):
            self.drop(name, "a mask by its path")
            return
        readings = {source: self._read(each.text) for source, each in self.paths.both(name).items()}
        graded = [source for source in order if source in readings and readings[source].grade]
        stages = [source for source, reading in readings.items() if reading.not_gradable]
        trusted = [source for source in readings if source == self._trust and order]
        source = next(iter([*trusted, *graded, *stages]), None)
        if source is None:
            if order and (near := self.paths.near.get(name)):
                self._unread(near.where, name, near.text)
            return
        where = self.paths.both(name)[source].where
        embryo = self.paths.embryos.get(name, "")
        self._place(where, name, readings[source], embryo, part, source=source)

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

    def reject_value(self, where: str, name: str, why: str) -> None:
        """Like `reject`, for a value that many rows may have: it is listed once, with its count."""
        if why not in self._values:
            self.reject(where, name, why)
        self._mark_seen(name)
        places = self._values.setdefault(why, (f"{where}: {why}", []))[1]
        places.append(where)

    def ignore(self, names: Iterable[str]) -> None:
        """Leave out files that are not images to grade, such as masks."""
        self._seen.update(names)

    def build(self) -> GradedTable:
        """The finished table, with its faults."""
        unlisted = tuple(name for name in self.tree.images if name not in self._seen)
        if self._options.ungraded == "use":
            masks = list(filter(is_mask, unlisted))
            self._dropped += [(name, "a mask by its path") for name in masks]
            unlisted = tuple(name for name in unlisted if not is_mask(name))
            for name in unlisted:
                part, embryo = self._parts.get(name, ""), self.embryo_of(name)
                self._add(name, name, UNGRADED, embryo, part, lenient=True)
        elif self._source != "table":
            self._dropped += [(name, "no grade in its path") for name in unlisted]
        entries = [entry for key, entry in self._entries.items() if key not in self._disputed]
        entries.sort(key=lambda entry: normal(str(entry.record.path)))
        disputes = find_disputes(
            self.tree.root,
            [(entry.record, entry.source) for entry in entries],
            self.paths,
            self._trust,
            lambda text: (reading := self._read(text)).grade or reading.not_gradable,
            self._options.not_gradable,
        )
        self.notes += disputes.notes
        records = [e.record for e in entries if e.record.path not in disputes.paths]
        self._add_notes(entries, unlisted)
        return GradedTable(
            self.tree.root,
            self._format,
            tuple(records),
            tuple(self._dropped),
            tuple(dict.fromkeys([*self._all_problems(), *disputes.summary])),
            tuple(self.notes),
            unlisted,
            self._grouped,
            disputes=(*disputes.summary, *disputes.examples),
            embryos_by=self._embryos_by() if self._grouped else "",
            split_by=self.split_by if len({each.part for each in records} - {""}) > 1 else "",
        )

    def _embryos_by(self) -> str:
        return (
            f"the embryo_pattern {self._options.embryo_pattern!r}"
            if self._pattern
            else (self.embryos_by)
        )

    def meaning(self, text: str) -> str:
        """What a text means by `ReaderOptions.grade_map`, else the text itself."""
        return self._options.meanings.get(text.strip().upper(), text.strip())

    def _read(self, text: str) -> _Reading:
        text = text.strip()
        meaning = self.meaning(text)
        if is_not_gradable(meaning):
            return _Reading(text.upper(), not_gradable=True)
        grade = parse_grade(meaning)
        return _Reading(text if grade is None or grade.known else text.upper(), grade)

    def _place(
        self,
        where: str,
        name: str,
        reading: _Reading,
        embryo: str,
        part: str,
        digit: str = "",
        source: GradeSource | None = None,
    ) -> None:
        """Add, drop or reject an image by what its grade says."""
        source = source or self._source
        if source == "table" and self._trust in ("name", "folder"):
            other = self._in_path(name)
            reading, source = (other, self._trust) if other else (reading, source)
        if reading.not_gradable:
            if self._options.not_gradable == "drop":
                self.drop(name or where, f"grade {reading.text}")
                return
            reading = reading._replace(grade=parse_grade(f"{digit}DD"))
        grade = reading.grade
        if grade is None:
            self._unread(where, name, reading.text)
        elif not grade.known and (self._options.ungraded == "drop" or self._is_missing(name)):
            self.drop(name or where, f"grade {reading.text or 'empty'}")
            return
        self._add(where, name, grade, embryo, part, source)

    def _is_missing(self, name: str) -> bool:
        """Whether there is no image of this name, which no fault is without a grade."""
        try:
            self.tree.find_listed(name)
        except UserError:
            return not self.tree.matches(name)
        return False

    def _in_path(self, name: str) -> _Reading | None:
        """Grade of the trusted part of an image's path, if any."""
        try:
            found = self.paths.both(self.tree.find_listed(name))
        except UserError:
            return None
        trusted = [each for source, each in found.items() if source == self._trust]
        return self._read(trusted[0].text) if trusted else None

    def _unread(self, where: str, name: str, text: str) -> None:
        foreign = foreign_letters(text)
        hint = f": {foreign}, expected Latin letters" if foreign else ""
        self.reject_value(where, name, f"unknown grade {text[:40]!r}{hint}")

    def _all_problems(self) -> list[str]:
        """Faults, those of values with the number of places that have them."""
        counts = {problem: len(set(places)) for problem, places in self._values.values()}
        repeated = {problem: count for problem, count in counts.items() if count > 1}
        return [
            f"{each}, here and in {repeated[each] - 1:,} more" if each in repeated else each
            for each in self.problems
        ]

    def _add(
        self,
        where: str,
        name: str,
        grade: Grade | None,
        embryo: str,
        part: str,
        source: GradeSource | None = None,
        *,
        lenient: bool = False,
    ) -> None:
        try:
            found = self.tree.find_listed(name)
        except UserError as error:
            self.reject(where, name, str(error))
            return
        self._seen.add(found)
        if self._pattern is not None:
            embryo = _matched(self._pattern, found)
            if not embryo and not lenient:
                pattern = f"the embryo_pattern {self._pattern.pattern!r}"
                self.problems.append(f"{where}: {pattern} matches nothing in {found}")
                return
        embryo = embryo_name(embryo)
        if is_shortened(embryo):
            why = f"embryo {embryo!r} is a number that a spreadsheet has shortened"
            why += ": format the column as text, and save it again"
            self.reject_value(where, name, why)
            return
        self._grouped |= bool(embryo)
        if grade is None:
            return
        if found != name:
            self._found[how_found(name, found)] += 1
        record = ImageRecord(self.tree.root / found, grade, normal(embryo or found), part)
        entry = _Entry(where, record, bool(embryo), source or self._source)
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

    def _add_notes(self, entries: Sequence[_Entry], unlisted: Sequence[str]) -> None:
        alone = sum(not entry.knows_embryo for entry in entries)
        if alone and self._grouped:
            self.notes.append(
                f"{alone} of {len(entries)} images have no known embryo: each counts as an embryo "
                "of its own, though some may show the same one"
            )
        self.notes += [text.format(count) for text, count in self._found.items() if text and count]
        if unlisted and self._options.ungraded == "use":
            self.notes.append(unlisted_note(unlisted))
        if self._expansions:
            self.notes.append(
                f"{len(self._expansions)} expansions are not read, such as {self._expansions[0]}: "
                "expected 1 to 6; the class does not depend on it"
            )
        self.notes += [*stems_note([entry.record for entry in entries])]
        self.notes += tree_notes(self.tree, tables_read=self._source == "table")


def _is_letter(text: str) -> bool:
    return re.fullmatch("[A-Z][+-]?", text) is not None


def _matched(pattern: re.Pattern[str], text: str) -> str:
    """The embryo by `ReaderOptions.embryo_pattern`; empty if it or its group does not match."""
    match = pattern.search(text)
    group = "embryo" if "embryo" in pattern.groupindex else min(pattern.groups, 1)
    return (match.group(group) or "").strip() if match else ""


def _described(record: ImageRecord) -> str:
    part = f", part {record.part}" if record.part else ""
    return f"grade {record.grade}, embryo {record.embryo}{part}"
