"""Graded blastocyst images and phantoms; they know no model.

The data modules are loaded when they are first used: phantoms alone need no Lightning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blastogan.data.phantoms import PhantomImages, render_phantom
from blastogan.data.readers import read_graded_images

if TYPE_CHECKING:
    from blastogan.data.datamodule import BlastocystDataModule
    from blastogan.data.grade_data import GradeDataModule

__all__ = [
    "BlastocystDataModule",
    "GradeDataModule",
    "PhantomImages",
    "read_graded_images",
    "render_phantom",
]


def __getattr__(name: str) -> Any:
    if name == "BlastocystDataModule":
        from blastogan.data.datamodule import BlastocystDataModule

        return BlastocystDataModule
    if name == "GradeDataModule":
        from blastogan.data.grade_data import GradeDataModule

        return GradeDataModule
    raise AttributeError(f"module 'blastogan.data' has no attribute {name!r}")
