"""Graded images as every reader returns them, and how a reader gathers them."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from blastogan.errors import ProblemList, UserError
from blastogan.grades import CLASSES, Grade

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})

NOT_GRADABLE = frozenset({"", "NA", "ND"})
"""What stands in place of a grade where there is none: not noted, no consensus, not defined."""


@dataclass(frozen=True)
class ImageRecord:
    """One graded image.

    Attributes:
        path: The image file.
        grade: Its grade.
        embryo: Name of the group that a split must never separate: the embryo, or the patient
            or video where a data set notes no more than that.
    """

    path: Path
    grade: Grade
    embryo: str


@dataclass(frozen=True)
class GradedTable:
    """All graded images of one folder.

    Attributes:
        root: The folder.
        format: Name of the reader that read it.
        records: The images, sorted by their path below `root`.
        dropped: What was left out and why, in the order in which it was found.
    """

    root: Path
    format: str
    records: tuple[ImageRecord, ...]
    dropped: tuple[tuple[str, str], ...]

    def counts(self) -> dict[str, int]:
        """Number of images of each class, all ten, in the order of `CLASSES`."""
        found = Counter(record.grade.name for record in self.records)
        return {name: found[name] for name in CLASSES}

    def summary(self) -> str:
        """One paragraph: images, embryos, images of each class, dropped counted by reason."""
        embryos = len({record.embryo for record in self.records})
        classes = ", ".join(f"{name} {count}" for name, count in self.counts().items())
        reasons = Counter(why for _, why in self.dropped)
        dropped = ", ".join(f"{why} {count}" for why, count in sorted(reasons.items()))
        return (
            f"{self.root} (format {self.format}): {len(self.records)} images of {embryos} embryos."
            f" Images by class: {classes}."
            f" Dropped: {len(self.dropped)}{f' ({dropped})' if dropped else ''}."
        )


class TableDraft:
    """Table in the making, which gathers every fault before it refuses any.

    Attributes:
        problems: Faults found so far.
    """

    def __init__(self, root: Path, format_: str) -> None:
        self.problems: list[str] = []
        self._root = root
        self._format = format_
        self._records: dict[str, ImageRecord] = {}
        self._dropped: list[tuple[str, str]] = []
        self._seen: dict[Path, tuple[str, Grade, str]] = {}

    def scan(self) -> list[str]:
        """`list_images` of the root; folders behind links are noted as dropped."""
        images, links = _walk(self._root)
        self._dropped += [(name, "link to a folder") for name in links]
        return images

    def add(self, where: str, name: str, grade: str, embryo: str) -> None:
        """Add one image.

        Args:
            where: Place to name in a problem, such as a line.
            name: Posix path of the image below the root, as found; not trusted.
            grade: Grade as found.
            embryo: The embryo; empty if the image is an embryo of its own.
        """
        if grade.upper() in NOT_GRADABLE:
            self._dropped.append((name or where, f"grade {grade.upper() or 'empty'}"))
            return
        faults = len(self.problems)
        try:
            parsed = Grade.parse(grade)
        except UserError:
            self.problems.append(f"{where}: unknown grade {grade[:40]!r}")
        try:
            path = _locate(self._root, name)
        except UserError as error:
            self.problems.append(f"{where}: {error}")
        if len(self.problems) > faults:
            return
        name = path.relative_to(self._root).as_posix()
        target = path.resolve()
        if target not in self._seen:
            self._seen[target] = (where, parsed, embryo)
            self._records[name] = ImageRecord(path, parsed, _normal(embryo or name))
        elif self._seen[target][1:] == (parsed, embryo):
            self._dropped.append((name, "listed twice"))
        else:
            first, *before = map(str, self._seen[target])
            self.problems.append(
                f"{where}: {name} is grade {parsed}, embryo {embryo or 'unknown'} here, but "
                f"grade {before[0]}, embryo {before[1] or 'unknown'} at {first}"
            )

    def table(self) -> GradedTable:
        """The finished table.

        Raises:
            ProblemList: If there are problems.
        """
        if self.problems:
            raise ProblemList(
                f"{self._root} (format {self._format}) cannot be read as it is",
                list(dict.fromkeys(self.problems)),
                f"Mend these or take them out. Grades are {', '.join(CLASSES)}, with an expansion "
                "digit, + or - if known (4AB, 3AA-); NA, ND or nothing if not gradable. "
                "Images lie in this folder, or are copied into it.",
            )
        records = tuple(self._records[name] for name in sorted(self._records, key=_normal))
        return GradedTable(self._root, self._format, records, tuple(self._dropped))


def list_images(root: Path) -> list[str]:
    """Paths below `root` of all images that are not hidden: posix, sorted, links not followed."""
    return _walk(root)[0]


def _walk(root: Path) -> tuple[list[str], list[str]]:
    """Sorted posix paths below `root` of the images, and of the links to folders."""
    images: list[str] = []
    links: list[str] = []
    for parent, folders, files in os.walk(root, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(parent).relative_to(root)
        links += [(below / name).as_posix() for name in folders if Path(parent, name).is_symlink()]
        images += [
            (below / name).as_posix()
            for name in files
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES
        ]
    return sorted(images, key=_normal), sorted(links, key=_normal)


def _refuse(error: OSError) -> None:
    raise UserError(f"{error.filename} cannot be listed ({error.strerror}): make it readable")


def _normal(name: str) -> str:
    """One spelling of accented letters, which macOS stores decomposed."""
    return unicodedata.normalize("NFC", name)


def _locate(root: Path, name: str) -> Path:
    """The file `name` below `root`; raises UserError if it is none or lies outside."""
    if not name:
        raise UserError("no filename")
    path = root / name
    try:
        inside = path.resolve().is_relative_to(root.resolve())
        found = path.is_file()
    except (OSError, RuntimeError, ValueError):  # a name too long, links in a loop, a null byte
        inside, found = True, False
    if not inside or PureWindowsPath(name).anchor or ".." in PurePosixPath(name).parts:
        raise UserError(f"{name!r} leads out of the folder")
    if not found:
        raise UserError(f"{name!r} is no file in the folder")
    return path
