"""A set of phantoms as files, drawn by several processes, continued after any stop."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from blastogan.data import export
from blastogan.data.batches import Track, map_in_processes, no_track
from blastogan.data.readers.tree import TABLE
from blastogan.errors import UserError
from blastogan.phantoms.dataset import PhantomDataset, embryo_name, picture_name
from blastogan.phantoms.truth import MASKS, phantom_numbers
from blastogan.runs.folder import fresh_folder
from blastogan.utils.files import atomic_write, write_json

_log = logging.getLogger(__name__)

SETTINGS, TRUTH = "phantoms.json", "truth.csv"
"""The set's settings, its first file, and a table of `phantom_numbers`, its last."""

COLUMNS = (*export.COLUMNS, "expansion", "shot", "plane", "focus_um", "clinic")
"""Columns of ``metadata.csv``: the clinic's own, and those of phantoms."""


class Written(NamedTuple):
    """Pictures that existed before, and pictures that were drawn."""

    kept: int
    drawn: int


def write_phantoms(
    root: Path, phantoms: PhantomDataset, num_workers: int, track: Track = no_track
) -> Written:
    """Draw a set into a folder, or continue one that was stopped.

    Writes ``CLASS/phantom-000000.png``, ``masks/NAME/phantom-000000.png`` if the set has masks,
    ``metadata.csv`` with `COLUMNS`, `TRUTH`, and `SETTINGS`, each file atomically. The table
    ``metadata.csv`` is written before the pictures, so that a set that was stopped is not taken
    for a complete one.

    Args:
        root: Folder: new, empty, or begun with the same settings and no larger count.
        phantoms: The set.
        num_workers: Processes that draw; 0 draws in this one.
        track: Shows progress.

    Raises:
        UserError: If the folder holds anything else.
        OSError: If a file cannot be written.
    """
    if not (root / SETTINGS).exists():
        fresh_folder(root)
    with _locked(root):
        _check_settings(root, {"blastogan": version("blastogan"), **phantoms.settings()})
        missing = frozenset(_missing(root, phantoms))
        kept = len(phantoms) - len(missing)
        tables = [_rows(root / name) for name in (TABLE, TRUTH)]
        if missing or tables != [len(phantoms)] * 2:
            _sweep(root)
            if kept:
                _log.info("%d of %d phantoms are there already", kept, len(phantoms))
            _write_table(root, phantoms)
            _draw(root, phantoms, missing, num_workers, track)
    return Written(kept, len(missing))


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Let one process at a time draw into a folder."""
    root.mkdir(parents=True, exist_ok=True)
    path = root / ".phantoms.lock"
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _log.info("another process draws into %s: waiting for it", root)
        lock.acquire()
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        lock.release()


def _check_settings(root: Path, wanted: Mapping[str, Any]) -> None:
    """Write the settings, or refuse a folder that was begun with others."""
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
            "folder, or give the same settings to continue this one"
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
    """Pictures that lack a file."""

    @cache
    def files_in(folder: Path) -> frozenset[str]:
        return frozenset(file.name for file in folder.glob("*.png"))

    masks = [root / "masks" / name for name in MASKS] if phantoms.masks else []
    for n, view in enumerate(phantoms.views):
        name = f"{picture_name(n)}.png"
        if not all(name in files_in(folder) for folder in (root / view.grade.name, *masks)):
            yield n


def _rows(table: Path) -> int:
    """Rows of a table below its header, one line each; 0 without a table."""
    return table.read_bytes().count(b"\n") - 1 if table.is_file() else 0


def _sweep(root: Path) -> None:
    """Remove the parts of files that a killed process left."""
    tables = [f"{name}.*.part" for name in (SETTINGS, TRUTH, TABLE)]
    for pattern in (*tables, "*/phantom-*.png.*.part", "masks/*/phantom-*.png.*.part"):
        for part in root.glob(pattern):
            part.unlink(missing_ok=True)


def _draw(
    root: Path, phantoms: PhantomDataset, missing: frozenset[int], num_workers: int, track: Track
) -> None:
    """Draw the missing pictures, and write `TRUTH` for all."""
    draw = partial(_draw_one, root=root, phantoms=phantoms, missing=missing)
    facts = map_in_processes(draw, range(len(phantoms)), num_workers)
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


def _draw_one(
    index: int, root: Path, phantoms: PhantomDataset, missing: frozenset[int]
) -> dict[str, float] | OSError:
    """Draw a picture if it is missing; return its numbers, or why it cannot be written."""
    try:
        if index in missing:
            for name, mask in phantoms.mask_pictures(index).items() if phantoms.masks else ():
                export.write_png(root / "masks" / name / f"{picture_name(index)}.png", mask)
            grade, picture = phantoms.grade(index), phantoms.picture(index)
            export.write_image(root, "phantom", index, grade.name, picture)
    except OSError as error:
        # raised in a worker, its message would be a traceback
        return error
    return phantom_numbers(phantoms.seed, phantoms.views[index], phantoms.framing)


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
