"""Metrics of image sets, independent of any model. `blastogan.metrics.specs` lists them.

Names are imported when they are first used, as the evaluator needs torch-fidelity.

.. include:: GUIDE.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blastogan.utils.lazy import lazy_names

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
    "FidelityEvaluator": ".fidelity",
    "ImageSetMetrics": ".sets",
    "image_swd": ".sliced_wasserstein",
    "pairwise_ms_ssim": ".similarity",
    "to_float": "..utils.pixels",
    "to_uint8": "..utils.pixels",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
