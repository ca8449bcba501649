"""Files of a data folder: images and tables, listed once."""

from __future__ import annotations

import os
import posixpath
import re
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

TABLE_SUFFIXES = (".csv", ".tsv")

UNREAD_TABLES = frozenset({".json", ".numbers", ".ods", ".parquet", ".xls", ".xlsm", ".xlsx"})
"""Suffixes of files that may hold grades, but are not read."""

SYSTEM_FOLDERS = frozenset(
    (
        *("@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "$recycle.bin"),
        *("recycler", "recycled", "system volume information", "__macosx", "lost+found"),
        *("thumbs", "thumbnails"),
    )
)
"""Folders, in lower case, that storage systems fill with thumbnails and deleted files."""

TABLE = "metadata.csv"  # a clinic's table
_MASK = re.compile(r"[ _-](icm|te|zp|embryo|cavity)?[ _-]?mask$", re.IGNORECASE)
_MASK_FOLDER = re.compile(r"gt[ _-](icm|te|zp)|masks?|segmentations?", re.IGNORECASE)
MASKS = "masks"  # folder beside a `TABLE` whose images are not listed


class ImageTree:
    """Files below a root, without hidden ones and masks; links to folders are not followed.

    Hidden files and folders, and `SYSTEM_FOLDERS`, are skipped. Paths are posix, below the root,
    and sorted.

    Attributes:
        tables: Paths of all files with one of `TABLE_SUFFIXES`.
        unread_tables: Paths of all files with one of `UNREAD_TABLES`.
        skipped: Number of images that are hidden, or by the name of the folder that hides them.
        links: Paths of the links to folders.
        others: Number of files by each of `OTHER_SUFFIXES`.

    Raises:
        UserError: If a folder cannot be listed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.images: list[str] = []
        self.tables: list[str] = []
        self.unread_tables: list[str] = []
        self.skipped: Counter[str] = Counter()
        self.links: list[str] = []
        self.others: Counter[str] = Counter()
        self._plain: set[str] = set()
        self._walk()
        for names in (self.images, self.tables, self.unread_tables, self.links):
            names.sort(key=normal)

    def _walk(self) -> None:
        for parent, folders, files in os.walk(self.root, onerror=_raise):
            masks = MASKS if TABLE in files else None
            self._skip(parent, [name for name in folders if _is_skipped(name)])
            folders[:] = [
                name for name in folders if not _is_skipped(name) and name.casefold() != masks
            ]
            below = Path(parent).relative_to(self.root).as_posix()
            prefix = "" if below == "." else f"{below}/"
            self.links += [prefix + name for name in folders if Path(parent, name).is_symlink()]
            for name in files:
                self._list(parent, prefix, name)

    def _list(self, parent: str, prefix: str, name: str) -> None:
        suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - ten times as fast
        if name.startswith("."):
            self.skipped["hidden files"] += suffix in IMAGE_SUFFIXES
            return
        if suffix in OTHER_SUFFIXES:
            self.others[suffix] += 1
        if suffix in UNREAD_TABLES:
            self.unread_tables.append(prefix + name)
        if suffix not in IMAGE_SUFFIXES and suffix not in TABLE_SUFFIXES:
            return
        (self.tables if suffix in TABLE_SUFFIXES else self.images).append(prefix + name)
        if not os.path.islink(f"{parent}/{name}"):  # noqa: PTH114 - as above
            self._plain.add(prefix + name)

    def _skip(self, parent: str, folders: Sequence[str]) -> None:
        """Count the images in folders that are not read."""
        for folder in folders:
            # copies of the whole storage, or of a repository, are not walked
            if "snapshot" in folder.casefold() or folder in (".git", ".zfs"):
                continue
            for _, _, files in os.walk(Path(parent, folder)):
                images = sum(PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES for name in files)
                self.skipped[folder] += images

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
    def _by_path_stem(self) -> dict[str, list[str]]:
        return _grouped(self.images, lambda name: _fold(str(PurePosixPath(name).with_suffix(""))))

    @cached_property
    def _real_root(self) -> Path:
        return self.root.resolve()

    def find(self, name: str) -> str:
        """Path on disk of the image that a table names.

        The name is not trusted. Its case may differ if only one image matches. An absolute path,
        also of another machine, stands for the image whose path has the longest end of it.

        Raises:
            UserError: If there is no such file, or if it lies outside the folder.
        """
        if name in self._plain:
            return name
        if not name:
            raise UserError("no file name")
        if PureWindowsPath(name).anchor and (moved := self._moved(name)):
            return self.find(moved)
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

    def _moved(self, name: str) -> str:
        """Image whose path has the longest end of an absolute path; empty without one.

        Raises:
            UserError: If several images have it.
        """
        parts = PureWindowsPath(name).parts[1:]
        if ".." in parts:
            return ""
        for start in range(len(parts)):
            end = _fold("/".join(parts[start:]))
            same_name = self._by_file_name.get(_fold(parts[-1]), [])
            found = [each for each in same_name if f"/{_fold(each)}".endswith(f"/{end}")]
            if found:
                return _only(name, found, "give the path below the folder")
        return ""

    def find_listed(self, name: str) -> str:
        """Like `find`, but a file name alone may be that of the one such image in a subfolder.

        The suffix may be missing.

        Raises:
            UserError: Also if several subfolders have an image of that name.
        """
        if name in self._plain:
            return name
        if "/" not in name:
            deeper = [match for match in self.matches(name) if "/" in match]
            if deeper:
                return self.find(_only(name, deeper, "add the folder to the name"))
        try:
            return self.find(name)
        except UserError:
            found = self._by_path_stem.get(_fold(name), []) or (
                self._by_stem.get(_fold(name), []) if "/" not in name else []
            )
            if not found:
                raise
        return self.find(_only(name, found, "add the suffix to the name"))

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


def is_mask(name: str) -> bool:
    """Whether a path is that of a mask: in a folder ``masks``, or named ``... ICM Mask``."""
    *folders, file = name.split("/")
    return bool(_MASK.search(stem_of(file))) or any(map(_MASK_FOLDER.fullmatch, folders))


def stem_of(name: str) -> str:
    """Name of an image without folder and suffix; ten times as fast as a path's ``stem``."""
    return name.rpartition("/")[2].rpartition(".")[0]


def normal(name: str) -> str:
    """A name with composed accents (NFC), which macOS stores decomposed."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _is_skipped(folder: str) -> bool:
    return folder.startswith(".") or folder.casefold() in SYSTEM_FOLDERS


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
