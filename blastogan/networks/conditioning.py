"""Conditioning on a label of several parts, such as the ICM and TE letters of a grade."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from blastogan.errors import UserError


class LabelEmbedding(nn.Module):
    """Learned embedding of a label.

    If factorised, it is the sum of one embedding per part: a rare combination learns from all
    images that share one of its parts. The sum is scaled to unit variance at initialisation.

    Args:
        label_sizes: Number of values of each part, such as ``(4, 4)`` for ICM and TE letters.
        dim: Size of the embedding.
        factorised: Whether each part has an embedding, or each combination.
    """

    def __init__(self, label_sizes: Sequence[int], dim: int, *, factorised: bool = True) -> None:
        super().__init__()
        self.label_sizes = tuple(label_sizes)
        self.factorised = factorised
        tables = self.label_sizes if factorised else (math.prod(self.label_sizes),)
        self.parts = nn.ModuleList(nn.Embedding(size, dim) for size in tables)
        self.scale = len(tables) ** -0.5

    @classmethod
    def build(cls, sizes: Sequence[int], dim: int, factorised: bool) -> LabelEmbedding | None:
        """An embedding, or ``None`` for no parts."""
        return cls(sizes, dim, factorised=factorised) if sizes else None

    def forward(self, labels: Tensor, known: Tensor | None = None) -> Tensor:
        """Embed labels.

        Args:
            labels: int64 ``(B, parts)``, or soft ``(B, combinations)``.
            known: bool ``(B, parts)``, which parts are known; ``None`` for all. The others add
                nothing; without factorisation, a label with an unknown part is zero.

        Returns:
            ``(B, dim)``.
        """
        if labels.is_floating_point():
            embedded = self._mixed(labels)
        elif self.factorised:
            embedded = [part(labels[:, i]) for i, part in enumerate(self.parts)]
        else:
            embedded = [self.parts[0](flat_labels(labels, self.label_sizes))]
        if known is not None:
            columns = known if self.factorised else known.all(dim=1, keepdim=True)
            embedded = [each * columns[:, i, None] for i, each in enumerate(embedded)]
        total: Tensor = torch.stack(embedded).sum(dim=0) * self.scale
        return total

    def _mixed(self, soft: Tensor) -> list[Tensor]:
        tables: list[Tensor] = [part.weight for part in self.parts]  # type: ignore[misc]
        if not self.factorised:
            return [soft.to(tables[0].dtype) @ tables[0]]
        joint = soft.view(-1, *self.label_sizes)
        dims = range(1, joint.dim())
        marginals = [joint.sum(dim=[other for other in dims if other != i]) for i in dims]
        pairs = zip(marginals, tables, strict=True)
        return [marginal.to(table.dtype) @ table for marginal, table in pairs]


def flat_labels(labels: Tensor, label_sizes: Sequence[int]) -> Tensor:
    """Index ``(B,)`` of the combination of each of the labels ``(B, parts)``."""
    flat = torch.zeros_like(labels[:, 0])
    for i, size in enumerate(label_sizes):
        flat = flat * size + labels[:, i]
    return flat


def soft_labels(labels: Tensor, label_sizes: Sequence[int]) -> Tensor:
    """One-hot labels, float32 ``(B, combinations)``, of int64 ``(B, parts)``.

    They may be mixed, as embeddings are linear in them.
    """
    flat = flat_labels(labels, label_sizes)
    return torch.nn.functional.one_hot(flat, math.prod(label_sizes)).float()


def check_labels(labels: Tensor | None, label_sizes: Sequence[int], batch: int) -> None:
    """Refuse labels that do not fit a network.

    Args:
        labels: int64 ``(B, parts)``, soft labels, or ``None``.
        label_sizes: Number of values of each part; empty for an unconditional network.
        batch: Number of images.

    Raises:
        UserError: If labels are missing, not expected, or of another shape or dtype. Values are
            not checked, which would wait for the device.
    """
    if not label_sizes and labels is None:
        return
    if not label_sizes:
        raise UserError("labels were given to an unconditional network: build it with label_sizes")
    if labels is None:
        shape = f"({batch}, {len(label_sizes)})"
        raise UserError(f"a conditional network needs labels of shape {shape}")
    if labels.is_floating_point() and labels.shape == (batch, math.prod(label_sizes)):
        return
    if labels.shape != (batch, len(label_sizes)) or labels.dtype != torch.int64:
        raise UserError(
            f"labels have shape {tuple(labels.shape)} and dtype {labels.dtype}: expected "
            f"({batch}, {len(label_sizes)}) and torch.int64"
        )
