"""Building a module from a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from pytorch_lightning import LightningModule
from torch import Tensor

from blastogan.errors import UserError
from blastogan.modules.step.resuming import AUGMENTATION
from blastogan.runs.checkpoint_content import check_finite, check_weights

Module = TypeVar("Module", bound=LightningModule)


def build_saved(
    kind: type[Module],
    checkpoint: dict[str, Any],
    changes: Mapping[str, Any],
    name: str,
    strict: bool = True,
) -> Module:
    """Build the module of a checkpoint; no random state is used.

    It is built without memory for its weights first, so that settings which do not belong to the
    weights in the file are refused whatever their size.

    Args:
        kind: Class of the module.
        checkpoint: What `read_checkpoint` gives, for that class.
        changes: Hyper-parameters to change.
        name: Name of the checkpoint, for messages.
        strict: Whether names and shapes of all weights must be those of the settings.

    Raises:
        UserError: If the settings are invalid, or the weights do not fit them or are not finite.
    """
    settings = {**checkpoint["hyper_parameters"], **changes}
    state = checkpoint["state_dict"]
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                outline = kind(**settings)
            if strict:
                expected = _without_augmentation(outline.state_dict())
                check_weights(_without_augmentation(state), expected)
            check_finite(state)
        # settings that nobody wrote fail in as many ways as there are arguments
        except Exception as error:
            reason = str(error) or type(error).__name__
            reason = reason if isinstance(error, UserError) else reason.splitlines()[0]
            raise UserError(f"{name} does not fit a {kind.__name__}: {reason}") from error
        module = kind(**settings)
    module.on_load_checkpoint(checkpoint)
    module.load_state_dict(checkpoint["state_dict"], strict=strict)
    return module


def _without_augmentation(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without the state that starts over under other options."""
    return {name: value for name, value in state.items() if not name.startswith(AUGMENTATION)}
