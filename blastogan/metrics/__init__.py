"""Metrics of image sets, independent of any model. `blastogan.metrics.specs` lists them.

Names are loaded when they are first used: the evaluator brings torch-fidelity along.

.. include:: GUIDE.md
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blastogan.metrics.fidelity import FidelityEvaluator
    from blastogan.metrics.sets import ImageSetMetrics
    from blastogan.metrics.similarity import pairwise_ms_ssim
    from blastogan.metrics.sliced_wasserstein import image_swd
    from blastogan.utils.pixels import to_float, to_uint8

__all__ = [
    "FidelityEvaluator",
    "ImageSetMetrics",
    "image_swd",
    "pairwise_ms_ssim",
    "to_float",
    "to_uint8",
]

_HOMES = {
    "FidelityEvaluator": "metrics.fidelity",
    "ImageSetMetrics": "metrics.sets",
    "image_swd": "metrics.sliced_wasserstein",
    "pairwise_ms_ssim": "metrics.similarity",
    "to_float": "utils.pixels",
    "to_uint8": "utils.pixels",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"blastogan.{_HOMES[name]}"), name)
