"""Audit of a graded set."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blastogan.audit.contents import ALL_GREY, Audit
from blastogan.audit.copies import find_image_leaks, label_duplicates
from blastogan.audit.findings import find_faults, find_notes
from blastogan.audit.quality import find_quality_notes
from blastogan.data.readers import READERS, ReaderOptions, open_tree, scan_graded_images
from blastogan.data.readers.exclusion import excluded_images
from blastogan.data.records import PARTS, GradedTable, ImageRecord
from blastogan.data.splits import SplitPlan, split_records
from blastogan.errors import UserError

if TYPE_CHECKING:
    from blastogan.audit.inspection import FileFacts

splits_log = logging.getLogger(split_records.__module__)

Track = Callable[[Iterable[Any], int, str], Iterable[Any]]
"""Progress hook: wraps the items of a loop, given their number and a description."""


def audit_images(
    root: str | Path,
    options: ReaderOptions | str = "auto",
    *,
    pixels: bool = True,
    parts: Mapping[str, str] | None = None,
    plan: SplitPlan | None = None,
    num_workers: int = 0,
    resolution: int | None = None,
    track: Track | None = None,
) -> Audit:
    """Audit a set of images, whose files are inspected even if no reader can read it.

    Args:
        root: The folder.
        options: Options for reading, or the name of a format.
        pixels: Whether to open the files; otherwise only labels are audited.
        parts: Split to check instead of `plan`: each part by posix path below `root`.
        plan: How training will split the set; ``None`` for its defaults. Leaks of a published
            split that it will not use are only notes.
        num_workers: Processes that decode; 0 decodes in this one.
        resolution: Side in pixels that training will use, by default 64.
        track: Progress hook.

    Raises:
        UserError: If the root has no images, or if an option is invalid.
    """
    root, plan = Path(root), plan or SplitPlan()
    options = ReaderOptions(format=options) if isinstance(options, str) else options
    tree = open_tree(root)
    excluded = excluded_images(tree, options.exclude)
    table, refusal = _read(root, options)
    listed = _by_name(root, table.records)
    # a table may list files with other suffixes
    every = [name for name in dict.fromkeys([*tree.images, *listed]) if name not in excluded]
    good, unreadable = _inspect(root, every, num_workers, track) if pixels else ({}, {})
    published = {name: record for name, record in listed.items() if name not in unreadable}
    graded, no_split = _in_parts(published, parts, plan, root)
    # of a set without known grades, all files are compared
    compared = {n: each.fingerprint for n, each in good.items() if refusal or n in graded}
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
        no_split=no_split,
        **_split_facts(published, "given" if parts is not None else plan.kind),
        unknown_names=tuple(sorted(set(parts or ()) - set(listed) - excluded)),
        duplicates=duplicates,
        leaks=tuple(find_image_leaks(graded, duplicates)),
        resolution=resolution or 64,
        measures={name: good[name].measures for name in _measured(good, graded, table)},
    )
    return _with_findings(audit)


def _measured(good: Iterable[str], used: Mapping[str, Any], table: GradedTable) -> list[str]:
    """Images that are used, or would be once their faults are fixed."""
    dropped = {name for name, _ in table.dropped}
    return [name for name in good if name in used or name not in dropped]


def _with_findings(audit: Audit) -> Audit:
    findings = (*find_faults(audit), *find_notes(audit), *find_quality_notes(audit))
    return replace(audit, findings=findings)


def _by_name(root: Path, records: Sequence[ImageRecord]) -> dict[str, ImageRecord]:
    """Records by posix path below the root."""
    # `relative_to` takes a second for a hundred thousand paths
    start = len((root / "_").as_posix()) - 1
    return {record.path.as_posix()[start:]: record for record in records}


def _in_parts(
    named: Mapping[str, ImageRecord], parts: Mapping[str, str] | None, plan: SplitPlan, root: Path
) -> tuple[dict[str, ImageRecord], str]:
    """Records in the parts of the split that training will use, or why there is no such split."""
    if parts is None and named:
        names, records = list(named), list(named.values())
        level = splits_log.level
        # what it warns of is a finding here
        splits_log.setLevel(logging.ERROR)
        try:
            split = split_records(records, plan, root)
        except UserError as error:
            return {name: replace(record, part="") for name, record in named.items()}, str(error)
        finally:
            splits_log.setLevel(level)
        parts = {names[n]: part for part, positions in split.items() for n in positions}
    parts = parts or {}
    return {name: replace(each, part=parts.get(name, "")) for name, each in named.items()}, ""


def _split_facts(own: Mapping[str, ImageRecord], used: str) -> dict[str, Any]:
    """Name of the split that is used; images and leaks of the set's own, if there is another."""
    if used == "published":
        return {"split": used, "published": {}, "published_leaks": ()}
    found = Counter(record.part for record in own.values() if record.part)
    counts = {part: found[part] for part in PARTS} if len(found) > 1 else {}
    return {"split": used, "published": counts, "published_leaks": (*find_image_leaks(own, ()),)}


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
