"""Resuming with other options than a checkpoint was saved with."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from pytorch_lightning import LightningModule
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from blastogan.errors import UserError
from blastogan.modules.step.optimizers import DEFAULT, arguments_of

_log = logging.getLogger(__name__)

AUGMENTATION = "augmentation."
"""Prefix of the augmentation's state in a state dict."""


def is_fitting(module: LightningModule) -> bool:
    """Whether a trainer is fitting the module."""
    trainer = module._trainer
    return trainer is not None and trainer.state.fn == TrainerFn.FITTING


def change_optimizers(
    checkpoint: Mapping[str, Any], settings: Sequence[Mapping[str, Any] | None], resuming: bool
) -> None:
    """Write settings into saved optimiser states, which would bring back their own; log changes.

    Args:
        checkpoint: Its optimiser states are changed in place.
        settings: One per optimiser, see `build_optimizer`.
        resuming: Whether a training goes on with the states; otherwise there may be none.

    Raises:
        UserError: If the number of states is another.
    """
    states = checkpoint.get("optimizer_states")
    if states is not None and len(states) != len(settings) and (states or resuming):
        raise UserError(
            f"the checkpoint is damaged: it has states of {len(states)} optimizers, expected "
            f"{len(settings)}. Use an earlier one."
        )
    for mine, state in zip(settings, states or [], strict=False):
        for name, value in arguments_of(DEFAULT if mine is None else mine).items():
            for group in state["param_groups"]:
                saved = group.get(name, value)
                if (tuple(saved) if name == "betas" else saved) != value:
                    _log.info("optimizer: %s changes from %s to %s", name, saved, value)
                    group[name] = value


def keep_augmentation(
    checkpoint: Mapping[str, Any], state: Mapping[str, Tensor], settings: Mapping[str, Any]
) -> None:
    """Keep the saved state of an augmentation if its options are unchanged, or start it over.

    Args:
        checkpoint: Its state dict is changed in place.
        state: State dict of the module to be restored.
        settings: Hyper-parameters of the module.
    """
    saved, before = checkpoint["state_dict"], checkpoint.get("hyper_parameters", {})
    own = {name: value for name, value in state.items() if name.startswith(AUGMENTATION)}
    theirs = [name for name in saved if name.startswith(AUGMENTATION)]
    same = all(before.get(name) == settings.get(name) for name in ("augment", "augment_p"))
    if same and set(theirs) == set(own):
        return
    for name in theirs:
        del saved[name]
    saved.update(own)
    if own or theirs:
        was, now = _augmentation(before), _augmentation(settings)
        _log.info("augmentation changes from %s to %s and starts over", was, now)


def _augmentation(settings: Mapping[str, Any]) -> str:
    p = settings.get("augment_p")
    return f"{settings.get('augment', 'none')} with p {'adaptive' if p is None else p}"
