"""The contents of an audited set (`Audit`), and what there is to know about it (`Finding`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

from blastogan.audit.copies import Duplicates, ImageLeak
from blastogan.data.records import PARTS, GradedTable, ImageRecord
from blastogan.grades import CLASSES, LETTERS

EXPANSIONS = ("1", "2", "3", "4", "5", "6", "unknown")

ALL_GREY = "RGB, all grey"
"""Mode of images whose channels are equal."""

Level = Literal["fault", "note"]


@dataclass(frozen=True)
class Finding:
    """Something that a user should know.

    Attributes:
        kind: Short name, the same in every audit.
        level: ``fault`` if it would spoil training, else ``note``.
        message: What was got, what was expected, what to do.
        count: Number of files, rows, embryos, groups or classes concerned.
        examples: What is concerned, a line each.
    """

    kind: str
    level: Level
    message: str
    count: int = 1
    examples: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, kind: str, level: Level, what: str, remedy: str, examples: Sequence[str]
    ) -> Finding:
        """A finding that concerns each of its examples."""
        message = f"{what} ({len(examples):,}): {remedy}"
        return cls(kind, level, message, len(examples), tuple(examples))

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "examples": list(self.examples)}


@dataclass(frozen=True, repr=False)
class Audit:
    """What an audit found.

    Attributes:
        table: What the reader made of the set; its format is empty if none could read it.
        refusal: Why no reader could read the set as a whole, else empty.
        records: The sound graded images: listed, and readable as far as files were opened.
        names: Their posix paths below the root.
        files: Number of image files in the folder.
        pixels: Whether files were opened.
        unreadable: Name and reason of every file that cannot be decoded.
        sizes: Number of sound images by size, such as ``500x500``, the most frequent first.
        modes: Number of sound images by mode, such as ``L``; ``RGB, all grey`` apart.
        smallest: Least side of a sound image in pixels, 0 without any.
        levels: Darkest and lightest grey of every sound image by its name, but for the thousandth
            of its pixels at either end.
        others: Number of files that are images by their suffix, of a format that is not read.
        split_given: Whether a split was given, which then counts instead of a published one.
        split_used: Whether training will use the split, so that its leaks are faults.
        strangers: Names of a given split that are no graded images of the set.
        duplicates: Groups of copies.
        leaks: Embryos and groups of copies that are in several parts of a split.
        resolution: Side in pixels that training will use.
        findings: All findings, faults first.
    """

    table: GradedTable
    refusal: str
    records: tuple[ImageRecord, ...]
    names: tuple[str, ...]
    files: int
    pixels: bool
    unreadable: tuple[tuple[str, str], ...]
    sizes: Mapping[str, int]
    modes: Mapping[str, int]
    smallest: int
    levels: Mapping[str, tuple[int, int]]
    others: Mapping[str, int]
    split_given: bool
    split_used: bool
    strangers: tuple[str, ...]
    duplicates: tuple[Duplicates, ...]
    leaks: tuple[ImageLeak, ...]
    resolution: int
    findings: tuple[Finding, ...] = ()

    @property
    def faults(self) -> tuple[Finding, ...]:
        """The findings that would spoil training."""
        return tuple(finding for finding in self.findings if finding.level == "fault")

    @property
    def sound(self) -> bool:
        """Whether nothing would spoil training."""
        return not self.faults

    @cached_property
    def embryos(self) -> int:
        """Number of embryos that the sound images show."""
        return len({record.embryo for record in self.records})

    @cached_property
    def classes(self) -> dict[str, int]:
        """Number of images of each of the ten classes."""
        return _counts(CLASSES, (record.grade.name for record in self.records))

    @cached_property
    def embryos_by_class(self) -> dict[str, int]:
        """Number of embryos with an image of each of the ten classes."""
        pairs = {(record.grade.name, record.embryo) for record in self.records}
        return _counts(CLASSES, (name for name, _ in pairs))

    @cached_property
    def icm(self) -> dict[str, int]:
        """Number of images of each ICM letter."""
        return _counts(LETTERS, (record.grade.icm for record in self.records))

    @cached_property
    def te(self) -> dict[str, int]:
        """Number of images of each TE letter."""
        return _counts(LETTERS, (record.grade.te for record in self.records))

    @cached_property
    def expansion(self) -> dict[str, int]:
        """Number of images of each expansion, ``1`` to ``6`` and ``unknown``."""
        found = (str(record.grade.expansion or "unknown") for record in self.records)
        return _counts(EXPANSIONS, found)

    @cached_property
    def parts(self) -> dict[str, int]:
        """Number of images of each part of a split, empty without one."""
        found = Counter(record.part for record in self.records if record.part)
        return {part: found[part] for part in PARTS} if found else {}

    def __repr__(self) -> str:
        told = f"{len(self.records)} images, {len(self.faults)} faults"
        return f"Audit({str(self.table.root)!r}, {told}, {len(self.findings)} findings)"

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        return {
            "root": str(self.table.root),
            "format": self.table.format,
            "files": self.files,
            "images": len(self.records),
            "embryos": self.embryos,
            "grouped": self.table.grouped,
            "classes": self.classes,
            "embryos_by_class": self.embryos_by_class,
            "icm": self.icm,
            "te": self.te,
            "expansion": self.expansion,
            "labels_only": not self.pixels,
            "sizes": dict(self.sizes),
            "modes": dict(self.modes),
            "parts": self.parts,
            "dropped": [{"image": name, "why": why} for name, why in self.table.dropped],
            "unlisted": list(self.table.unlisted),
            "unreadable": [{"file": name, "why": why} for name, why in self.unreadable],
            "duplicates": [group.to_dict() for group in self.duplicates],
            "leaks": [leak.to_dict() for leak in self.leaks],
            "findings": [finding.to_dict() for finding in self.findings],
            "sound": self.sound,
        }


def _counts(keys: Iterable[str], found: Iterable[str]) -> dict[str, int]:
    counter = Counter(found)
    return {key: counter[key] for key in keys}
