"""A device's share of a batch, in one or several passes through the networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from blastogan.errors import UserError


class Pass(NamedTuple):
    """A part of a device's share that goes through the networks at once.

    Attributes:
        reals: Images ``(B, C, R, R)`` as D sees them.
        labels: int64 ``(B, 2)``; ``None`` for networks that get none.
        first: Place of the first image in the global batch.
        fake_labels: Those of the fakes, likewise.
    """

    reals: Tensor
    labels: Tensor | None
    first: int
    fake_labels: Tensor | None


def split_share(share: Pass, limit: int | None, group: int) -> list[Pass]:
    """A rank's share in equal passes of `limit` images at most; see `size_of_passes`."""
    reals, labels, first, fake_labels = share
    size = size_of_passes(len(reals), limit, group)
    parts = [slice(start, start + size) for start in range(0, len(reals), size)]
    return [
        Pass(
            reals[part],
            None if labels is None else labels[part],
            first + part.start,
            None if fake_labels is None else fake_labels[part],
        )
        for part in parts
    ]


def size_of_passes(share: int, limit: int | None, group: int) -> int:
    """Images of each pass.

    Args:
        share: Images of a batch on a device.
        limit: Most images of a pass; ``None`` for no limit.
        group: Images to a group of the minibatch standard deviation, which no pass may cut.

    Raises:
        UserError: If there is no such size.
    """
    whole = min(group, share)
    for size in range(min(limit or share, share), 0, -1):
        if share % size == 0 and size % whole == 0:
            return size
    most = f" of {limit} images at most" if limit else ""
    raise UserError(
        f"a device's share of {share} images cannot go through in equal passes{most}, each a "
        f"multiple of the minibatch-stddev group of {whole}: change batch_size, the number of "
        "devices, micro_batch or stddev_group"
    )


def add_mean(means: dict[str, Tensor], found: Mapping[str, Tensor], passes: int) -> None:
    """Add what one of several passes has found to the means over all."""
    for name, value in found.items():
        share = value.detach() / passes
        means[name] = means[name] + share if name in means else share
