"""Audit of a graded set."""

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
"""Progress hook: wraps the items of a loop, given their number and a description."""


def audit_images(
    root: str | Path,
    options: ReaderOptions | str = "auto",
    *,
    pixels: bool = True,
    parts: Mapping[str, str] | None = None,
    split: SplitKind = "published",
    num_workers: int = 0,
    resolution: int | None = None,
    track: Track | None = None,
) -> Audit:
    """Audit a set of graded images.

    If no reader can read the set, that is a finding, and its files are still inspected.

    Args:
        root: The folder.
        options: Options for reading, or the name of a format.
        pixels: Whether to open the files; otherwise only labels are audited.
        parts: Split to check instead of a published one: each part by posix path below `root`.
        split: Split that training will use without `parts`: with ``by-embryo``, leaks of a
            published split are only notes.
        num_workers: Processes that decode; 0 decodes in this one.
        resolution: Side in pixels that training will use, by default 64.
        track: Progress hook.

    Raises:
        UserError: If the root has no images, or if an option is invalid.
    """
    root = Path(root)
    options = ReaderOptions(format=options) if isinstance(options, str) else options
    tree = open_tree(root)
    table, refusal = _read(root, options)
    listed = _by_name(root, table.records, parts)
    # a table may list files with other suffixes
    every = list(dict.fromkeys([*tree.images, *listed]))
    good, unreadable = _inspect(root, every, num_workers, track) if pixels else ({}, {})
    graded = {name: record for name, record in listed.items() if name not in unreadable}
    # of a set without known grades, all files are compared
    compared = {name: each.fingerprint for name, each in good.items() if refusal or name in graded}
    duplicates = label_duplicates(compared, graded)
    audit = Audit(
        table=table,
        refusal=refusal,
        records=tuple(graded.values()),
        names=tuple(graded),
        files=len(every),
        pixels=pixels,
        unreadable=tuple(unreadable.items()),
        **_pixel_facts({name: good[name] for name in graded if name in good}),
        others=dict(sorted(tree.others.items())),
        split_given=parts is not None,
        split_used=parts is not None or split == "published",
        unknown_names=tuple(sorted(set(parts or ()) - set(listed))),
        duplicates=duplicates,
        leaks=tuple(find_image_leaks(graded, duplicates)),
        resolution=resolution or 64,
    )
    return replace(audit, findings=(*find_faults(audit), *find_notes(audit)))


def _by_name(
    root: Path, records: Sequence[ImageRecord], parts: Mapping[str, str] | None
) -> dict[str, ImageRecord]:
    """Records by posix path below the root, in the parts of the given split."""
    # `relative_to` takes a second for a hundred thousand paths
    start = len((root / "_").as_posix()) - 1
    named = {record.path.as_posix()[start:]: record for record in records}
    if parts is None:
        return named
    return {name: replace(record, part=parts.get(name, "")) for name, record in named.items()}


def _read(root: Path, options: ReaderOptions) -> tuple[GradedTable, str]:
    """The table; an empty one and the reason if it cannot be read."""
    try:
        return scan_graded_images(root, options), ""
    except UserError as error:
        formats = {"auto", *(reader.format for reader in READERS)}
        if options.format not in formats or options.selects_csv or options.grade_pattern:
            raise
        return GradedTable(root, "", (), grouped=False), str(error)


def _inspect(
    root: Path, names: Sequence[str], num_workers: int, track: Track | None
) -> tuple[dict[str, FileFacts], dict[str, str]]:
    """Facts of the good files, and why the others cannot be decoded."""
    # imports torch, which an audit of labels does without
    from blastogan.audit.inspection import inspect_files

    found: Iterable[FileFacts | str] = inspect_files([root / name for name in names], num_workers)
    if track is not None:
        found = track(found, len(names), "opening images")
    facts = list(zip(names, found, strict=True))
    good = {name: each for name, each in facts if not isinstance(each, str)}
    return good, {name: each for name, each in facts if isinstance(each, str)}


def _pixel_facts(good: Mapping[str, FileFacts]) -> dict[str, Any]:
    sizes = Counter(f"{each.size[0]}x{each.size[1]}" for each in good.values())
    modes = Counter(ALL_GREY if each.grey else each.mode for each in good.values())
    return {
        "sizes": dict(sizes.most_common()),
        "modes": dict(modes.most_common()),
        "smallest": min((min(each.size) for each in good.values()), default=0),
        "levels": {name: each.levels for name, each in good.items()},
    }
