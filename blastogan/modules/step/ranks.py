"""Communication between ranks: sums, means, agreement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor, nn

T = TypeVar("T")


def rank_and_size() -> tuple[int, int]:
    """Rank of this process and number of processes; 0 and 1 without distributed training."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def agreed(value: T) -> T:
    """The value of rank 0, on all ranks: a plain value or a collection of them."""
    if rank_and_size()[1] == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def any_rank(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set on any rank; with several ranks it waits for the device."""
    if rank_and_size()[1] == 1:
        return flag
    raised = torch.tensor(int(flag), device=device)
    dist.all_reduce(raised, dist.ReduceOp.MAX)
    return bool(raised)


def gathered(part: T) -> list[T]:
    """The parts of all ranks, in order, on rank 0; an empty list on the others."""
    rank, size = rank_and_size()
    if size == 1:
        return [part]
    parts: list[Any] = [None] * size if rank == 0 else []
    dist.gather_object(part, parts if rank == 0 else None)
    return parts


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """Sum a contiguous tensor over all ranks, in place."""
    if rank_and_size()[1] > 1:
        dist.all_reduce(tensor)
    return tensor


def mean_over_ranks(tensors: Sequence[Tensor]) -> None:
    """Replace float tensors, in the same memory formats on all ranks, by their means over them."""
    _, size = rank_and_size()
    if size == 1 or not tensors:
        return
    flat = [_in_memory_order(tensor) for tensor in tensors]
    means = sum_over_ranks(torch.cat(flat)).div_(size)
    torch._foreach_copy_(flat, list(torch.split(means, [each.numel() for each in flat])))


def _in_memory_order(tensor: Tensor) -> Tensor:
    """Flat view of a dense tensor in the order of its memory, for any memory format."""
    order = sorted(range(tensor.dim()), key=tensor.stride, reverse=True)
    return tensor.permute(order).view(-1)


@torch.no_grad()
def copy_from_first_rank(module: nn.Module) -> None:
    """Copy weights and buffers of rank 0 to all ranks."""
    if rank_and_size()[1] == 1:
        return
    for tensor in module.state_dict().values():
        # neither backend sends channels-last tensors
        sent = tensor.contiguous()
        dist.broadcast(sent, 0)
        tensor.copy_(sent)


AGREE_EVERY = 16
"""Steps between two agreements of ranks on GPUs."""


def ranks_may_agree(module: LightningModule, batch_idx: int) -> bool:
    """Whether ranks may agree after this step: after every one, unless that waits for GPUs."""
    alone = rank_and_size()[1] == 1
    return alone or module.device.type == "cpu" or batch_idx % AGREE_EVERY == 0


def is_finite(trainer: Trainer, outputs: Mapping[str, Tensor]) -> bool:
    """Whether all outputs of a step are finite, on all ranks; waits for the device."""
    values = torch.stack([value.float() for value in outputs.values()])
    finite = bool(values.isfinite().all())
    if trainer.world_size > 1:
        finite = bool(trainer.strategy.reduce_boolean_decision(finite, all=True))
    return finite
