"""Settings of the training step that have no file of their own: what they may be, and together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from blastogan.errors import UserError
from blastogan.losses import LOSSES

Regularizer = Literal["r1", "gradient_penalty", "none"]

FakeLabels = Literal["data", "balanced"]
"""Law of the grades of fakes in training: that of the reals shown, or all grades seen alike."""


def check_settings(
    *,
    loss: str,
    regularizer: str,
    fake_labels: str,
    ramped: bool,
    conditional: bool,
    r1_interval: int,
    r1_gamma: float | None,
    micro_batch: int | None,
    clips: Mapping[str, float | None],
) -> None:
    """Refuse settings of a step that cannot be.

    Args:
        loss: Name of the adversarial loss.
        regularizer: Name of the penalty.
        fake_labels: Law of the grades of fakes.
        ramped: Whether the grade is ramped in.
        conditional: Whether the networks get it.
        r1_interval: Steps from one R1 to the next.
        r1_gamma: Weight of R1; ``None`` for the rule.
        micro_batch: Most images of a pass; ``None`` for no limit.
        clips: Largest norms of gradients, by network; ``None`` for no limit.

    Raises:
        UserError: For the first that cannot be.
    """
    for name, value, allowed in (
        ("loss", loss, tuple(LOSSES)),
        ("regularizer", regularizer, get_args(Regularizer)),
        ("fake_labels", fake_labels, get_args(FakeLabels)),
    ):
        if value not in allowed:
            raise UserError(f"{name} is {value!r}: expected one of {', '.join(allowed)}")
    if ramped and loss == "wgan":
        raise UserError(
            "ramp_kimg needs a score without the grade beside that with it, which the loss wgan "
            "cannot tell from their sum: set ramp_kimg to null, or loss to logistic or hinge"
        )
    if fake_labels == "balanced":
        _check_balanced(regularizer, ramped=ramped, conditional=conditional)
    if r1_interval < 1:
        raise UserError(f"r1_interval is {r1_interval}: expected 1 or more")
    if r1_gamma is not None and not r1_gamma >= 0:
        raise UserError(f"r1_gamma is {r1_gamma}: expected 0 or more, or null for the rule")
    if micro_batch is not None and micro_batch < 1:
        raise UserError(f"micro_batch is {micro_batch}: expected 1 or more, or null")
    for side, clip in clips.items():
        if clip is not None and not clip > 0:
            raise UserError(f"{side}_clip is {clip}: expected a norm above 0, or null")


def _check_balanced(regularizer: str, *, ramped: bool, conditional: bool) -> None:
    if not conditional:
        raise UserError(
            "fake_labels is balanced, but the networks get no grades: set conditional to true, or "
            "fake_labels to data"
        )
    if ramped:
        raise UserError(
            "fake_labels is balanced, but under ramp_kimg a score without the grade compares fakes "
            "with reals, whose grades must be as frequent: set fake_labels to data, and show reals "
            "of all grades alike by data.balance uniform instead"
        )
    if regularizer == "gradient_penalty":
        raise UserError(
            "the gradient penalty goes between a real and a fake of one grade: use fake_labels "
            "data, or the regularizer r1"
        )
