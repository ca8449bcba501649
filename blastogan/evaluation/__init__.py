"""Real and generated images compared by a model.

Importing this package registers the extractor ``grader``.
"""

from __future__ import annotations

from blastogan.evaluation.comparison import (
    ComparedSet,
    Gatherer,
    GeneratedSet,
    crop_notes,
    open_sets,
    trained_crop,
)
from blastogan.evaluation.fakes import evaluation_fakes, sample_labels
from blastogan.evaluation.grader_features import GraderFeatures
from blastogan.metrics.fidelity import FidelityEvaluator

__all__ = [
    "ComparedSet",
    "FidelityEvaluator",
    "Gatherer",
    "GeneratedSet",
    "GraderFeatures",
    "crop_notes",
    "evaluation_fakes",
    "open_sets",
    "sample_labels",
    "trained_crop",
]
