"""Loaders that deliver items in order: evaluation, prediction, and files opened by processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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
    """Apply a function to each item, in order.

    Args:
        function: Runs in the workers; its results are sent through a pipe.
        items: Its arguments.
        num_workers: Processes; 0 for this one.
    """
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


class _Mapped(Dataset[Result], Generic[Item, Result]):
    """Results of a function by the position of its argument."""

    def __init__(self, function: Callable[[Item], Result], items: Sequence[Item]) -> None:
        self._function = function
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Result:
        return self._function(self._items[index])


def positions_of_rank(count: int, trainer: Any) -> Tensor:
    """Positions, int64, that this process evaluates out of `count`; all without a trainer.

    With fewer items than processes each evaluates all of them, so that none is left without.
    """
    rank, ranks = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
    index = torch.arange(count)
    return index[rank::ranks] if count >= ranks else index


class ImagesInOrder(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Rows of one resolution of decoded images, each with its labels and index."""

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
    """Loader of all items from first to last; a batch maps names to stacked tensors."""
    return DataLoader(
        dataset,
        batch_size=batch_size,
        collate_fn=_CollateByName(names),
        generator=torch.Generator(),
    )


class _CollateByName:
    """Stacks the tuples' first tensors under the first name, and so on."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def __call__(self, items: list[tuple[Tensor, ...]]) -> dict[str, Tensor]:
        columns = zip(*items, strict=True)
        return {name: torch.stack(c) for name, c in zip(self.names, columns, strict=True)}
