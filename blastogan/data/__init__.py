"""Graded blastocyst images and phantoms; they know no model.

The data module is loaded when it is first used: phantoms alone need no Lightning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blastogan.data.phantoms import PhantomImages, render_phantom
from blastogan.data.readers import read_graded_images

if TYPE_CHECKING:
    from blastogan.data.datamodule import BlastocystDataModule

__all__ = ["BlastocystDataModule", "PhantomImages", "read_graded_images", "render_phantom"]


def __getattr__(name: str) -> Any:
    if name == "BlastocystDataModule":
        from blastogan.data.datamodule import BlastocystDataModule

        return BlastocystDataModule
    raise AttributeError(f"module 'blastogan.data' has no attribute {name!r}")
