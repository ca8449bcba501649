"""A rank's part of a batch, in one or more passes through the networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from blastogan.errors import UserError


class Pass(NamedTuple):
    """Images of a batch that go through the networks at once.

    Attributes:
        reals: Images ``(B, C, R, R)`` as D sees them.
        labels: int64 ``(B, 2)``; ``None`` for unconditional networks.
        first: Position of the first image in the global batch.
        fake_labels: Labels of the fakes; same shape and type as `labels`.
        known: bool ``(B, 2)``, known letters of the reals, by which D scores each real and its
            fake; ``None`` for all.
        share: Expected share of images with a known letter.
    """

    reals: Tensor
    labels: Tensor | None
    first: int
    fake_labels: Tensor | None
    known: Tensor | None = None
    share: float = 1.0


def split_passes(whole: Pass, limit: int | None, group: int) -> list[Pass]:
    """Split a rank's part of a batch into equal passes; see `size_of_passes`."""
    size = size_of_passes(len(whole.reals), limit, group)

    def part(whole: Tensor | None, start: int) -> Any:
        return None if whole is None else whole[start : start + size]

    return [
        Pass(
            part(whole.reals, start),
            part(whole.labels, start),
            whole.first + start,
            part(whole.fake_labels, start),
            part(whole.known, start),
            whole.share,
        )
        for start in range(0, len(whole.reals), size)
    ]


def score_both(
    score: Callable[..., Tensor], reals: Tensor, fakes: Tensor, part: Pass, group: int
) -> tuple[Tensor, Tensor]:
    """Logits of reals and fakes, in one pass if no group of the minibatch stddev would mix them.

    Args:
        score: Scores images, given their labels and which of these are known.
        reals: ``(B, C, R, R)``, as D sees them.
        fakes: Likewise.
        part: Their labels.
        group: Images per group of the minibatch standard deviation.
    """
    labels, fake_labels, known = part.labels, part.fake_labels, part.known
    if len(reals) % group:
        return score(reals, labels, known), score(fakes, fake_labels, known)
    both = None
    if labels is not None and fake_labels is not None:
        both = torch.cat([labels, fake_labels])
    twice = None if known is None else known.repeat(2, 1)
    real, fake = score(torch.cat([reals, fakes]), both, twice).chunk(2)
    return real, fake


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
