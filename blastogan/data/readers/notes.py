"""Notes on what readers assume."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath

from blastogan.data.readers.cells import parse_grade
from blastogan.data.readers.tree import ImageTree
from blastogan.data.records import ImageRecord

_FEWEST = 6  # images of which beginnings are compared
_STEM = re.compile(r"([^\W_]+)[_\-. ](?=.*\w)")


_BY_NAME = (
    "{} images are listed without their folder: they were found in a subfolder by their file name"
)
_BY_END = (
    "{} images are listed with a path on another drive or machine: they were found by its end, "
    "the file name at least"
)
_BY_STEM = "{} images are listed without their suffix: they were found by the rest of the name"
_BY_CASE = ""
FOUND = (_BY_NAME, _BY_END, _BY_STEM, _BY_CASE)
"""How images were found whose names in a table are other than on disk."""


def how_found(name: str, found: str) -> str:
    """One of `FOUND`, for the name in a table and the path on disk."""
    if name[:1] == "/" or name[1:2] == ":":
        return _BY_END
    suffix = PurePosixPath(name).suffix.lower()
    if not suffix or not found.lower().endswith(suffix):
        return _BY_STEM
    return _BY_NAME if "/" in found and "/" not in name else _BY_CASE


def stems_note(records: Sequence[ImageRecord]) -> Iterator[str]:
    """A note if each image is an embryo of its own, while file names share their beginnings."""
    if len(records) < _FEWEST or len({record.embryo for record in records}) < len(records):
        return
    stems: dict[str, list[str]] = {}
    for record in records:
        match = _STEM.match(record.path.name)
        if match is not None and parse_grade(match[1]) is None:
            stems.setdefault(match[1], []).append(record.path.name)
    shared = {stem: names for stem, names in stems.items() if len(names) > 1}
    named = sum(map(len, stems.values()))
    # of words, a few are kinds of images rather than embryos
    telling = not any(map(str.isalpha, stems)) or 10 * len(stems) >= named
    if telling and len(stems) > 1 and 2 * len(stems) <= named and 2 * named >= len(records):
        stem, names = max(shared.items(), key=lambda item: len(item[1]))
        yield (
            f"each image counts as an embryo of its own, though the names of {named} images have "
            f"only {len(stems)} beginnings, such as {stem} ({len(names)} images: "
            f"{', '.join(names[:2])}). If these show one embryo, a split would separate its "
            r"images: set embryo_pattern to '([^/_. -]+)[^/]*$'"
        )


def tree_notes(tree: ImageTree, *, tables_read: bool) -> Iterable[str]:
    """Notes on files that are skipped or not read."""
    skipped = {name: count for name, count in tree.skipped.items() if count}
    if skipped:
        shown = ", ".join(f"{name} {count}" for name, count in sorted(skipped.items())[:6])
        yield (
            f"{sum(skipped.values())} images in hidden and system folders, or hidden, are "
            f"skipped: {shown}"
        )
    names = [n for n in tree.unread_tables if not (tables_read and n.endswith(".json"))]
    if names:
        yield (
            f"{len(names)} files that may hold grades are not read, such as "
            f"{', '.join(names[:3])}: to use one, save it as CSV beside the images"
        )
