"""A set of phantoms as files: drawn by several processes, gone on with after any stop."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout
from torch.utils.data import Dataset

from blastogan.data import export
from blastogan.data.readers.tree import TABLE
from blastogan.errors import UserError
from blastogan.phantoms.dataset import (
    PhantomDataset,
    embryo_name,
    loader_of,
    picture_name,
)
from blastogan.phantoms.truth import MASKS, phantom_numbers
from blastogan.runs.folder import fresh_folder
from blastogan.utils.files import atomic_write, write_json
from blastogan.utils.terminal import track

_log = logging.getLogger(__name__)

SETTINGS = "phantoms.json"
"""What the set was drawn with; the first file of it."""

TRUTH = "truth.csv"
"""What is known of each picture, a row each: `Truth.numbers`."""

COLUMNS = (*export.COLUMNS, "expansion", "shot", "plane", "focus_um", "clinic")
"""Columns of ``metadata.csv``: the clinic's own, and what a clinic does not note."""

_LOCK = ".phantoms.lock"


class Written(NamedTuple):
    """What was done to a folder.

    Attributes:
        kept: Pictures that were there already.
        drawn: Pictures that were drawn.
    """

    kept: int
    drawn: int


def write_phantoms(root: Path, phantoms: PhantomDataset, num_workers: int) -> Written:
    """Draw a set into a folder, or go on where it was left.

    Written are ``CLASS/phantom-000000.png``, ``masks/NAME/phantom-000000.png`` if the set has
    masks, ``metadata.csv`` in the clinic's columns and more, ``truth.csv``, and `SETTINGS`. Every
    file is whole or not there; ``metadata.csv`` lists all pictures from the first moment, so that
    a set that was stopped is not taken for a whole one, and ``truth.csv`` comes last.

    Args:
        root: Folder, new or empty, or begun with the same settings and no larger count.
        phantoms: The set.
        num_workers: Processes that draw; 0 draws in this one.

    Raises:
        UserError: If the folder holds anything else.
        OSError: If a file cannot be written.
    """
    if not (root / SETTINGS).exists():
        fresh_folder(root)
    with _held(root):
        _settle(root, {"blastogan": version("blastogan"), **phantoms.settings()})
        missing = frozenset(_missing(root, phantoms))
        kept = len(phantoms) - len(missing)
        tables = [_rows(root / name) for name in (TABLE, TRUTH)]
        if missing or tables != [len(phantoms)] * 2:
            _sweep(root)
            if kept:
                _log.info("%d of %d phantoms are there already", kept, len(phantoms))
            # a reader of a set that was stopped is told by its table what is missing
            _write_table(root, phantoms)
            _draw(root, phantoms, missing, num_workers)
    return Written(kept, len(missing))


@contextmanager
def _held(root: Path) -> Iterator[None]:
    """One process at a time draws into a folder."""
    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _log.info("another process draws into %s: waiting for it", root)
        lock.acquire()
    try:
        yield
    finally:
        with suppress(OSError):
            (root / _LOCK).unlink(missing_ok=True)
        lock.release()


def _settle(root: Path, wanted: Mapping[str, Any]) -> None:
    """Note the settings, unless the folder was begun with others."""
    path = root / SETTINGS
    if not path.exists():
        write_json(wanted, path)
        return
    found = _read_settings(path)
    before, count = found["count"], wanted["count"]
    different = [
        f"{name} is {found.get(name)!r} there and {value!r} here"
        for name, value in wanted.items()
        if name != "count" and found.get(name) != value
    ]
    if different:
        raise UserError(
            f"{root} holds phantoms of other settings: {', '.join(different)}. Choose another "
            "folder, or give the same settings to go on with this one"
        )
    if before > count:
        raise UserError(
            f"{root} holds a set of {before} phantoms, more than the {count} asked for; nothing "
            f"is removed. Choose another folder, or a count of {before} or more"
        )
    if before < count:
        _log.info("extending the %d phantoms of %s to %d", before, root, count)
        write_json(wanted, path)


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({error}): choose another folder") from error
    if not isinstance(found, dict) or not isinstance(found.get("count"), int):
        raise UserError(f"{path} holds no settings of phantoms: choose another folder")
    return found


def _missing(root: Path, phantoms: PhantomDataset) -> Iterator[int]:
    """Pictures of which a file is not there."""

    @cache
    def files_in(folder: Path) -> frozenset[str]:
        return frozenset(file.name for file in folder.glob("*.png"))

    masks = [_mask_folder(root, name) for name in MASKS] if phantoms.masks else []
    for n, view in enumerate(phantoms.views):
        name = f"{picture_name(n)}.png"
        if not all(name in files_in(folder) for folder in (root / view.grade.name, *masks)):
            yield n


def _mask_folder(root: Path, mask: str) -> Path:
    return root / "masks" / mask


def _rows(table: Path) -> int:
    """Rows of a table below its header, each on one line; 0 without a table."""
    return table.read_bytes().count(b"\n") - 1 if table.is_file() else 0


def _sweep(root: Path) -> None:
    """Remove what a process that died was writing."""
    tables = [f"{name}.*.part" for name in (SETTINGS, TRUTH, TABLE)]
    for pattern in (*tables, "*/phantom-*.png.*.part", "masks/*/phantom-*.png.*.part"):
        for part in root.glob(pattern):
            part.unlink(missing_ok=True)


def _draw(root: Path, phantoms: PhantomDataset, missing: frozenset[int], num_workers: int) -> None:
    """Draw the missing pictures, and write down what is known of all."""
    facts = loader_of(_Files(root, phantoms, missing), min(num_workers, len(phantoms)))
    path = root / TRUTH
    with atomic_write(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        for n, fact in enumerate(track(facts, len(phantoms), "drawing phantoms")):
            if isinstance(fact, OSError):
                raise fact
            if not n:
                writer.writerow(["folder", "filename", *fact])
            numbers = (f"{number:.7g}" for number in fact.values())
            writer.writerow([phantoms.grade(n).name, f"{picture_name(n)}.png", *numbers])


class _Files(Dataset[Any]):
    """Draws pictures into files, and tells what is known of each, or why it cannot be written.

    Args:
        root: Folder of the set.
        phantoms: The set.
        missing: Pictures to be drawn.
    """

    def __init__(self, root: Path, phantoms: PhantomDataset, missing: frozenset[int]) -> None:
        self._root = root
        self._phantoms = phantoms
        self._missing = missing

    def __len__(self) -> int:
        return len(self._phantoms)

    def __getitem__(self, index: int) -> dict[str, float] | OSError:
        phantoms, view = self._phantoms, self._phantoms.views[index]
        if index in self._missing:
            try:
                self._write(index)
            except OSError as error:
                # raised in a worker, its message would be a traceback
                return error
        return phantom_numbers(phantoms.seed, view, phantoms.framing)

    def _write(self, index: int) -> None:
        # the picture comes last: where it is, its masks are
        if self._phantoms.masks:
            for name, mask in self._phantoms.mask_pictures(index).items():
                file = _mask_folder(self._root, name) / f"{picture_name(index)}.png"
                export.write_png(file, mask)
        grade, picture = self._phantoms.grade(index), self._phantoms.picture(index)
        export.write_image(self._root, "phantom", index, grade.name, picture)


def _write_table(root: Path, phantoms: PhantomDataset) -> None:
    rows = (
        {
            "folder": view.grade.name,
            "filename": f"{picture_name(n)}.png",
            "embryo_ivf_id": embryo_name(view.embryo),
            "embryo_guid": embryo_name(view.embryo),
            "stage": "phantom",
            "grade": str(view.grade),
            "expansion": view.grade.expansion,
            "shot": view.shot,
            "plane": view.plane,
            "focus_um": f"{view.focus:g}",
            "clinic": view.clinic,
        }
        for n, view in enumerate(phantoms.views)
    )
    export.write_rows(root / TABLE, COLUMNS, rows)
