"""Features of a trained grade classifier, as an extractor of torch-fidelity.

A network that was trained to grade sees what graders look at, and needs no download.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

from torch import Tensor

from blastogan.errors import UserError
from blastogan.metrics.extractors import ExtractorSpec, register_extractor
from blastogan.metrics.feature_networks import SingleLayer
from blastogan.modules.grade_classifier import GradeClassifier


class GraderFeatures(SingleLayer):
    """The features before the heads of a `GradeClassifier`.

    Args:
        name: Name of the extractor.
        features_list: ``["embedding"]``.
        feature_extractor_weights_path: Checkpoint of ``blastogan grade fit``, or a binary stream
            of it; only tensors and plain values are loaded.
        feature_extractor_internal_dtype: ``float32`` or ``None``.
        **kwargs: Other options of torch-fidelity, ignored.

    Raises:
        UserError: If the checkpoint is missing or holds another model, or the dtype is unsupported.
    """

    LAYER = "embedding"  # the input of the two heads

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
                "fit`, and give its checkpoint, RUN/checkpoints/best.ckpt, as weights"
            )
        if feature_extractor_internal_dtype not in (None, "float32"):
            raise UserError(
                f"the dtype is {feature_extractor_internal_dtype!r}: a grader supports float32 only"
            )
        self.grader = GradeClassifier.load_from_checkpoint(feature_extractor_weights_path)
        self.feature_dim = int(self.grader.network.icm_head.in_features)
        self.requires_grad_(False)
        self.eval()

    def forward(self, input: Tensor) -> tuple[Tensor]:  # noqa: A002
        """Tuple of features float32 ``(B, feature_dim)`` for uint8 images ``(B, 3, H, W)``."""
        return (self.grader.features(input).float(),)


register_extractor(
    ExtractorSpec(
        *("grader", GraderFeatures, GraderFeatures.LAYER, "antialiased"),
        weights=None,
        reads_file=True,
        cpu_batch=32,
    )
)
