"""Logits of a discriminator that scores images both without and with their labels.

Shahbazi et al., "Collapse by Conditioning: Training Class-conditional GANs with Limited Data"
(2022) add the conditional loss, by its condition weight, to the unconditional one. Here the weights
sum to 1, so that the loss keeps its scale relative to R1. An image of unknown label counts by its
unconditional score alone. Logits ``(B,)`` of one head stay as is.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def over_heads(
    loss: Callable[..., Tensor], weight: float, *logits: Tensor, known: Tensor | None = None
) -> Tensor:
    """Weighted mean of a loss over the heads.

    Args:
        loss: Function of as many logits ``(B,)`` as are given, and of the weight ``(B,)`` of each
            sample, or ``None``; a mean over samples.
        weight: Condition weight, 0 to 1.
        *logits: ``(B,)``, or ``(B, 2)`` with the unconditional ones first.
        known: bool ``(B, parts)``, which parts of the labels are known; ``None`` for all.
    """
    if logits[0].dim() == 1:
        return loss(*logits, None)
    without, given = ([each[:, n] for each in logits] for n in range(2))
    if known is None:
        return (loss(*without, None) + weight * loss(*given, None)) / (1.0 + weight)
    weights = weight * known.any(dim=1).to(logits[0].dtype)
    return loss(*without, 1.0 / (1.0 + weights)) + loss(*given, weights / (1.0 + weights))


def mean_logit(logits: Tensor, weight: float, known: Tensor | None = None) -> Tensor:
    """Score of each image ``(B,)``: the weighted mean of its logits over the heads."""
    if logits.dim() == 1:
        return logits
    if known is None:
        return (logits[:, 0] + weight * logits[:, 1]) / (1.0 + weight)
    weights = weight * known.any(dim=1).to(logits.dtype)
    return (logits[:, 0] + weights * logits[:, 1]) / (1.0 + weights)
