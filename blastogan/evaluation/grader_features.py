"""Features of a trained grade classifier, as torch-fidelity takes them.

A network that was trained to grade tells apart what graders look at, and needs no download.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from blastogan.errors import UserError
from blastogan.modules.grade_classifier import GradeClassifier

NAME = "grader"
"""Name under which torch-fidelity is to know the extractor."""

LAYER = "embedding"
"""The one layer that it gives: what the two heads work on."""


class GraderFeatures(FeatureExtractorBase):  # type: ignore[misc]
    """The features before the heads of a `GradeClassifier`.

    Args:
        name: As registered with torch-fidelity.
        features_list: ``["embedding"]``.
        feature_extractor_weights_path: Checkpoint of ``blastogan grade fit``, or a binary stream
            of it; tensors and plain values only are loaded.
        feature_extractor_internal_dtype: ``float32`` or nothing.
        **kwargs: What else torch-fidelity hands to extractors, ignored.

    Attributes:
        feature_dim: Number of features.

    Raises:
        UserError: If there is no checkpoint, it holds another model, or the type is another.
    """

    def __init__(
        self,
        name: str,
        features_list: list[str],
        feature_extractor_weights_path: str | Path | IO[bytes] | None = None,
        feature_extractor_internal_dtype: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name, features_list)
        if feature_extractor_weights_path is None:
            raise UserError(
                f"the extractor {name} needs a trained grader: train one with `blastogan grade "
                "fit`, and give its checkpoint, RUN/checkpoints/best.ckpt, as the weights"
            )
        if feature_extractor_internal_dtype not in (None, "float32"):
            raise UserError(
                f"internal type is {feature_extractor_internal_dtype!r}: a grader has float32 only"
            )
        self.grader = GradeClassifier.load_from_checkpoint(feature_extractor_weights_path)
        self.feature_dim = int(self.grader.network.icm_head.in_features)
        self.requires_grad_(False)
        self.eval()

    def forward(self, input: Tensor) -> tuple[Tensor]:  # noqa: A002
        """Features float32 ``(B, feature_dim)``, in a tuple, of uint8 images ``(B, 3, H, W)``."""
        return (self.grader.features(input).float(),)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        """The one layer."""
        return (LAYER,)

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        """The one layer for the metrics of features; there is no Inception score without logits.

        Raises:
            KeyError: For other metrics, as in the extractors of torch-fidelity.
        """
        return {"fid": LAYER, "kid": LAYER, "prc": LAYER}[metric]

    @staticmethod
    def can_be_compiled() -> bool:
        """Whether ``torch.compile`` may wrap it."""
        return True

    @staticmethod
    def get_dummy_input_for_compile() -> Tensor:
        """A batch of one small image."""
        return torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
