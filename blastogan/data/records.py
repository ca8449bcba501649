"""Graded images as readers return them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from blastogan.grades import CLASSES, UNGRADED, Grade

PARTS = ("train", "val", "test")
"""Parts of a split."""


@dataclass(frozen=True)
class ImageRecord:
    """One image.

    Attributes:
        path: The image file.
        grade: Its grade, of which a letter or both may be unknown.
        embryo: Name of the group that a split must never separate: the embryo, or the patient
            or video if a data set records nothing finer.
        part: ``train``, ``val`` or ``test`` of a published split; else empty.
    """

    path: Path
    grade: Grade
    embryo: str
    part: str = ""

    def __repr__(self) -> str:
        part = f", {self.part}" if self.part else ""
        return f"ImageRecord({self.path.name!r}, {self.grade}, embryo {self.embryo!r}{part})"


@dataclass(frozen=True)
class GradedTable:
    """The images of one folder, with their grades as far as they are known.

    Attributes:
        root: The folder.
        format: Name of the reader.
        records: The images, sorted by path.
        dropped: Name and reason of every image that is left out.
        problems: Rows and files that cannot be used, each with its place and what to do.
        notes: Assumptions of the reader, a sentence each.
        unlisted: Paths below `root` of images to which nothing assigns a grade; they are records
            if ungraded images are used.
        grouped: Whether it is known which images show the same embryo.
        disputes: Of images with different grades by table, name and folder: a sentence, which is
            also among the problems, then the grades of each.
        embryos_by: What identifies an embryo; empty if unknown.
        split_by: What marks the parts of a published split; empty without one.
        excluded: Images that the user leaves out.
    """

    root: Path
    format: str
    records: tuple[ImageRecord, ...]
    dropped: tuple[tuple[str, str], ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    unlisted: tuple[str, ...] = ()
    grouped: bool = True
    disputes: tuple[str, ...] = ()
    embryos_by: str = ""
    split_by: str = ""
    excluded: tuple[ImageRecord, ...] = ()

    def __repr__(self) -> str:
        found = f"{len(self.records)} images, {len(self.dropped)} dropped"
        where = f"{str(self.root)!r}, format {self.format!r}"
        return f"GradedTable({where}, {found}, {len(self.problems)} problems)"

    def counts(self) -> dict[str, int]:
        """Number of images of each of the ten classes."""
        return class_counts(self.records)

    def incomplete(self) -> dict[str, int]:
        """Number of images by what is known of an incomplete grade, see `incomplete_grades`."""
        return incomplete_grades(self.records)

    def summary(self) -> str:
        """One paragraph: images, embryos, images of each class, and dropped ones by reason."""
        embryos = f" of {len({record.embryo for record in self.records})} embryos"
        every = {**{name: n for name, n in self.counts().items() if n}, **self.incomplete()}
        classes = ", ".join(f"{name} {count}" for name, count in every.items()) or "none"
        reasons = Counter(why for _, why in self.dropped)
        dropped = ", ".join(f"{why} {count}" for why, count in sorted(reasons.items()))
        return (
            f"{self.root} (format {self.format}): {len(self.records)} images"
            f"{embryos if self.grouped else ''}."
            f" Images by class: {classes}."
            f" Dropped: {len(self.dropped)}{f' ({dropped})' if dropped else ''}."
        )


def class_counts(records: Iterable[ImageRecord]) -> dict[str, int]:
    """Number of images of each of the ten classes."""
    found = Counter(record.grade.name for record in records)
    return {name: found[name] for name in CLASSES}


def embryos_first(records: Sequence[ImageRecord]) -> list[int]:
    """Positions, those of a first image of an embryo before any second one, and so on."""
    before = Counter[str]()
    order = []
    for n, record in enumerate(records):
        order.append((before[record.embryo], n))
        before[record.embryo] += 1
    return [n for _, n in sorted(order)]


def unlisted_note(unlisted: Sequence[str]) -> str:
    """Note on images to which nothing assigns a grade, and which are used."""
    return (
        f"{len(unlisted):,} images have no grade, such as {', '.join(unlisted[:3])}: they are used "
        "without one; to leave them out, set ungraded to drop"
    )


def incomplete_grades(records: Iterable[ImageRecord]) -> dict[str, int]:
    """Number of images by what is known of an incomplete grade: ``Ax``, ``xB``, ``ungraded``."""
    grades = (record.grade for record in records)
    found = Counter(grade.name for grade in grades if not grade.known)
    ungraded = found.pop(UNGRADED.name, 0)
    return dict(sorted(found.items())) | ({"ungraded": ungraded} if ungraded else {})
