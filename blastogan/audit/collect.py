"""Audit of a graded set: what is in it, and what of it would spoil training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blastogan.audit.contents import ALL_GREY, Audit
from blastogan.audit.copies import find_image_leaks, label_duplicates
from blastogan.audit.findings import find_faults, find_notes
from blastogan.data.readers import READERS, ReaderOptions, open_tree, scan_graded_images
from blastogan.data.records import GradedTable, ImageRecord
from blastogan.data.splits import SplitKind
from blastogan.errors import UserError

if TYPE_CHECKING:
    from blastogan.audit.inspection import FileFacts


Track = Callable[[Iterable[Any], int, str], Iterable[Any]]
"""Shows how far a loop is, given its items, their number and what is done."""


def audit_images(
    root: str | Path,
    reading: ReaderOptions | str = "auto",
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
    reading = reading if isinstance(reading, ReaderOptions) else ReaderOptions(format=reading)
    tree = open_tree(root)
    table, refusal = _read(root, reading)
    listed = _names(root, table.records)
    # a table may list files of unusual suffixes
    every = list(dict.fromkeys([*tree.images, *listed]))
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
    audit = Audit(
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
        others=dict(sorted(tree.others.items())),
        split_given=parts is not None,
        split_used=parts is not None or split == "published",
        strangers=tuple(sorted(set(parts or ()) - set(listed))),
        duplicates=duplicates,
        leaks=tuple(find_image_leaks(graded, duplicates)),
        resolution=resolution or 64,
    )
    return replace(audit, findings=(*find_faults(audit), *find_notes(audit)))


def _names(root: Path, records: Sequence[ImageRecord]) -> list[str]:
    """Posix paths below the root."""
    # a hundred thousand paths by `relative_to` take a second
    start = len((root / "_").as_posix()) - 1
    return [record.path.as_posix()[start:] for record in records]


def _read(root: Path, reading: ReaderOptions) -> tuple[GradedTable, str]:
    """The table, or an empty one and the reason."""
    try:
        return scan_graded_images(root, reading), ""
    except UserError as error:
        formats = {"auto", *(reader.format for reader in READERS)}
        if reading.format not in formats or reading.selects_csv:
            raise
        return GradedTable(root, "", (), grouped=False), str(error)


def _open_files(
    root: Path, names: Sequence[str], num_workers: int, track: Track
) -> dict[str, FileFacts | str]:
    # labels alone need no torch
    from blastogan.audit.inspection import inspect_files

    found = inspect_files([root / name for name in names], num_workers)
    return dict(zip(names, track(found, len(names), "opening images"), strict=True))


def _ranked(found: Iterable[str]) -> dict[str, int]:
    return dict(Counter(found).most_common())


def _unshown(items: Iterable[Any], _total: int, _description: str) -> Iterable[Any]:
    return items
