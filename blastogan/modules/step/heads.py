"""Logits of a discriminator that scores images both without and with their labels.

Shahbazi et al., "Collapse by Conditioning: Training Class-conditional GANs with Limited Data"
(2022) add the conditional loss, by its condition weight, to the unconditional one. Here the weights
sum to 1, so that the loss keeps its scale relative to R1. Logits ``(B,)`` of one head stay as is.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def over_heads(loss: Callable[..., Tensor], weight: float, *logits: Tensor) -> Tensor:
    """Weighted mean of a loss over the heads.

    Args:
        loss: Function of as many logits ``(B,)`` as are given.
        weight: Condition weight, 0 to 1.
        *logits: ``(B,)``, or ``(B, 2)`` with the unconditional ones first.
    """
    if logits[0].dim() == 1:
        return loss(*logits)
    without, given = (loss(*(each[:, n] for each in logits)) for n in range(2))
    return (without + weight * given) / (1.0 + weight)


def mean_logit(logits: Tensor, weight: float) -> Tensor:
    """Score of each image ``(B,)``: the weighted mean of its logits over the heads."""
    return over_heads(lambda each: each, weight, logits)
