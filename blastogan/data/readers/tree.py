"""What lies in a data folder: images and tables, found once, none of them outside."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath

from blastogan.errors import UserError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})

OTHER_SUFFIXES = frozenset(
    {".avif", ".czi", ".dcm", ".dib", ".gif", ".heic", ".heif", ".j2k", ".jfif", ".jp2", ".jpe"}
    | {".jxl", ".lif", ".nd2", ".webp"}
)
"""Suffixes of images that are not read."""

TABLE = "metadata.csv"
"""A clinic's table."""

MASKS = "masks"
"""Folder beside a `TABLE` in which lie no images to be graded, but masks of them."""


class Folder:
    """Files below a root, hidden ones and masks left out, links to folders not followed.

    Args:
        root: The folder.

    Attributes:
        images: Posix paths below the root of all images, sorted.
        tables: Posix paths of all ``.csv`` files, sorted.
        links: Posix paths of the links to folders, sorted.
        others: Number of files by each of `OTHER_SUFFIXES`.

    Raises:
        UserError: If a folder cannot be listed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.images: list[str] = []
        self.tables: list[str] = []
        self.links: list[str] = []
        self.others: Counter[str] = Counter()
        self._plain: set[str] = set()
        self._walk()
        for names in (self.images, self.tables, self.links):
            names.sort(key=normal)

    def _walk(self) -> None:
        for parent, folders, files in os.walk(self.root, onerror=_refuse):
            left_out = {MASKS} if TABLE in files else set()
            folders[:] = [
                name
                for name in folders
                if not name.startswith(".") and name.casefold() not in left_out
            ]
            below = Path(parent).relative_to(self.root).as_posix()
            prefix = "" if below == "." else f"{below}/"
            self.links += [prefix + name for name in folders if Path(parent, name).is_symlink()]
            for name in files:
                suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - ten times as fast
                if name.startswith("."):
                    continue
                if suffix in OTHER_SUFFIXES:
                    self.others[suffix] += 1
                if suffix not in (*IMAGE_SUFFIXES, ".csv"):
                    continue
                (self.tables if suffix == ".csv" else self.images).append(prefix + name)
                if not os.path.islink(f"{parent}/{name}"):  # noqa: PTH114 - as above
                    self._plain.add(prefix + name)

    @cached_property
    def _by_spelling(self) -> dict[str, list[str]]:
        """Names of images by what is left without case and accents' encoding."""
        return _grouped(self.images, _fold)

    @cached_property
    def _by_file_name(self) -> dict[str, list[str]]:
        return _grouped(self.images, lambda name: _fold(PurePosixPath(name).name))

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        return _grouped(self.images, lambda name: _fold(PurePosixPath(name).stem))

    @cached_property
    def _real_root(self) -> Path:
        return self.root.resolve()

    def find(self, name: str) -> str:
        """The posix path, as it is on disk, of the image that a table names; not trusted.

        Case may differ where that leaves one image.

        Raises:
            UserError: If it is no file, or lies outside the folder.
        """
        if name in self._plain:
            return name
        if not name:
            raise UserError("no filename")
        path = self.root / name
        try:
            inside = path.resolve().is_relative_to(self._real_root)
            found = path.is_file()
        except (OSError, RuntimeError, ValueError):  # too long, links in a loop, a null byte
            inside, found = True, False
        if not inside or PureWindowsPath(name).anchor or ".." in PurePosixPath(name).parts:
            raise UserError(f"{name[:200]!r} leads out of the folder")
        if found:
            return path.relative_to(self.root).as_posix()
        alike = self._by_spelling.get(_fold(name), [])
        if len(alike) != 1 or alike == [name]:  # the latter is a link that leads nowhere
            raise UserError(f"{name[:200]!r} is no file in the folder")
        return self.find(alike[0])

    def find_anywhere(self, name: str, among: Sequence[str] = ()) -> str:
        """As `find`, but the image may lie in any subfolder, and its suffix may be missing.

        Args:
            name: File name as a table has it, not trusted.
            among: If given, only these images are meant.

        Raises:
            UserError: Also if several images are called so.
        """
        allowed = set(among)
        for known in (self._by_file_name, self._by_stem):
            alike = known.get(_fold(name), [])
            alike = [each for each in alike if each in allowed] if among else alike
            if len(alike) > 1:
                raise UserError(
                    f"{name!r} may be {' or '.join(alike[:3])}: remove what is not meant"
                )
            if alike:
                return self.find(alike[0])
        return self.find(name)

    def identity(self, name: str) -> str:
        """What two names of one file have in common."""
        if name in self._plain:
            return name
        return (self.root / name).resolve().relative_to(self._real_root).as_posix()


def list_images(root: Path) -> list[str]:
    """Paths below `root` of all images that are not hidden: posix, sorted, links not followed."""
    return Folder(root).images


def normal(name: str) -> str:
    """One spelling of accented letters, which macOS stores decomposed."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _fold(name: str) -> str:
    return normal(name).casefold()


def _grouped(names: Sequence[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(key(name), []).append(name)
    return groups


def _refuse(error: OSError) -> None:
    raise UserError(f"{error.filename} cannot be listed ({error.strerror}): make it readable")
