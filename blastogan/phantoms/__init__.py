"""Phantoms: procedural drawings of blastocysts, called so wherever they are shown.

They need neither the data rooms nor Lightning. Names are loaded when they are first used.

.. include:: GUIDE.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blastogan.utils.lazy import lazy_names

if TYPE_CHECKING:
    from blastogan.phantoms.dataset import PhantomDataset
    from blastogan.phantoms.plan import PhantomPlan
    from blastogan.phantoms.rendering import render_phantom
    from blastogan.phantoms.truth import phantom_truth
    from blastogan.phantoms.view import View

__all__ = ["PhantomDataset", "PhantomPlan", "View", "phantom_truth", "render_phantom"]

_HOMES = {
    "PhantomDataset": ".dataset",
    "PhantomPlan": ".plan",
    "View": ".view",
    "phantom_truth": ".truth",
    "render_phantom": ".rendering",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
