"""Graded blastocyst images and phantoms; they know no model."""

from blastogan.data.datamodule import BlastocystDataModule
from blastogan.data.phantoms import PhantomImages, render_phantom
from blastogan.data.readers import read_graded_images

__all__ = ["BlastocystDataModule", "PhantomImages", "read_graded_images", "render_phantom"]
