"""Files of a data folder: images and tables, listed once."""

from __future__ import annotations

import os
import posixpath
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
"""Suffixes of image formats that are not supported."""

TABLE = "metadata.csv"  # a clinic's table
MASKS = "masks"  # folder beside a `TABLE` whose images are not listed


class ImageTree:
    """Files below a root, without hidden ones and masks; links to folders are not followed.

    Paths are posix, below the root, and sorted.

    Attributes:
        tables: Paths of all ``.csv`` files.
        links: Paths of the links to folders.
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
        for parent, folders, files in os.walk(self.root, onerror=_raise):
            masks = MASKS if TABLE in files else None
            folders[:] = [
                name for name in folders if not name.startswith(".") and name.casefold() != masks
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
        """Path on disk of the image that a table names.

        The name is not trusted. Its case may differ if only one image matches.

        Raises:
            UserError: If there is no such file, or if it lies outside the folder.
        """
        if name in self._plain:
            return name
        if not name:
            raise UserError("no file name")
        path = self.root / name
        try:
            inside = path.resolve().is_relative_to(self._real_root)
            found = path.is_file()
        except (OSError, RuntimeError, ValueError):  # too long, links in a loop, a null byte
            inside, found = True, False
        if not inside or PureWindowsPath(name).anchor or ".." in PurePosixPath(name).parts:
            raise UserError(f"{name[:200]!r} points outside the folder")
        if found:
            return path.relative_to(self.root).as_posix()
        matches = self._by_spelling.get(_fold(name), [])
        if len(matches) != 1 or matches == [name]:  # the latter is a broken link
            raise UserError(f"{name[:200]!r} is not a file in the folder")
        return self.find(matches[0])

    def find_listed(self, name: str) -> str:
        """Like `find`, but a file name alone may be that of the one such image in a subfolder.

        Raises:
            UserError: Also if several subfolders have an image of that name.
        """
        if name in self._plain or "/" in name:
            return self.find(name)
        deeper = [match for match in self.matches(name) if "/" in match]
        return self.find(_only(name, deeper, "add the folder to the name"))

    def find_anywhere(self, name: str, among: Sequence[str] = ()) -> str:
        """Like `find`, but the image may lie in any subfolder, and its suffix may be missing.

        If `among` is not empty, only its images are considered.

        Raises:
            UserError: Also if several images have that name.
        """
        allowed = set(among)
        for known in (self._by_file_name, self._by_stem):
            found = known.get(_fold(name), [])
            found = [match for match in found if match in allowed] if among else found
            if found:
                return self.find(_only(name, found, "remove all but one"))
        return self.find(name)

    def matches(self, name: str) -> list[str]:
        """Images that a name may mean; a file name alone means those at the root, if any."""
        folded = _fold(posixpath.normpath(name))
        return self._by_spelling.get(folded) or self._by_file_name.get(folded, [])

    def identity(self, name: str) -> str:
        """Resolved path of a file, equal for all names of it."""
        if name in self._plain:
            return name
        return (self.root / name).resolve().relative_to(self._real_root).as_posix()


def normal(name: str) -> str:
    """A name with composed accents (NFC), which macOS stores decomposed."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _fold(name: str) -> str:
    return normal(name).casefold()


def _grouped(names: Sequence[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(key(name), []).append(name)
    return groups


def _only(name: str, matches: Sequence[str], remedy: str) -> str:
    """The one match of a name, or the name itself without any."""
    if len(matches) > 1:
        raise UserError(f"{name!r} may be {' or '.join(matches[:3])}: {remedy}")
    return matches[0] if matches else name


def _raise(error: OSError) -> None:
    raise UserError(f"{error.filename} cannot be listed ({error.strerror}): make it readable")
