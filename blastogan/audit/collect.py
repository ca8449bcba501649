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
        pixels: Whether to open the files; otherwise only labels are audited, and no duplicates
            are found.
        parts: Split to check instead of a published one: ``train``, ``val`` or ``test`` by posix
            path below `root`.
        split: Split that training will use if `parts` is not given: with ``by-embryo``, leaks of
            a published split are only notes.
        num_workers: Processes that decode; 0 decodes in this one.
        resolution: Side in pixels that training will use, by default 64.
        track: Progress hook.

    Raises:
        UserError: If the root has no images, or if an option is invalid.
    """
    root = Path(root)
    if isinstance(options, str):
        options = ReaderOptions(format=options)
    tree = open_tree(root)
    table, refusal = _read(root, options)
    listed = _names(root, table.records)
    # a table may list files with other suffixes
    every = list(dict.fromkeys([*tree.images, *listed]))
    facts: dict[str, FileFacts | str] = {}
    if pixels:
        facts = _inspect(root, every, num_workers, track)
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
        # of a set without known grades, all files are compared
        {name: each.fingerprint for name, each in good.items() if refusal or name in graded},
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
        unknown_names=tuple(sorted(set(parts or ()) - set(listed))),
        duplicates=duplicates,
        leaks=tuple(find_image_leaks(graded, duplicates)),
        resolution=resolution or 64,
    )
    return replace(audit, findings=(*find_faults(audit), *find_notes(audit)))


def _names(root: Path, records: Sequence[ImageRecord]) -> list[str]:
    """Posix paths below the root."""
    # `relative_to` takes a second for a hundred thousand paths
    start = len((root / "_").as_posix()) - 1
    return [record.path.as_posix()[start:] for record in records]


def _read(root: Path, options: ReaderOptions) -> tuple[GradedTable, str]:
    """The table; an empty one and the reason if it cannot be read."""
    try:
        return scan_graded_images(root, options), ""
    except UserError as error:
        formats = {"auto", *(reader.format for reader in READERS)}
        if options.format not in formats or options.selects_csv:
            raise
        return GradedTable(root, "", (), grouped=False), str(error)


def _inspect(
    root: Path, names: Sequence[str], num_workers: int, track: Track | None
) -> dict[str, FileFacts | str]:
    # imports torch, which an audit of labels does without
    from blastogan.audit.inspection import inspect_files

    found: Iterable[FileFacts | str] = inspect_files([root / name for name in names], num_workers)
    if track is not None:
        found = track(found, len(names), "opening images")
    return dict(zip(names, found, strict=True))


def _ranked(found: Iterable[str]) -> dict[str, int]:
    return dict(Counter(found).most_common())
