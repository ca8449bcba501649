"""Adversarial losses and regularisers: pure functions, each a mean over samples.

As means, they keep their weight at every batch size of a growing run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

LossName = Literal["wgan", "logistic", "hinge"]


@dataclass(frozen=True)
class AdversarialLoss:
    """Losses to minimise: of D, from logits ``(B,)`` of reals and of fakes; of G, from fakes'.

    Both may be given the weight ``(B,)`` of each sample, and are means over all samples.
    """

    discriminator: Callable[..., Tensor]
    generator: Callable[..., Tensor]


def _mean(losses: Tensor, weight: Tensor | None) -> Tensor:
    return (losses if weight is None else losses * weight).mean()


wgan = AdversarialLoss(
    discriminator=lambda real, fake, w=None: _mean(fake, w) - _mean(real, w),
    generator=lambda fake, w=None: -_mean(fake, w),
)
"""Wasserstein loss (Arjovsky et al. 2017, equation 2)."""

logistic = AdversarialLoss(
    discriminator=lambda real, fake, w=None: (
        _mean(F.softplus(fake), w) + _mean(F.softplus(-real), w)
    ),
    generator=lambda fake, w=None: _mean(F.softplus(-fake), w),
)
"""Non-saturating logistic loss (Goodfellow et al. 2014, section 3)."""

hinge = AdversarialLoss(
    discriminator=lambda real, fake, w=None: (
        _mean(F.relu(1.0 + fake), w) + _mean(F.relu(1.0 - real), w)
    ),
    generator=lambda fake, w=None: -_mean(fake, w),
)
"""Hinge loss (Lim and Ye 2017; Miyato et al. 2018, equations 16 and 17)."""

LOSSES: dict[LossName, AdversarialLoss] = {"wgan": wgan, "logistic": logistic, "hinge": hinge}
"""All adversarial losses by name."""


def r1(real_logits: Tensor, reals: Tensor, weight: Tensor | None = None) -> Tensor:
    """Zero-centred gradient penalty on reals, ``E[|grad D(x)|^2] / 2``.

    Mescheder et al. 2018, equation 9, without its weight gamma.

    Args:
        real_logits: ``(B,)``, computed from `reals`.
        reals: ``(B, C, H, W)`` with ``requires_grad`` set before the forward pass.
        weight: Weight of each image ``(B,)``; ``None`` for equal weights.

    Returns:
        Scalar, differentiable in the parameters of D.
    """
    (gradient,) = torch.autograd.grad(real_logits.sum(), reals, create_graph=True)
    return _mean(gradient.square().sum(dim=(1, 2, 3)), weight) / 2


def gradient_penalty(
    discriminator: Callable[[Tensor], Tensor], reals: Tensor, fakes: Tensor, weight: Tensor
) -> Tensor:
    """One-centred gradient penalty between reals and fakes, ``E[(|grad D(x)| - 1)^2]``.

    Gulrajani et al. 2017, equation 3, without its weight lambda.

    Args:
        discriminator: Maps images ``(B, C, H, W)`` to logits ``(B,)``.
        reals: ``(B, C, H, W)``.
        fakes: ``(B, C, H, W)``.
        weight: ``(B, 1, 1, 1)``, uniform on [0, 1): position between fake (0) and real (1).

    Returns:
        Scalar, differentiable in the parameters of D.
    """
    mixed = torch.lerp(fakes.detach(), reals.detach(), weight).requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(mixed).sum(), mixed, create_graph=True)
    return (gradient.square().sum(dim=(1, 2, 3)).sqrt() - 1.0).square().mean()


def drift(real_logits: Tensor) -> Tensor:
    """Keep the logits ``(B,)`` of a Wasserstein discriminator near 0, ``E[D(x)^2]``.

    Karras et al. 2018, appendix A.1, without its weight of 0.001.
    """
    return real_logits.square().mean()


GAMMA_FACTOR = 0.0002
"""Factor of resolution squared over batch size (configuration ``auto`` of ADA's authors)."""

GAMMA_FLOOR = 0.5
"""Our lower limit: at 32 pixels and a batch size of 16 the rule gives 0.013, at which samples of a
grade looked alike on phantoms. With 300 graded phantoms, samples had 0.3 to 0.7 of the phantoms'
variety within a grade at gamma 0.1, and 0.8 at 0.5 (``notebooks/few_images.ipynb``); with 3,000,
0.87 to 0.97 at 0.5 in six runs (``examples/small_data/architectures.py``)."""


def r1_gamma_rule(resolution: int, batch_size: int) -> float:
    """Weight of R1, ``0.0002 resolution^2 / batch`` (global), but at least `GAMMA_FLOOR`.

    Karras et al. 2020 (ADA), appendix C and the ``auto`` configuration of their code, for networks
    of one resolution; the floor is ours and matters while a network grows.
    """
    return max(GAMMA_FLOOR, GAMMA_FACTOR * resolution**2 / batch_size)
