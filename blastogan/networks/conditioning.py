"""Conditioning on a label of several parts, for instance the ICM and the TE letter of a grade."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from blastogan.errors import UserError


class LabelEmbedding(nn.Module):
    """Sum of one learned embedding per part of the label.

    Factorised: a rare combination borrows from all images that share one of its parts. The sum is
    scaled to keep unit variance at the start.

    Args:
        label_sizes: Number of values of each part, for instance ``(4, 4)`` for ICM and TE letters.
        dim: Size of the embedding.
    """

    def __init__(self, label_sizes: Sequence[int], dim: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList(nn.Embedding(size, dim) for size in label_sizes)
        self.scale = len(label_sizes) ** -0.5

    def forward(self, labels: Tensor) -> Tensor:
        """Map labels ``(B, parts)`` of dtype int64 to ``(B, dim)``."""
        embedded: list[Tensor] = [part(labels[:, i]) for i, part in enumerate(self.parts)]
        total: Tensor = torch.stack(embedded).sum(dim=0) * self.scale
        return total


def check_labels(labels: Tensor | None, label_sizes: Sequence[int], batch: int) -> None:
    """Refuse labels that do not fit a network.

    Args:
        labels: ``(B, parts)`` of dtype int64, or ``None``.
        label_sizes: Number of values of each part; empty for an unconditional network.
        batch: B.

    Raises:
        UserError: If labels lack where they are needed, are given where they are not, or have
            another shape or dtype. Values are not read, which would wait for the device.
    """
    if not label_sizes:
        if labels is not None:
            raise UserError("labels were given to an unconditional network: build it with labels")
        return
    if labels is None:
        raise UserError(
            f"a conditional network needs labels of shape ({batch}, {len(label_sizes)})"
        )
    if labels.shape != (batch, len(label_sizes)) or labels.dtype != torch.int64:
        raise UserError(
            f"labels have shape {tuple(labels.shape)} and dtype {labels.dtype}: expected "
            f"({batch}, {len(label_sizes)}) and torch.int64"
        )
