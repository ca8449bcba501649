"""Batches of evaluation and prediction: in order, by name."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset


def share_of(count: int, trainer: Any) -> Tensor:
    """Which of so many items a process evaluates, int64: its own share, or all without a trainer.

    Where there are fewer items than processes, each evaluates all, so that none is left without.
    """
    rank, ranks = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
    index = torch.arange(count)
    return index[rank::ranks] if count >= ranks else index


class StoredImages(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Images with labels and index, taken out of a store one by one."""

    def __init__(self, level: Tensor, rows: Tensor, labels: Tensor, index: Tensor) -> None:
        self._level = level
        self._rows = rows
        self._labels = labels
        self._index = index

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        return self._level[self._rows[index]], self._labels[index], self._index[index]


def loader_in_order(
    dataset: Dataset[tuple[Tensor, ...]], names: tuple[str, ...], batch_size: int
) -> DataLoader[Any]:
    """Loader of all items, from first to last, as mappings from names to stacked tensors."""
    return DataLoader(
        dataset,
        batch_size=batch_size,
        collate_fn=_Named(names),
        # an iterator draws a seed for its workers, else from the global generator
        generator=torch.Generator(),
    )


class _Named:
    """Collate tuples of tensors into a mapping."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def __call__(self, items: list[tuple[Tensor, ...]]) -> dict[str, Tensor]:
        """Stack the tuples' first tensors under the first name, and so on."""
        columns = zip(*items, strict=True)
        return {name: torch.stack(c) for name, c in zip(self.names, columns, strict=True)}
