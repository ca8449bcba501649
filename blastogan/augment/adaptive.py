"""Augmentation whose probability follows how far the discriminator overfits."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from blastogan.augment.chance import Draws
from blastogan.augment.diff import DIFFAUGMENT, diff_augment
from blastogan.augment.pipeline import SETS, augment_images, check_operations
from blastogan.errors import UserError

INTERVAL = 4
"""Steps from one adjustment of p to the next (Karras et al. 2020, section 3.1)."""


class AdaptiveAugmentation(nn.Module):
    """Augments what a discriminator sees, with a probability p that it adjusts.

    Karras et al. 2020, "Training generative adversarial networks with limited data", section 3.1:
    ``r_t = E[sign D(reals)]`` over some steps says how far D overfits, 0 not at all, 1 wholly; p
    rises at a constant speed while r_t is above its target, and falls while it is below. All lives
    on the device and in the state dict; nothing waits for the device.

    Args:
        augment: Name of a set of `SETS` other than ``none``, ``diffaugment``, or the amplitudes of
            operations.
        p: Probability that stays; ``None`` for one that adapts, which is 1 for ``diffaugment``.
        target: Of r_t.
        kimg: Thousands of images over which p goes from 0 to 1, if nothing turns it.
        max_p: Highest p. Above 0.8 augmentation may leak into what is generated (section 2.2).

    Raises:
        UserError: If a value cannot be.
    """

    p: Tensor
    signs: Tensor
    sign_real: Tensor

    def __init__(
        self,
        augment: str | Mapping[str, float],
        p: float | None = None,
        target: float = 0.6,
        kimg: float = 500.0,
        max_p: float = 0.8,
    ) -> None:
        super().__init__()
        check_augmentation(augment, p, target, kimg, max_p)
        self.name = augment if isinstance(augment, str) else "of your own"
        self.amplitudes = dict(SETS.get(augment, {}) if isinstance(augment, str) else augment)
        if augment == DIFFAUGMENT and p is None:
            p = 1.0
        self.adaptive = p is None
        self.target, self.kimg, self.max_p = target, kimg, max_p
        self._noted: list[Tensor] = []
        self.register_buffer("p", torch.tensor(p or 0.0))
        # sum of the signs since the last adjustment, and number of the images
        self.register_buffer("signs", torch.zeros(2))
        # r_t at the last adjustment
        self.register_buffer("sign_real", torch.tensor(0.0))

    def forward(self, images: Tensor, draws: Draws) -> Tensor:
        """Augment images ``(B, C, R, R)``, values about [-1, 1], each by itself."""
        if self.name == DIFFAUGMENT:
            return diff_augment(images, self.p, draws)
        return augment_images(images, self.amplitudes, self.p, draws)

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
        """Take in what was noted in a step, and adjust p every few steps.

        Args:
            signs: As of `take_noted`, over all devices.
            step: Number of steps before this one.
        """
        self.signs += signs
        if not self.adaptive or step % INTERVAL != INTERVAL - 1:
            return
        self.sign_real.copy_(self.signs[0] / self.signs[1])
        change = self.signs[1] / (self.kimg * 1000)
        self.p += torch.sign(self.sign_real - self.target) * change
        self.p.clamp_(0.0, self.max_p)
        self.signs.zero_()

    def extra_repr(self) -> str:
        """Settings, for `print`."""
        return f"{self.name}, adaptive={self.adaptive}, target={self.target}, kimg={self.kimg}"


def check_augmentation(
    augment: str | Mapping[str, float], p: float | None, target: float, kimg: float, max_p: float
) -> None:
    """Refuse settings that cannot be.

    Raises:
        UserError: With what was got and what was expected.
    """
    if isinstance(augment, str):
        known = (*SETS, DIFFAUGMENT)
        if augment not in known:
            raise UserError(
                f"augment is {augment!r}: expected one of {', '.join(known)}, or amplitudes of "
                "operations, such as {flip: 1, turn: 1, brightness: 0.1}"
            )
    else:
        check_operations(augment)
    shares = {"augment_p": 0.0 if p is None else p, "augment_target": target, "augment_max": max_p}
    for name, share in shares.items():
        if not 0.0 <= share <= 1.0:
            raise UserError(f"{name} is {share}: expected a number from 0 to 1")
    if not kimg > 0:
        raise UserError(f"augment_kimg is {kimg}: expected more than 0")
