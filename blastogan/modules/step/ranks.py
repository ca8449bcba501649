"""What processes that train together tell each other: means and sums over all ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor, nn

T = TypeVar("T")


def rank_and_size() -> tuple[int, int]:
    """Rank of this process and number of processes; 0 and 1 where there is only one."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def agreed(value: T) -> T:
    """What rank 0 has, on all ranks: a plain value or a collection of them."""
    if rank_and_size()[1] == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def any_rank(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set on any rank; waits for the device where there are several."""
    if rank_and_size()[1] == 1:
        return flag
    raised = torch.tensor(int(flag), device=device)
    dist.all_reduce(raised, dist.ReduceOp.MAX)
    return bool(raised)


def gathered(share: T) -> list[T]:
    """What all ranks have, by rank, on rank 0; nothing on the others."""
    rank, size = rank_and_size()
    if size == 1:
        return [share]
    shares: list[Any] = [None] * size if rank == 0 else []
    dist.gather_object(share, shares if rank == 0 else None)
    return shares


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The sum of a contiguous tensor over all ranks, in its place."""
    if rank_and_size()[1] > 1:
        dist.all_reduce(tensor)
    return tensor


def mean_over_ranks(tensors: Sequence[Tensor]) -> None:
    """Put the mean over all ranks into each of several float tensors, in one exchange.

    On all ranks they are to have the same shapes and memory formats.
    """
    _, size = rank_and_size()
    if size == 1 or not tensors:
        return
    flat = [_as_they_lie(tensor) for tensor in tensors]
    means = sum_over_ranks(torch.cat(flat)).div_(size)
    torch._foreach_copy_(flat, list(torch.split(means, [each.numel() for each in flat])))


def _as_they_lie(tensor: Tensor) -> Tensor:
    """The elements in their order in memory, whatever the memory format; no copy."""
    order = sorted(range(tensor.dim()), key=tensor.stride, reverse=True)
    return tensor.permute(order).view(-1)


@torch.no_grad()
def copy_from_first_rank(module: nn.Module) -> None:
    """Give all ranks the weights and buffers of rank 0."""
    if rank_and_size()[1] == 1:
        return
    for tensor in module.state_dict().values():
        # neither backend sends what is laid out channel by channel
        sent = tensor.contiguous()
        dist.broadcast(sent, 0)
        tensor.copy_(sent)


AGREE_EVERY = 16
"""Steps on GPUs from one agreement between ranks to the next."""


def ranks_may_agree(module: LightningModule, batch_idx: int) -> bool:
    """Whether ranks agree on what to do after a step: not after each where that waits for a GPU."""
    alone = rank_and_size()[1] == 1
    return alone or module.device.type == "cpu" or batch_idx % AGREE_EVERY == 0


def is_finite(trainer: Trainer, outputs: Mapping[str, Tensor]) -> bool:
    """Whether all that a step returned is finite, on all ranks; waits for the device."""
    values = torch.stack([value.float() for value in outputs.values()])
    finite = bool(values.isfinite().all())
    if trainer.world_size > 1:
        finite = bool(trainer.strategy.reduce_boolean_decision(finite, all=True))
    return finite
