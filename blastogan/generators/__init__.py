"""Trained generators apart from their runs: loading, export, data sets of generated images.

Names are loaded when they are first used.

.. include:: GUIDE.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blastogan.utils.lazy import lazy_names

if TYPE_CHECKING:
    from blastogan.generators.generator import Generator, load_generator
    from blastogan.generators.hub import HubGenerator
    from blastogan.generators.synthetic import SyntheticDataset

__all__ = ["Generator", "HubGenerator", "SyntheticDataset", "load_generator"]

_HOMES = {
    "Generator": ".generator",
    "HubGenerator": ".hub",
    "SyntheticDataset": ".synthetic",
    "load_generator": ".generator",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
