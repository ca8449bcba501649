"""Checks of the training options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from blastogan.errors import UserError
from blastogan.generators.settings import RANGES as NETWORK_RANGES
from blastogan.generators.settings import Range, is_ramp, out_of_range
from blastogan.losses import LossName
from blastogan.modules.step.optimizers import check_optimizer

Augment = str | dict[str, float]
"""Name of an augmentation, or amplitudes by operation."""

Regularizer = Literal["r1", "gradient_penalty", "none"]

FakeLabels = Literal["data", "balanced"]
"""Class distribution of fakes in training: that of the reals shown, or uniform over those seen."""

RANGES: dict[str, Range] = {
    **NETWORK_RANGES,
    "style_mixing_prob": (float, 0, 1),
    "r1_gamma": (float, 0, 1e9, " for the rule"),
    "r1_interval": (int, 1, 10**6),
    "gradient_penalty_weight": (float, 0, 1e9),
    "drift_weight": (float, 0, 1e9, " for that of the loss"),
    "ema_kimg": (float, 0, 1e9),
    "ema_rampup": (float, 0, 1e9),
    "micro_batch": (int, 1, 2**20, ""),
    "generator_clip": (float, 1e-12, 1e12, ""),
    "discriminator_clip": (float, 1e-12, 1e12, ""),
    "augment_p": (float, 0, 1, " to adapt it"),
    "augment_target": (float, 0, 1),
    "augment_kimg": (float, 1e-9, 1e9),
    "augment_max": (float, 0, 1),
}
"""All numbers among the hyper-parameters, see `NETWORK_RANGES`."""


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse hyper-parameters of a module that are out of range or contradict each other.

    Raises:
        UserError: For the first fault.
    """
    choices = {"loss": LossName, "regularizer": Regularizer, "fake_labels": FakeLabels}
    for name, allowed in ((name, get_args(kind)) for name, kind in choices.items()):
        if settings[name] not in allowed:
            raise UserError(f"{name} is {settings[name]!r}: expected one of {', '.join(allowed)}")
    if wrong := "; ".join(out_of_range(settings, RANGES)):
        raise UserError(wrong)
    for name in ("generator_optimizer", "discriminator_optimizer"):
        check_optimizer(settings[name])
    if settings["ramp_kimg"] is not None:
        _check_ramp(settings)
    if settings["fake_labels"] == "balanced":
        _check_balanced(settings)


def _check_ramp(settings: Mapping[str, Any]) -> None:
    ramp = settings["ramp_kimg"]
    if not is_ramp(ramp):
        raise UserError(
            f"ramp_kimg is {ramp}: expected two numbers, at least 0 and ascending, such as "
            "[10, 30], or [0, 0] for both scores from the start"
        )
    if not settings["conditional"]:
        raise UserError("ramp_kimg needs conditional true: set one of them to null or true")
    if settings["loss"] == "wgan":
        raise UserError(
            "ramp_kimg needs separate scores with and without the grade, which the loss wgan "
            "cannot tell from their sum: set ramp_kimg to null, or loss to logistic or hinge"
        )


def _check_balanced(settings: Mapping[str, Any]) -> None:
    if not settings["conditional"]:
        raise UserError("fake_labels balanced needs conditional true; or set fake_labels to data")
    if settings["ramp_kimg"] is not None:
        raise UserError(
            "fake_labels balanced does not work with ramp_kimg: the score without the grade "
            "compares fakes with reals, whose class distributions must match. Set fake_labels to "
            "data, and data.balance to uniform for equally frequent classes"
        )
    if settings["regularizer"] == "gradient_penalty":
        raise UserError(
            "fake_labels balanced does not work with the gradient penalty, which mixes a real with "
            "a fake of the same grade: use fake_labels data, or the regularizer r1"
        )
