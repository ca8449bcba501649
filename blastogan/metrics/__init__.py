"""Metrics of image sets; they know no model.

The evaluator is loaded when it is first used: it brings torch-fidelity along.

.. include:: GUIDE.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blastogan.metrics.sets import ImageSetMetrics
from blastogan.metrics.similarity import pairwise_ms_ssim
from blastogan.metrics.sliced_wasserstein import image_swd
from blastogan.utils.pixels import to_float, to_uint8

if TYPE_CHECKING:
    from blastogan.metrics.fidelity import FidelityEvaluator

__all__ = [
    "FidelityEvaluator",
    "ImageSetMetrics",
    "image_swd",
    "pairwise_ms_ssim",
    "to_float",
    "to_uint8",
]


def __getattr__(name: str) -> Any:
    if name == "FidelityEvaluator":
        from blastogan.metrics.fidelity import FidelityEvaluator

        return FidelityEvaluator
    raise AttributeError(f"module 'blastogan.metrics' has no attribute {name!r}")
