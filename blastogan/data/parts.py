"""Contents of the parts of a split, and which of them are too small to measure anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from blastogan.data.records import ImageRecord, class_counts, incomplete_grades

MIN_EMBRYOS = 5
"""Embryos in a held-out part below which metrics on it say nothing."""

MIN_CLASSES = 2
"""Likewise classes, if grades are known."""


@dataclass(frozen=True)
class Part:
    """Contents of a part of a split.

    Attributes:
        name: ``train``, ``val`` or ``test``.
        images: Number of images.
        embryos: Number of embryos; every image counts as one if they are unknown.
        classes: Images of each class that has any.
        incomplete: Images by what is known of an incomplete grade.
        grouped: Whether it is known which images show the same embryo.
    """

    name: str
    images: int
    embryos: int
    classes: Mapping[str, int]
    incomplete: Mapping[str, int]
    grouped: bool = True

    def __str__(self) -> str:
        return self.describe("image" if self.images == 1 else "images")

    def describe(self, kind: str) -> str:
        """One line; `kind` is what the images are called, such as ``phantoms``."""
        every = [f"{name} {n}" for name, n in {**self.classes, **self.incomplete}.items()]
        embryos = f" of {self.embryos} embryo{'' if self.embryos == 1 else 's'}"
        listed = f" ({', '.join(every)})" if every else ""
        return f"{self.name}: {self.images} {kind}{embryos if self.grouped else ''}{listed}"

    @property
    def weakness(self) -> str:
        """Why metrics on this held-out part say nothing; empty if they do, or if it is unused."""
        if self.name == "train" or not self.images:
            return ""
        few = self.embryos < MIN_EMBRYOS
        alike = bool(self.classes) and len(self.classes) < MIN_CLASSES
        if not (few or alike):
            return ""
        return f"{self}: at least {MIN_EMBRYOS} embryos and {MIN_CLASSES} classes are needed"


def parts_of(
    records: Sequence[ImageRecord], split: Mapping[str, Sequence[int]], grouped: bool = True
) -> list[Part]:
    """Contents of each part of a split, as positions in the records; see `Part`."""
    found = []
    for name, positions in split.items():
        mine = [records[n] for n in positions]
        counts = {each: n for each, n in class_counts(mine).items() if n}
        embryos = len({record.embryo for record in mine})
        found.append(Part(name, len(mine), embryos, counts, incomplete_grades(mine), grouped))
    return found
