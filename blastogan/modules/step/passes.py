"""A rank's part of a batch, in one or more passes through the networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from blastogan.errors import UserError


class Pass(NamedTuple):
    """Images of a batch that go through the networks at once.

    Attributes:
        reals: Images ``(B, C, R, R)`` as D sees them.
        labels: int64 ``(B, 2)``; ``None`` for unconditional networks.
        first: Position of the first image in the global batch.
        fake_labels: Labels of the fakes; same shape and type as `labels`.
    """

    reals: Tensor
    labels: Tensor | None
    first: int
    fake_labels: Tensor | None


def split_passes(whole: Pass, limit: int | None, group: int) -> list[Pass]:
    """Split a rank's part of a batch into equal passes; see `size_of_passes`."""
    reals, labels, first, fake_labels = whole
    size = size_of_passes(len(reals), limit, group)
    return [
        Pass(
            reals[start : start + size],
            None if labels is None else labels[start : start + size],
            first + start,
            None if fake_labels is None else fake_labels[start : start + size],
        )
        for start in range(0, len(reals), size)
    ]


def size_of_passes(count: int, limit: int | None, group: int) -> int:
    """Largest possible number of images per pass.

    Args:
        count: Images of a batch on one device.
        limit: Upper limit; ``None`` for none.
        group: Images per group of the minibatch standard deviation, which no pass may cut.

    Raises:
        UserError: If the images do not divide into such passes.
    """
    unit = min(group, count)
    for size in range(min(limit or count, count), 0, -1):
        if count % size == 0 and size % unit == 0:
            return size
    most = f" of at most {limit} images" if limit else ""
    raise UserError(
        f"{count} images per device do not divide into equal passes{most}, each a multiple of the "
        f"minibatch-stddev group of {unit}: change batch_size, the number of devices, micro_batch "
        "or stddev_group"
    )


def add_mean(means: dict[str, Tensor], found: Mapping[str, Tensor], passes: int) -> None:
    """Add the terms of one of several passes to the means over all of them."""
    for name, value in found.items():
        part = value.detach() / passes
        means[name] = means[name] + part if name in means else part
