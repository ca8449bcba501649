"""Graded blastocyst images: readers, splits, decoding, the order of batches, and data modules.

Names are loaded when they are first used: readers need neither torch nor Lightning.

.. include:: GUIDE.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blastogan.utils.lazy import lazy_names

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
    "BlastocystDataModule": ".datamodule",
    "Crop": ".images.framing",
    "GradeDataModule": ".grade_datamodule",
    "GradedTable": ".records",
    "ImageRecord": ".records",
    "ReaderOptions": ".readers.options",
    "SplitPlan": ".splits",
    "find_leaks": ".splits",
    "read_graded_images": ".readers",
    "read_split_file": ".split_file",
    "scan_graded_images": ".readers",
    "split_by_embryo": ".splits",
    "split_records": ".splits",
    "write_split_file": ".split_file",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
