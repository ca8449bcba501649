"""Logits of a discriminator that scores images both without and with their labels.

Shahbazi et al., "Collapse by Conditioning: Training Class-conditional GANs with Limited Data"
(2022): the conditional part of the loss is weighted by how much the label counts, the unconditional
one stays. Here the weights sum to 1, so that the loss keeps its measure beside R1 while the label
is ramped in. All take logits ``(B,)`` of one head too, and leave them as they are.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def over_heads(loss: Callable[..., Tensor], weight: float, *logits: Tensor) -> Tensor:
    """Mean of a loss over the heads.

    Args:
        loss: Maps logits ``(B,)``, as many as are given, to a scalar.
        weight: Of the label, 0 to 1.
        logits: ``(B,)``, or ``(B, 2)`` with the unconditional ones first.
    """
    if logits[0].dim() == 1:
        return loss(*logits)
    without, given = (loss(*(each[:, n] for each in logits)) for n in range(2))
    return (without + weight * given) / (1.0 + weight)


def mean_logit(logits: Tensor, weight: float) -> Tensor:
    """Logits ``(B,)`` by which images are scored: the mean over the heads."""
    return over_heads(lambda each: each, weight, logits)
