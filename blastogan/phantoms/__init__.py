"""Phantoms: procedural drawings of blastocysts, called so wherever they are shown.

They need neither the data rooms nor Lightning. Names are loaded when they are first used.

.. include:: GUIDE.md
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blastogan.phantoms.dataset import PhantomDataset
    from blastogan.phantoms.plan import PhantomPlan
    from blastogan.phantoms.rendering import render_phantom
    from blastogan.phantoms.truth import phantom_truth
    from blastogan.phantoms.view import View

__all__ = ["PhantomDataset", "PhantomPlan", "View", "phantom_truth", "render_phantom"]

_HOMES = {
    "PhantomDataset": "dataset",
    "PhantomPlan": "plan",
    "View": "view",
    "phantom_truth": "truth",
    "render_phantom": "rendering",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
