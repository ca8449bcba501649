"""Graded blastocyst images and phantoms; they know no model.

Names are loaded when they are first used: phantoms alone need no Lightning.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blastogan.audit.collect import Audit, audit_images
    from blastogan.data.datamodule import BlastocystDataModule
    from blastogan.data.images.framing import Crop
    from blastogan.data.grade_datamodule import GradeDataModule
    from blastogan.phantoms.dataset import PhantomDataset
    from blastogan.phantoms.plan import PhantomPlan
    from blastogan.phantoms.rendering import render_phantom
    from blastogan.phantoms.truth import phantom_truth
    from blastogan.phantoms.view import View
    from blastogan.data.readers import read_graded_images, scan_graded_images
    from blastogan.data.readers.options import Reading
    from blastogan.data.records import GradedTable, ImageRecord
    from blastogan.data.split_file import read_split_file, write_split_file
    from blastogan.data.splits import SplitPlan, find_leaks, split_by_embryo, split_records

__all__ = [
    "Audit",
    "BlastocystDataModule",
    "Crop",
    "GradeDataModule",
    "GradedTable",
    "ImageRecord",
    "PhantomDataset",
    "PhantomPlan",
    "Reading",
    "SplitPlan",
    "View",
    "audit_images",
    "find_leaks",
    "phantom_truth",
    "read_graded_images",
    "read_split_file",
    "render_phantom",
    "scan_graded_images",
    "split_by_embryo",
    "split_records",
    "write_split_file",
]

_HOMES = {
    "Audit": "audit",
    "BlastocystDataModule": "datamodule",
    "Crop": "framing",
    "GradeDataModule": "grade_data",
    "GradedTable": "records",
    "ImageRecord": "records",
    "PhantomDataset": "phantoms.dataset",
    "PhantomPlan": "phantoms.plan",
    "Reading": "reading",
    "SplitPlan": "splits",
    "View": "phantoms.view",
    "audit_images": "audit",
    "find_leaks": "splits",
    "phantom_truth": "phantoms.truth",
    "read_graded_images": "readers",
    "read_split_file": "split_file",
    "render_phantom": "phantoms.rendering",
    "scan_graded_images": "readers",
    "split_by_embryo": "splits",
    "split_records": "splits",
    "write_split_file": "split_file",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'blastogan.data' has no attribute {name!r}")
    return getattr(import_module(f"blastogan.data.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
