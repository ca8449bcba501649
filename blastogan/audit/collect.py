"""Audit of a graded set: what is in it, and what of it would spoil training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blastogan.audit.copies import Duplicates, ImageLeak, find_image_leaks, label_duplicates
from blastogan.audit.findings import ALL_GREY, Finding, find_faults, find_notes
from blastogan.data.readers import READERS, Reading, open_folder, scan_graded_images
from blastogan.data.records import PARTS, GradedTable, ImageRecord
from blastogan.data.splits import SplitKind
from blastogan.errors import UserError
from blastogan.grades import CLASSES, LETTERS

if TYPE_CHECKING:
    from blastogan.audit.inspection import FileFacts

EXPANSIONS = ("1", "2", "3", "4", "5", "6", "unknown")

Track = Callable[[Iterable[Any], int, str], Iterable[Any]]
"""Shows how far a loop is, given its items, their number and what is done."""


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

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """All findings, faults first."""
        return (*find_faults(self), *find_notes(self))

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


def audit_images(
    root: str | Path,
    reading: Reading | str = "auto",
    *,
    pixels: bool = True,
    parts: Mapping[str, str] | None = None,
    split: SplitKind = "published",
    num_workers: int = 0,
    resolution: int | None = None,
    track: Track | None = None,
) -> Audit:
    """Look a graded set over.

    A set that no reader can read as a whole is a finding too, and its files are looked at.

    Args:
        root: The folder.
        reading: How it is read, or the name of a format.
        pixels: Whether to open the files; without, only labels are looked at, and no duplicate
            is found.
        parts: Split to check, ``train``, ``val`` or ``test`` by posix path below `root`; counts
            instead of a published one.
        split: Split that training will use where none is given: with ``by-embryo``, leaks of a
            published one are no faults.
        num_workers: Processes that decode; 0 decodes in this one.
        resolution: Side in pixels that training will use, by default 64.
        track: Shows progress.

    Raises:
        UserError: For wrong use: a root without images, an option that cannot be.
    """
    root = Path(root)
    reading = reading if isinstance(reading, Reading) else Reading(format=reading)
    folder = open_folder(root)
    table, refusal = _read(root, reading)
    listed = _names(root, table.records)
    # a table may list files of unusual suffixes
    every = list(dict.fromkeys([*folder.images, *listed]))
    facts: dict[str, FileFacts | str] = {}
    if pixels:
        facts = _open_files(root, every, num_workers, track or _unshown)
    graded = {
        name: record
        for name, record in zip(listed, table.records, strict=True)
        if not isinstance(facts.get(name), str)
    }
    if parts is not None:
        graded = {
            name: replace(record, part=parts.get(name, "")) for name, record in graded.items()
        }
    good = {name: each for name, each in facts.items() if not isinstance(each, str)}
    duplicates = label_duplicates(
        # of a set that cannot be read as graded, all files are compared
        {name: each.print for name, each in good.items() if refusal or name in graded},
        graded,
    )
    good = {name: good[name] for name in graded if name in good}
    return Audit(
        table=table,
        refusal=refusal,
        records=tuple(graded.values()),
        names=tuple(graded),
        files=len(every),
        pixels=pixels,
        unreadable=tuple((name, each) for name, each in facts.items() if isinstance(each, str)),
        sizes=_ranked(f"{each.size[0]}x{each.size[1]}" for each in good.values()),
        modes=_ranked(ALL_GREY if each.grey else each.mode for each in good.values()),
        smallest=min((min(each.size) for each in good.values()), default=0),
        levels={name: each.levels for name, each in good.items()},
        others=dict(sorted(folder.others.items())),
        split_given=parts is not None,
        split_used=parts is not None or split == "published",
        strangers=tuple(sorted(set(parts or ()) - set(listed))),
        duplicates=duplicates,
        leaks=tuple(find_image_leaks(graded, duplicates)),
        resolution=resolution or 64,
    )


def _names(root: Path, records: Sequence[ImageRecord]) -> list[str]:
    """Posix paths below the root."""
    # a hundred thousand paths by `relative_to` take a second
    start = len((root / "_").as_posix()) - 1
    return [record.path.as_posix()[start:] for record in records]


def _read(root: Path, reading: Reading) -> tuple[GradedTable, str]:
    """The table, or an empty one and the reason."""
    try:
        return scan_graded_images(root, reading), ""
    except UserError as error:
        formats = {"auto", *(reader.format for reader in READERS)}
        if reading.format not in formats or reading.names_a_table:
            raise
        return GradedTable(root, "", (), grouped=False), str(error)


def _open_files(
    root: Path, names: Sequence[str], num_workers: int, track: Track
) -> dict[str, FileFacts | str]:
    # labels alone need no torch
    from blastogan.audit.inspection import inspect_files

    found = inspect_files([root / name for name in names], num_workers)
    return dict(zip(names, track(found, len(names), "opening images"), strict=True))


def _counts(keys: Iterable[str], found: Iterable[str]) -> dict[str, int]:
    counter = Counter(found)
    return {key: counter[key] for key in keys}


def _ranked(found: Iterable[str]) -> dict[str, int]:
    return dict(Counter(found).most_common())


def _unshown(items: Iterable[Any], _total: int, _description: str) -> Iterable[Any]:
    return items
