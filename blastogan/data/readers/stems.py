"""Names of images that begin alike, and so may show one embryo."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from blastogan.data.readers.cells import parse_grade
from blastogan.data.records import ImageRecord

_FEWEST = 6  # images of which beginnings are compared
_STEM = re.compile(r"([^\W_]+)[_\-. ](?=.*\w)")


def stems_note(records: Sequence[ImageRecord], root: Path) -> Iterator[str]:
    """A note if each image is an embryo of its own, while file names share their beginnings."""
    if len(records) < _FEWEST or len({record.embryo for record in records}) < len(records):
        return
    stems: dict[str, list[str]] = {}
    for record in records:
        match = _STEM.match(record.path.name)
        if match is not None and parse_grade(match[1]) is None:
            stems.setdefault(match[1], []).append(record.path.relative_to(root).as_posix())
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
