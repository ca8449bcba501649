"""Contents of an audited set (`Audit`) and what to know about it (`Finding`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from blastogan.audit.copies import Duplicates, ImageLeak
from blastogan.data.parts import Part, parts_of
from blastogan.data.records import PARTS, GradedTable, ImageRecord, incomplete_grades
from blastogan.grades import CLASSES, LETTERS

if TYPE_CHECKING:
    from blastogan.audit.measures import Measures

ALL_GREY = "RGB, all grey"
"""Mode of RGB images with equal channels."""

Level = Literal["fault", "note"]


@dataclass(frozen=True)
class Finding:
    """One fault or note.

    Attributes:
        kind: Short name, the same in every audit.
        level: ``fault`` if it would spoil training, else ``note``.
        message: What was found, and what to do.
        count: Number of affected files, rows, embryos, groups or classes.
        examples: What is affected, a line each.
    """

    kind: str
    level: Level
    message: str
    count: int = 1
    examples: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "examples": list(self.examples)}


@dataclass(frozen=True, repr=False)
class Audit:
    """Contents and findings of a set.

    Attributes:
        table: Table of the reader; its format is empty if none could read the set.
        refusal: Why no reader could read the set as a whole, else empty.
        records: The sound images: decodable if files were opened; some may be ungraded.
        names: Their posix paths below the root.
        files: Number of image files in the folder.
        pixels: Whether files were opened.
        unreadable: Name and reason of every file that cannot be decoded.
        sizes: Number of sound images by size, such as ``500x500``, the most frequent first.
        modes: Number of sound images by Pillow's mode, or `ALL_GREY`.
        smallest: Shortest side of a sound image in pixels; 0 without any.
        levels: Darkest and lightest grey of every sound image by name, see `FileFacts`.
        others: Number of files by suffix of an unsupported image format.
        split: Split that training will use, in which the records are: a file is ``given``.
        no_split: Why the set cannot be split so; else empty.
        published: Images of each part of the set's own split, if training will not use it.
        unknown_names: Names in the given split that are not graded images of the set.
        published_leaks: Leaks of the set's own split, if training will not use it.
        resolution: Side in pixels that training will use.
        measures: Measures by name of every image that can be decoded and is not dropped.
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
    split: Literal["by-embryo", "published", "given"]
    no_split: str
    published: Mapping[str, int]
    unknown_names: tuple[str, ...]
    duplicates: tuple[Duplicates, ...]
    leaks: tuple[ImageLeak, ...]
    published_leaks: tuple[ImageLeak, ...]
    resolution: int
    findings: tuple[Finding, ...] = ()
    measures: Mapping[str, Measures] = field(default_factory=dict)

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
        """Number of embryos of the sound images."""
        return len({record.embryo for record in self.records})

    @cached_property
    def classes(self) -> dict[str, int]:
        """Number of images of each of the ten classes."""
        return _counts(CLASSES, (record.grade.name for record in self.records))

    @cached_property
    def incomplete(self) -> dict[str, int]:
        """Number of images of each incomplete grade, see `incomplete_grades`."""
        return incomplete_grades(self.records)

    @property
    def graded(self) -> int:
        """Number of sound images of which at least one letter is known."""
        return len(self.records) - self.incomplete.get("ungraded", 0)

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
        return _counts((*"123456", "unknown"), found)

    @cached_property
    def parts(self) -> list[Part]:
        """The parts of the split that training will use; empty without a split."""
        split = {
            part: [n for n, record in enumerate(self.records) if record.part == part]
            for part in PARTS
        }
        return parts_of(self.records, split, self.table.grouped) if any(split.values()) else []

    def __repr__(self) -> str:
        counts = f"{len(self.records)} images, {len(self.faults)} faults"
        return f"Audit({str(self.table.root)!r}, {counts}, {len(self.findings)} findings)"

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            "root": str(self.table.root),
            "format": self.table.format,
            "files": self.files,
            "images": len(self.records),
            "embryos": self.embryos,
            "grouped": self.table.grouped,
            "classes": self.classes,
            "incomplete": self.incomplete,
            "embryos_by": self.table.embryos_by,
            "split_by": self.table.split_by,
            "embryos_by_class": self.embryos_by_class,
            "icm": self.icm,
            "te": self.te,
            "expansion": self.expansion,
            "labels_only": not self.pixels,
            "sizes": dict(self.sizes),
            "modes": dict(self.modes),
            "split": self.split,
            "parts": [asdict(part) for part in self.parts],
            "published": dict(self.published),
            "dropped": [{"image": name, "why": why} for name, why in self.table.dropped],
            "unlisted": list(self.table.unlisted),
            "unreadable": [{"file": name, "why": why} for name, why in self.unreadable],
            "duplicates": [group.to_dict() for group in self.duplicates],
            "leaks": [leak.to_dict() for leak in self.leaks],
            "published_leaks": [leak.to_dict() for leak in self.published_leaks],
            "findings": [finding.to_dict() for finding in self.findings],
            "sound": self.sound,
        }


def _counts(keys: Iterable[str], found: Iterable[str]) -> dict[str, int]:
    counter = Counter(found)
    return {key: counter[key] for key in keys}
