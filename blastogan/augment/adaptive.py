"""Augmentation with a probability that follows the overfitting of the discriminator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from blastogan.augment.diff import DIFFAUGMENT, diff_augment
from blastogan.augment.gates import Draws
from blastogan.augment.pipeline import SETS, augment_images, check_operations
from blastogan.errors import UserError

INTERVAL = 4
"""Steps from one adjustment of p to the next (Karras et al. 2020, section 3.1)."""


@dataclass(frozen=True)
class AugmentationSettings:
    """Settings of the augmentation of everything a discriminator sees.

    Attributes:
        augment: Name of a set of `SETS`, ``diffaugment``, or the amplitudes of operations.
        p: Fixed probability; ``None`` adapts it, except for ``diffaugment``, where it is then 1.
        target: Target of r_t, which an adaptive p follows.
        kimg: Thousands of images over which p rises from 0 to 1 if r_t stays above the target.
        max_p: Highest adaptive p. Above 0.8 augmentation may leak into generated images (Karras
            et al. 2020, section 2.2).

    Raises:
        UserError: If a value is invalid.
    """

    augment: str | Mapping[str, float]
    p: float | None = None
    target: float = 0.6
    kimg: float = 500.0
    max_p: float = 0.8

    def __post_init__(self) -> None:
        if not isinstance(self.augment, str):
            check_operations(self.augment)
        elif self.augment not in (*SETS, DIFFAUGMENT):
            raise UserError(
                f"augment is {self.augment!r}: expected one of {', '.join((*SETS, DIFFAUGMENT))}, "
                "or amplitudes of operations, such as {flip: 1, turn: 1, brightness: 0.1}"
            )
        p = 0.0 if self.p is None else self.p
        shares = {"augment_p": p, "augment_target": self.target, "augment_max": self.max_p}
        for name, share in shares.items():
            if not 0.0 <= share <= 1.0:
                raise UserError(f"{name} is {share}: expected a number from 0 to 1")
        if p > 0 and not self.active:
            raise UserError(
                f"augment_p is {p}, but augment is none: there is nothing to augment with. Set "
                f"augment to one of {', '.join((*SETS, DIFFAUGMENT)[1:])}, or leave augment_p out"
            )
        if not self.kimg > 0:
            raise UserError(f"augment_kimg is {self.kimg}: expected more than 0")

    @property
    def diff(self) -> bool:
        """Whether it is DiffAugment."""
        return self.augment == DIFFAUGMENT

    @property
    def amplitudes(self) -> dict[str, float]:
        """Amplitudes by operation; empty for ``diffaugment`` and for none."""
        if isinstance(self.augment, str):
            return dict(SETS.get(self.augment, {}))
        return {name: amplitude for name, amplitude in self.augment.items() if amplitude}

    @property
    def active(self) -> bool:
        """Whether images are changed at all."""
        return self.diff or bool(self.amplitudes)

    @property
    def adaptive(self) -> bool:
        """Whether p adapts."""
        return self.p is None and not self.diff


class AdaptiveAugmentation(nn.Module):
    """Augments everything a discriminator sees, with a probability p that it adapts.

    Karras et al. 2020, "Training generative adversarial networks with limited data", section 3.1:
    ``r_t = E[sign D(reals)]`` over some steps measures how far D overfits: 0 not at all, 1
    completely. p rises at a constant speed while r_t is above its target, and falls while it is
    below. All state is on the device and in the state dict; nothing waits for the device.
    """

    p: Tensor
    signs: Tensor
    sign_real: Tensor

    def __init__(self, settings: AugmentationSettings) -> None:
        super().__init__()
        self.settings = settings
        self._amplitudes = settings.amplitudes
        self._noted: list[Tensor] = []
        fixed = 1.0 if settings.diff else 0.0
        self.register_buffer("p", torch.tensor(fixed if settings.p is None else settings.p))
        # sum of the signs since the last adjustment, and number of the images
        self.register_buffer("signs", torch.zeros(2))
        # r_t at the last adjustment
        self.register_buffer("sign_real", torch.tensor(0.0))

    def forward(self, images: Tensor, draws: Draws) -> Tensor:
        """Augment images ``(B, C, R, R)``, values around [-1, 1], independently of each other."""
        if self.settings.diff:
            return diff_augment(images, self.p, draws)
        return augment_images(images, self._amplitudes, self.p, draws)

    def note(self, logits: Tensor) -> None:
        """Count the signs of D's logits ``(B,)`` of augmented reals."""
        sign = logits.detach().sign().sum()
        self._noted.append(torch.stack([sign, torch.full_like(sign, len(logits))]))

    def take_noted(self) -> Tensor:
        """Sum of the signs since the last call, and number of the reals, ``(2,)``."""
        noted = torch.stack(self._noted).sum(dim=0)
        self._noted.clear()
        return noted

    @torch.no_grad()
    def observe(self, signs: Tensor, step: int) -> None:
        """Add the signs of a step, `take_noted` over all devices; every few steps, adjust p."""
        self.signs += signs
        if step % INTERVAL != INTERVAL - 1:
            return
        settings = self.settings
        self.sign_real.copy_(self.signs[0] / self.signs[1])
        if settings.adaptive:
            change = self.signs[1] / (settings.kimg * 1000)
            self.p += torch.sign(self.sign_real - settings.target) * change
            self.p.clamp_(0.0, settings.max_p)
        self.signs.zero_()

    def extra_repr(self) -> str:
        """Settings, for `print`."""
        return repr(self.settings)
