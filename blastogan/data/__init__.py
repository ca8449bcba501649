"""Graded blastocyst images: readers, splits, decoding, the order of batches, and data modules.

Names are loaded when they are first used: readers need neither torch nor Lightning.

.. include:: GUIDE.md
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blastogan.data.datamodule import BlastocystDataModule
    from blastogan.data.grade_datamodule import GradeDataModule
    from blastogan.data.images.framing import Crop
    from blastogan.data.readers import read_graded_images, scan_graded_images
    from blastogan.data.readers.options import ReaderOptions
    from blastogan.data.records import GradedTable, ImageRecord
    from blastogan.data.split_file import read_split_file, write_split_file
    from blastogan.data.splits import SplitPlan, find_leaks, split_by_embryo, split_records

__all__ = [
    "BlastocystDataModule",
    "Crop",
    "GradeDataModule",
    "GradedTable",
    "ImageRecord",
    "ReaderOptions",
    "SplitPlan",
    "find_leaks",
    "read_graded_images",
    "read_split_file",
    "scan_graded_images",
    "split_by_embryo",
    "split_records",
    "write_split_file",
]

_HOMES = {
    "datamodule": ("BlastocystDataModule",),
    "grade_datamodule": ("GradeDataModule",),
    "images.framing": ("Crop",),
    "readers": ("read_graded_images", "scan_graded_images"),
    "readers.options": ("ReaderOptions",),
    "records": ("GradedTable", "ImageRecord"),
    "split_file": ("read_split_file", "write_split_file"),
    "splits": ("SplitPlan", "find_leaks", "split_by_embryo", "split_records"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
