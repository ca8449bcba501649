"""Checks of the training options, and those that the networks take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from blastogan.errors import UserError
from blastogan.grades import LABEL_SIZES
from blastogan.losses import LossName

Augment = str | dict[str, float]
"""Name of an augmentation, or amplitudes by operation."""

Regularizer = Literal["r1", "gradient_penalty", "none"]

FakeLabels = Literal["data", "balanced"]
"""Class distribution of fakes in training: that of the reals shown, or uniform over those seen."""

COMMON = (
    "resolution",
    "start_resolution",
    "img_channels",
    "factorised",
    "channel_base",
    "channel_cap",
)
"""Options that both networks take."""


def generator_options(settings: Mapping[str, Any], *own: str) -> dict[str, Any]:
    """Arguments of a generator, from a module's hyper-parameters; `own` names additional ones."""
    return _common(settings) | {name: settings[name] for name in ("latent_dim", *own)}


def discriminator_options(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a discriminator, from the hyper-parameters of a module."""
    ramped = settings["conditional"] and settings["ramp_kimg"] is not None
    own = {"stddev_group": settings["stddev_group"], "unconditional_head": ramped}
    return _common(settings) | own


def _common(settings: Mapping[str, Any]) -> dict[str, Any]:
    labels = LABEL_SIZES if settings["conditional"] else ()
    return {"label_sizes": labels, **{name: settings[name] for name in COMMON}}


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse hyper-parameters of a module that are out of range or contradict each other.

    Raises:
        UserError: For the first fault.
    """
    choices = {"loss": LossName, "regularizer": Regularizer, "fake_labels": FakeLabels}
    for name, allowed in ((name, get_args(kind)) for name, kind in choices.items()):
        if settings[name] not in allowed:
            raise UserError(f"{name} is {settings[name]!r}: expected one of {', '.join(allowed)}")
    if settings["ramp_kimg"] is not None:
        _check_ramp(settings)
    if settings["fake_labels"] == "balanced":
        _check_balanced(settings)
    interval, gamma, limit = (settings[n] for n in ("r1_interval", "r1_gamma", "micro_batch"))
    if interval < 1:
        raise UserError(f"r1_interval is {interval}: expected 1 or more")
    if gamma is not None and not gamma >= 0:
        raise UserError(f"r1_gamma is {gamma}: expected 0 or more, or null for the rule")
    if limit is not None and limit < 1:
        raise UserError(f"micro_batch is {limit}: expected 1 or more, or null")
    for name in ("generator_clip", "discriminator_clip"):
        if settings[name] is not None and not settings[name] > 0:
            raise UserError(f"{name} is {settings[name]}: expected a norm above 0, or null")


def _check_ramp(settings: Mapping[str, Any]) -> None:
    ramp = list(settings["ramp_kimg"])
    if len(ramp) != 2 or not (0 <= ramp[0] < ramp[1] or ramp == [0, 0]):
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
