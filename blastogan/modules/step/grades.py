"""What is known of the training images' grades, and what a module has to be for it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from blastogan.errors import UserError
from blastogan.grades import Grading, grading_of

_log = logging.getLogger(__name__)

_HEADS_FROM_START = [0.0, 0.0]


def options_for_grades(settings: Mapping[str, Any], grading: Grading) -> dict[str, Any]:
    """Options of a module that training images with such grades require.

    Images without any grade need a model without grades. If some grades are known, D has a second
    score, without the grade, which learns from all images; see `BaseGANModule`.

    Args:
        settings: Hyper-parameters of the module.
        grading: What is known of the grades.

    Returns:
        The options that change.

    Raises:
        UserError: If the module's loss has no second score.
    """
    if grading == "complete" or not settings["conditional"]:
        return {}
    if grading == "none":
        given = {"conditional": False, "ramp_kimg": None, "fake_labels": "data"}
        return {name: value for name, value in given.items() if settings[name] != value}
    if settings["ramp_kimg"] is not None:
        return {}
    if settings["loss"] == "wgan" or settings["fake_labels"] == "balanced":
        raise UserError(
            "some images have no grade, so that D must score images both with and without it, "
            "which works neither with the loss wgan nor with fake_labels balanced: set loss to "
            "logistic and fake_labels to data, leave ungraded images out (data.ungraded drop), or "
            "train without grades (conditional false)"
        )
    return {"ramp_kimg": _HEADS_FROM_START}


def describe_options(changed: Mapping[str, Any]) -> str:
    """Sentence on the options that `options_for_grades` changes."""
    if "conditional" in changed:
        return "no training image has a grade: the model is trained without grades"
    return (
        "some training images have no grade, or only one letter: D scores every image without its "
        "grade, and by the letters that are known (ramp_kimg [0, 0])"
    )


def _graded_elsewhere(data: Any) -> bool:
    held_out = [*data.split["val"], *data.split["test"]]
    return grading_of(data.records[n].grade for n in held_out) != "none"


def known_share(data: Any) -> float:
    """Share of the training images shown of which a letter is known; 1 if none is."""
    weights = data.sampling_weights()
    known = (data.labels("train") >= 0).any(dim=1)
    return float(weights[known].sum() / weights.sum()) or 1.0


def fit_to_grades(module: Any, data: Any) -> None:
    """Build a `BaseGANModule`'s networks anew if the grades of its data module require others.

    Raises:
        UserError: If the module's loss does not work with them, or it has transferred weights.
    """
    grading: Grading = getattr(data, "grading", "complete")
    if module.hparams["conditional"] and grading == "none" and _graded_elsewhere(data):
        raise UserError(
            "no training image has a grade, but held-out ones have: grade some of the training "
            "images, split otherwise, or train without grades (conditional false)"
        )
    module.known_share = None if grading == "complete" else known_share(data)
    changed = options_for_grades(module.hparams, grading)
    if not changed:
        return
    if module.transfer is not None:
        options = ", ".join(f"{name}={value}" for name, value in changed.items())
        raise UserError(
            f"{describe_options(changed)}, but this one has transferred weights: build it with "
            f"{options} before the transfer"
        )
    _log.info("%s", describe_options(changed))
    module.hparams.update(changed)
    module.build_networks()
