"""Real and generated images compared by a model.

Importing this package registers the extractor ``grader``.
"""

from __future__ import annotations

from blastogan.evaluation import grader_features as _grader_features  # noqa: F401
from blastogan.evaluation.comparison import ComparedSet, Gatherer, crop_notes, open_sets
from blastogan.metrics.fidelity import FidelityEvaluator

__all__ = ["ComparedSet", "FidelityEvaluator", "Gatherer", "crop_notes", "open_sets"]
