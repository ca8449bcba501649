"""Copies among graded images, and leaks between the parts of a split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from blastogan.data.records import PARTS, ImageRecord

if TYPE_CHECKING:
    from blastogan.audit.duplicates import Fingerprint


@dataclass(frozen=True)
class Duplicates:
    """Group of images that are copies of each other, with their labels.

    Attributes:
        images: Posix paths below the root.
        exact: Whether the images are equal in all pixels.
        grades: Their classes, without incomplete ones.
    """

    images: tuple[str, ...]
    exact: bool
    embryos: tuple[str, ...]
    grades: tuple[str, ...]
    parts: tuple[str, ...]

    def __str__(self) -> str:
        return " = ".join(_some(self.images, 4))

    def to_dict(self) -> dict[str, Any]:
        """As plain values; ``spans`` names the labels that differ within the group."""
        lists = {name: list(getattr(self, name)) for name in ("embryos", "grades", "parts")}
        spans = [name for name, values in lists.items() if len(values) > 1]
        kind = "exact" if self.exact else "near"
        return {"images": list(self.images), "kind": kind, **lists, "spans": spans}


@dataclass(frozen=True)
class ImageLeak:
    """Images of one embryo, or copies, in several parts of a split.

    Attributes:
        images: Posix paths below the root.
        embryo: The embryo; empty for copies.
    """

    kind: Literal["embryo", "duplicates"]
    parts: tuple[str, ...]
    images: tuple[str, ...]
    embryo: str = ""

    def __str__(self) -> str:
        name, sign = (f"embryo {self.embryo}: ", ", ") if self.embryo else ("", " = ")
        return f"{name}{sign.join(_some(self.images, 3))}, in {' and '.join(self.parts)}"

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "parts": list(self.parts), "images": list(self.images)}


def label_duplicates(
    prints: Mapping[str, Fingerprint], records: Mapping[str, ImageRecord]
) -> tuple[Duplicates, ...]:
    """Find groups of copies, also among images without labels, and add their labels."""
    from blastogan.audit.duplicates import find_duplicates

    names = list(prints)
    found = []
    for group in find_duplicates(list(prints.values())):
        members = [names[n] for n in group.members]
        graded = [records[name] for name in members if name in records]
        embryos = tuple(sorted({record.embryo for record in graded}))
        grades = tuple(sorted({record.grade.name for record in graded if record.grade.known}))
        parts = _in_order({record.part for record in graded})
        found.append(Duplicates(tuple(members), group.exact, embryos, grades, parts))
    return tuple(found)


def find_image_leaks(
    records: Mapping[str, ImageRecord], duplicates: Iterable[Duplicates]
) -> list[ImageLeak]:
    """Embryos, then groups of copies of several embryos, in several parts."""
    by_embryo: dict[str, dict[str, str]] = {}
    for name, record in records.items():
        if record.part:
            by_embryo.setdefault(record.embryo, {})[name] = record.part
    leaks = [
        ImageLeak("embryo", _in_order(set(parts.values())), tuple(parts), embryo)
        for embryo, parts in by_embryo.items()
        if len(set(parts.values())) > 1
    ]
    # copies within one embryo already count as its leak
    copies = (group for group in duplicates if len(group.parts) > 1 and len(group.embryos) > 1)
    return leaks + [ImageLeak("duplicates", group.parts, group.images) for group in copies]


def _in_order(parts: set[str]) -> tuple[str, ...]:
    return tuple(part for part in PARTS if part in parts)


def _some(names: Sequence[str], most: int) -> list[str]:
    more = [f"{len(names) - most} more"] if len(names) > most else []
    return [*names[:most], *more]
