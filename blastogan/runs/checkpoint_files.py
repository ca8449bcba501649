"""Reading and checking of checkpoints without running what they contain."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from blastogan.errors import UserError
from blastogan.runs.checkpoint_content import check_content
from blastogan.runs.folder import checkpoints_in
from blastogan.utils.files import check_archive

NETWORK_SETTINGS = (
    "resolution",
    "start_resolution",
    "img_channels",
    "conditional",
    "factorised",
    "latent_dim",
    "channel_base",
    "channel_cap",
    "w_dim",
    "mapping_layers",
)
"""Hyper-parameters that determine the shapes of the weights."""


class Checkpoint(NamedTuple):
    """A checkpoint's file and content."""

    path: Path
    content: dict[str, Any]

    @property
    def images_shown(self) -> int:
        """Images shown to the networks when it was saved."""
        return int(self.content["blastogan"]["images_shown"])

    def __str__(self) -> str:
        return f"{self.path}, at {self.images_shown / 1000:g} kimg"


def check_place(path: Path) -> None:
    """Raise `UserError` if a path is missing or a folder."""
    inside = path / "checkpoints" / "last.ckpt"
    if inside.is_file():
        raise UserError(f"{path} is a run folder: give one of its checkpoints, such as {inside}")
    if not path.is_file():
        raise UserError(f"no checkpoint at {path}: give the path of a .ckpt file")


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint on the CPU, tensors and plain values only.

    Raises:
        UserError: If the file is missing, damaged, or not a checkpoint of this library.
    """
    path = Path(path)
    check_place(path)
    try:
        if zipfile.is_zipfile(path):
            check_archive(path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (PermissionError, MemoryError) as error:
        raise UserError(f"cannot read the checkpoint {path}: {error}") from error
    # on a damaged file the decoder raises nearly anything, IndexError and struct.error included
    except Exception as error:
        raise UserError(
            f"cannot read the checkpoint {path}: it is damaged, not a checkpoint, or contains more "
            "than tensors and plain values, which is not loaded for safety. Use an earlier one."
        ) from error
    return checked_content(checkpoint, str(path))


def checked_content(content: Any, name: str) -> dict[str, Any]:
    """What was read from a file, if it is a sound checkpoint; see `check_content`.

    Args:
        content: What the file holds.
        name: The file, for messages.

    Raises:
        UserError: If it is not a checkpoint of this library, or is damaged.
    """
    if not isinstance(content, dict) or "blastogan" not in content:
        raise UserError(f"{name} is not a checkpoint of blastogan")
    try:
        check_content(content)
    except UserError as error:
        raise UserError(
            f"{name} is damaged, or was not written by blastogan: {error}. Use an earlier one."
        ) from error
    return content


def latest_valid_checkpoint(paths: Iterable[Path]) -> tuple[Checkpoint | None, dict[Path, str]]:
    """The readable checkpoint with the most images shown, if any, and the others' errors.

    Args:
        paths: See `blastogan.runs.folder.checkpoints_in`; after a valid ``last.ckpt``, the latest
            by definition, the rest is not read.
    """
    newest: Checkpoint | None = None
    damaged: dict[Path, str] = {}
    for path in paths:
        try:
            found = Checkpoint(path, read_checkpoint(path))
        except UserError as error:
            damaged[path] = str(error)
            continue
        newest = max(newest or found, found, key=lambda each: each.images_shown)
        if path.name == "last.ckpt":
            break
    return newest, damaged


def read_to_resume(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint to resume from.

    Raises:
        UserError: If it cannot be read; names the latest valid one in its folder, if any.
    """
    try:
        return read_checkpoint(path)
    except UserError as error:
        others = [each for each in checkpoints_in(Path(path).parent) if each != Path(path)]
        newest, _ = latest_valid_checkpoint(others if Path(path).exists() else [])
        if newest is None:
            raise
        raise UserError(f"{error} The latest valid checkpoint is {newest}.") from error


def check_checkpoint(
    checkpoint: Mapping[str, Any], architecture: str, settings: Mapping[str, Any]
) -> None:
    """Check that a checkpoint fits a module, of class `architecture`.

    Raises:
        UserError: If it has another class, or if any of the `settings` that are given differ.
    """
    found = checkpoint.get("blastogan", {}).get("architecture")
    if found != architecture:
        raise UserError(
            f"the checkpoint holds a {found or 'model of another library'}, not a {architecture}: "
            "choose the configuration it was trained with, or another checkpoint"
        )
    # missing in checkpoints of earlier versions
    saved = {"factorised": True, **checkpoint.get("hyper_parameters", {})}
    different = [
        f"{name} is {saved[name]} in the checkpoint and {settings[name]} in the configuration"
        for name in NETWORK_SETTINGS
        if name in saved and name in settings and saved[name] != settings[name]
    ]
    # a ramp may have another span, but comes with a head of the discriminator
    old, new = saved.get("ramp_kimg"), settings.get("ramp_kimg")
    if "ramp_kimg" in settings and (old is None) != (new is None):
        different.append(f"ramp_kimg is {old} in the checkpoint and {new} in the configuration")
    if different:
        raise UserError("the checkpoint does not fit the configuration: " + "; ".join(different))
