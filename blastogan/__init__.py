"""blastogan: progressively grown GANs for blastocyst images, on PyTorch Lightning.

Names are imported when they are first used, so that importing the package costs almost nothing.

.. include:: GLOSSARY.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blastogan.utils.lazy import lazy_names

if TYPE_CHECKING:
    from blastogan.api import Run, open_run, train
    from blastogan.callbacks import FadeIn, FidelityCallback, ProgressiveGrowing, SampleGrid
    from blastogan.data import BlastocystDataModule
    from blastogan.evaluation import FidelityEvaluator
    from blastogan.generators import SyntheticDataset, load_generator
    from blastogan.grades import Grade
    from blastogan.growth import GrowthSchedule
    from blastogan.modules import ProGANModule, StyleGANModule
    from blastogan.phantoms import PhantomDataset
    from blastogan.utils.sheets import to_pil
    from blastogan.utils.version import __version__ as __version__

__all__ = [
    "BlastocystDataModule",
    "FadeIn",
    "FidelityCallback",
    "FidelityEvaluator",
    "Grade",
    "GrowthSchedule",
    "PhantomDataset",
    "ProGANModule",
    "ProgressiveGrowing",
    "Run",
    "SampleGrid",
    "StyleGANModule",
    "SyntheticDataset",
    "load_generator",
    "open_run",
    "to_pil",
    "train",
]

_HOMES = {
    "BlastocystDataModule": ".data",
    "FadeIn": ".callbacks",
    "FidelityCallback": ".callbacks",
    "FidelityEvaluator": ".evaluation",
    "Grade": ".grades",
    "GrowthSchedule": ".growth",
    "PhantomDataset": ".phantoms",
    "ProGANModule": ".modules",
    "ProgressiveGrowing": ".callbacks",
    "Run": ".api",
    "SampleGrid": ".callbacks",
    "StyleGANModule": ".modules",
    "SyntheticDataset": ".generators",
    "__version__": ".utils.version",
    "load_generator": ".generators",
    "open_run": ".api",
    "to_pil": ".utils.sheets",
    "train": ".api",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
