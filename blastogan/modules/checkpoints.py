"""Reading and checking checkpoints without running what they contain."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from blastogan.errors import UserError

NETWORK_SETTINGS = (
    "resolution",
    "start_resolution",
    "img_channels",
    "conditional",
    "latent_dim",
    "channel_base",
    "channel_cap",
    "w_dim",
    "mapping_layers",
)
"""Hyper-parameters on which the shapes of the weights depend."""


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint on the CPU, tensors and plain values only.

    Raises:
        UserError: If the file is missing, damaged, or no checkpoint of this library.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no checkpoint at {path}: give the path of a .ckpt file")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    # on a damaged file the decoder raises nearly anything, IndexError and struct.error included
    except Exception as error:
        raise UserError(
            f"cannot read the checkpoint {path}: it is damaged, no checkpoint, or contains more "
            "than tensors and plain values, which is not loaded for safety. Use an earlier one."
        ) from error
    if not isinstance(checkpoint, dict) or "blastogan" not in checkpoint:
        raise UserError(f"{path} is no checkpoint of blastogan")
    return checkpoint


def check_checkpoint(
    checkpoint: Mapping[str, Any], architecture: str, settings: Mapping[str, Any]
) -> None:
    """Refuse a checkpoint that does not fit a module.

    Args:
        checkpoint: As read from the file.
        architecture: Class name of the module.
        settings: Hyper-parameters of the module; those that are absent are not compared.

    Raises:
        UserError: That names both architectures, or all sizes that differ.
    """
    found = checkpoint.get("blastogan", {}).get("architecture")
    if found != architecture:
        raise UserError(
            f"the checkpoint holds a {found or 'model of another library'}, not a {architecture}: "
            "choose the configuration it was trained with, or another checkpoint"
        )
    saved = checkpoint.get("hyper_parameters", {})
    different = [
        f"{name} is {saved[name]} in the checkpoint and {settings[name]} in the configuration"
        for name in NETWORK_SETTINGS
        if name in saved and name in settings and saved[name] != settings[name]
    ]
    if different:
        raise UserError("the checkpoint does not fit the configuration: " + "; ".join(different))
