"""Building a module from a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, TypeVar

from pytorch_lightning import LightningModule

from blastogan.generators.building import build_checked
from blastogan.modules.step.resuming import AUGMENTATION

Module = TypeVar("Module", bound=LightningModule)


def build_saved(
    kind: type[Module],
    checkpoint: dict[str, Any],
    changes: Mapping[str, Any],
    name: str,
    strict: bool = True,
) -> Module:
    """Build the module of a checkpoint, see `build_checked`; no random state is used.

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
    module = build_checked(
        partial(kind, **settings),
        checkpoint["state_dict"],
        f"{name} does not fit a {kind.__name__}",
        strict=strict,
        # starts over under other options
        ignored=AUGMENTATION,
    )
    module.on_load_checkpoint(checkpoint)
    module.load_state_dict(checkpoint["state_dict"], strict=strict)
    return module
