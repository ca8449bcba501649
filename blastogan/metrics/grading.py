"""Balanced accuracy and kappa of each head of a grade classifier."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassCohenKappa

from blastogan.grades import LABEL_SIZES

HEADS = ("icm", "te")
"""Prefixes of the metrics, in the order of the labels."""


class BalancedAccuracy(MulticlassAccuracy):
    """Mean recall over the letters that are present.

    The macro average of torchmetrics also counts, as 0, a letter that was only ever predicted.
    """

    def compute(self) -> Tensor:
        """The mean, 0 to 1."""
        hits, _, _, misses = self._final_state()
        images = hits + misses
        return (hits[images > 0] / images[images > 0]).mean()


class GradeMetrics(nn.Module):
    """Loss, and balanced accuracy and kappa of each head, gathered batch by batch."""

    def __init__(self) -> None:
        super().__init__()
        # every process sees the whole set
        self.loss = MeanMetric(sync_on_compute=False)
        self.heads = nn.ModuleList(
            MetricCollection(
                {
                    "balanced_accuracy": BalancedAccuracy(size, sync_on_compute=False),
                    "kappa": MulticlassCohenKappa(size, weights="quadratic", sync_on_compute=False),
                },
                prefix=f"{head}_",
                compute_groups=False,
            )
            for head, size in zip(HEADS, LABEL_SIZES, strict=True)
        )

    def update(self, logits: tuple[Tensor, Tensor], labels: Tensor, loss: Tensor) -> None:
        """Add a batch: logits ``(B, 4)`` of each head, labels ``(B, 2)``, mean loss.

        Unknown letters, -1, count nowhere.
        """
        self.loss.update(loss, weight=len(labels))
        for head, scores, truth in zip(self.heads, logits, labels.unbind(1), strict=True):
            assert isinstance(head, MetricCollection)
            known = truth >= 0
            if known.any():
                head.update(scores[known], truth[known])

    def compute(self) -> dict[str, Tensor]:
        """``icm_`` and ``te_`` ``balanced_accuracy`` and ``kappa``, mean ``kappa``, ``loss``.

        Kappa is weighted quadratically on A < B < C < D (Cohen 1968). It is 0 where it is
        undefined: if all images and all predictions have one letter.
        """
        values: dict[str, Tensor] = {}
        for head in self.heads:
            assert isinstance(head, MetricCollection)
            values |= {name: value.nan_to_num(0.0) for name, value in head.compute().items()}
        values["kappa"] = torch.stack([values[f"{head}_kappa"] for head in HEADS]).mean()
        return values | {"loss": self.loss.compute()}

    def reset(self) -> None:
        """Forget all batches."""
        self.loss.reset()
        for head in self.heads:
            assert isinstance(head, MetricCollection)
            head.reset()
