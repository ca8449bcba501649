"""Logits of a discriminator that scores images both without and with their labels.

Shahbazi et al., "Collapse by Conditioning: Training Class-conditional GANs with Limited Data"
(2022) add the conditional loss, by its condition weight, to the unconditional one. Here the weights
sum to 1, so that the loss keeps its scale relative to R1. If labels are known of some images only,
the unconditional loss is a mean over all images and the conditional one a mean over those: labels
count as much as if all were known, however few they are. Logits ``(B,)`` of one head stay as is.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def over_heads(
    loss: Callable[..., Tensor],
    weight: float,
    *logits: Tensor,
    known: Tensor | None = None,
    share: float = 1.0,
) -> Tensor:
    """Weighted mean of a loss over the heads.

    Args:
        loss: Function of as many logits ``(B,)`` as are given, and of the weight ``(B,)`` of each
            sample, or ``None``; a mean over samples.
        weight: Condition weight, 0 to 1.
        *logits: ``(B,)``, or ``(B, 2)`` with the unconditional ones first.
        known: bool ``(B, parts)``, which parts of the labels are known; ``None`` for all.
        share: Expected share of images with a known part, above 0 to 1. As a constant it allows a
            batch to be divided among passes and devices.
    """
    if logits[0].dim() == 1:
        return loss(*logits, None)
    without, given = ([each[:, n] for each in logits] for n in range(2))
    counted = None if known is None else _is_known(known, logits[0]) / share
    return (loss(*without, None) + weight * loss(*given, counted)) / (1.0 + weight)


def mean_logit(logits: Tensor, weight: float, known: Tensor | None = None) -> Tensor:
    """Score of each image ``(B,)``: the weighted mean of its logits over the heads."""
    if logits.dim() == 1:
        return logits
    weights = weight if known is None else weight * _is_known(known, logits)
    return (logits[:, 0] + weights * logits[:, 1]) / (1.0 + weights)


def penalty_weights(
    logits: Tensor, weight: float, known: Tensor | None, share: float
) -> Tensor | None:
    """Weight of each image in R1, ``(B,)``, 1 on average; ``None`` if all labels are known.

    The conditional loss is of few images but counts in full, and so must its penalty.
    """
    if known is None:
        return None
    return (1.0 + weight * _is_known(known, logits) / share) / (1.0 + weight)


def _is_known(known: Tensor, logits: Tensor) -> Tensor:
    return known.any(dim=1).to(logits.dtype)
