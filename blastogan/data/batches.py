"""Loaders that deliver items in order: evaluation, prediction, and files opened by processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from blastogan.utils.workers import ignore_interrupt, unchanged

Item = TypeVar("Item")
Result = TypeVar("Result")
Track = Callable[[Iterable[Any], int, str], Iterable[Any]]
"""Shows the progress of a loop, given its items, their number and a description."""


def no_track(items: Iterable[Any], _total: int, _description: str) -> Iterable[Any]:
    """The items, without a display of progress."""
    return items


def map_in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], num_workers: int
) -> Iterable[Result]:
    """Apply a function to each item, in order, by this process or `num_workers` others."""
    return DataLoader(
        _Mapped(function, items),
        batch_size=None,
        num_workers=min(num_workers, len(items)),
        # arrays go through a pipe; tensors would need shared memory, which containers are short of
        collate_fn=unchanged,
        worker_init_fn=ignore_interrupt,
        # an iterator draws a seed for its workers, by default from the global generator
        generator=torch.Generator(),
    )


@dataclass(eq=False)
class _Mapped(Dataset[Result], Generic[Item, Result]):
    function: Callable[[Item], Result]
    items: Sequence[Item]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Result:
        return self.function(self.items[index])


def positions_of_rank(count: int, trainer: Any) -> Tensor:
    """Positions, int64, that this process evaluates out of `count`; all without a trainer.

    With fewer items than processes each evaluates all of them, so that none is left without.
    """
    rank, ranks = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
    index = torch.arange(count)
    return index[rank::ranks] if count >= ranks else index


@dataclass(eq=False)
class ImagesInOrder(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Rows of one resolution of decoded images, each with its labels and index."""

    level: Tensor
    rows: Tensor
    labels: Tensor
    index: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        return self.level[self.rows[index]], self.labels[index], self.index[index]


def loader_in_order(
    dataset: Dataset[tuple[Tensor, ...]], names: tuple[str, ...], batch_size: int
) -> DataLoader[Any]:
    """Loader of all items from first to last; a batch maps names to stacked tensors."""
    return DataLoader(
        dataset,
        batch_size=batch_size,
        collate_fn=partial(_stack_by_name, names=names),
        generator=torch.Generator(),
    )


def _stack_by_name(items: list[tuple[Tensor, ...]], names: tuple[str, ...]) -> dict[str, Tensor]:
    columns = zip(*items, strict=True)
    return {name: torch.stack(column) for name, column in zip(names, columns, strict=True)}
