"""What a checkpoint holds that another run may begin with."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from blastogan.errors import UserError
from blastogan.grades import LABEL_SIZES
from blastogan.networks.progressive import BASE_RESOLUTION
from blastogan.runs.checkpoint_files import read_checkpoint

SIDES = {"generator": "generator_ema", "discriminator": "discriminator"}
"""Networks of a run, by what they are taken from.

The generator in training begins as the average, the better of the two, and so does the average.
Other libraries begin each with itself. Here the average of a young run follows its generator at
once (`ema_rampup`): it would be gone after a step.
"""


class Old(NamedTuple):
    """A network of a checkpoint.

    Attributes:
        state: Its weights by name.
        trained: Highest resolution in pixels that was trained.
        law: Shares of ICM and TE letter in its data, ``(4, 4)``.
        condition: How much the label counted when it was saved, 0 to 1.
        mapping_rate: Learning-rate multiplier of its mapping.
        reason: Why nothing of it fits; empty if it may.
        note: What is to be said of blocks that fit; empty for nothing.
    """

    state: Mapping[str, Tensor]
    trained: int
    law: Tensor
    condition: float
    mapping_rate: float
    reason: str
    note: str

    def layer(self, name: str) -> dict[str, Tensor]:
        """Weights of a layer by their whole name; empty if there is none."""
        return {key: value for key, value in self.state.items() if layer_of(key) == name}

    @property
    def conditional(self) -> bool:
        """Whether it got grades."""
        return any("embedding" in name.split(".") for name in self.state)

    def resolutions(self, kind: str) -> list[int]:
        """Resolutions of its ``blocks``, or of ``to_rgb`` or ``from_rgb``; ascending."""
        found = {resolution_of(name) for name in self.state if kind in name.split(".")}
        return sorted(resolution for resolution in found if resolution is not None)

    def grades(self, prefix: str) -> Tensor | None:
        """Embedding of each ICM and TE letter, ``(16, dim)``; ``None`` without labels."""
        tables = [self.state.get(f"{prefix}embedding.parts.{n}.weight") for n in range(2)]
        first, second = tables
        if first is None or first.dim() != 2:
            return None
        if second is None:
            return first.float() if len(first) == self.law.numel() else None
        if first.shape != second.shape or len(first) != len(self.law):
            return None
        pairs = first.float()[:, None] + second.float()[None]
        return pairs.flatten(0, 1) / math.sqrt(2.0)


class Origin(NamedTuple):
    """A GAN in a checkpoint.

    Attributes:
        architecture: Class name of its module.
        trained: Highest resolution in pixels that was trained.
        alpha: How far that had faded in, above 0 and up to 1.
        images_shown: In its training.
        state: Weights by their whole name.
        settings: Hyper-parameters of its module.
    """

    architecture: str
    trained: int
    alpha: float
    images_shown: int
    state: Mapping[str, Tensor]
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, checkpoint: Mapping[str, Any]) -> Origin:
        """What was read from a file.

        Raises:
            UserError: If it is of no GAN, or of one that was never trained.
        """
        known, state = checkpoint.get("blastogan"), checkpoint.get("state_dict")
        if not isinstance(known, Mapping) or not isinstance(state, Mapping):
            raise UserError("this is no checkpoint of blastogan")
        name = str(known.get("architecture"))
        if name == "GradeClassifier":
            raise UserError(
                "this is the checkpoint of a grader, which generates nothing: give that of a GAN, "
                "such as RUN/checkpoints/last.ckpt of `blastogan fit`"
            )
        weights = {
            key: value
            for key, value in state.items()
            if isinstance(key, str) and isinstance(value, Tensor)
        }
        missing = [
            side
            for side in SIDES.values()
            if not any(key.startswith(f"{side}.") for key in weights)
        ]
        if missing:
            raise UserError(f"this checkpoint of a {name} holds no {' and no '.join(missing)}")
        try:
            shown = int(known["images_shown"])
            resolution, alpha = int(known["resolution"]), float(known["alpha"])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError("this checkpoint does not tell how far its training came") from error
        if shown <= 0:
            raise UserError("the GAN of this checkpoint was never trained: give a later one")
        if alpha <= 0.0 and resolution > BASE_RESOLUTION:
            # at alpha 0 nothing of the new block has been seen
            resolution, alpha = resolution // 2, 1.0
        settings = checkpoint.get("hyper_parameters")
        settings = settings if isinstance(settings, Mapping) else {}
        return cls(name, resolution, alpha, shown, weights, settings)

    def network(self, side: str, *, foreign: bool) -> Old:
        """One of the networks.

        Args:
            side: ``generator`` or ``discriminator``.
            foreign: Whether it is to go into a module of another architecture: discriminators
                differ by a filter, generators in all.
        """
        prefix = f"{SIDES[side]}."
        rate = self.settings.get("mapping_lr_multiplier", 0.01)
        return Old(
            {
                name[len(prefix) :]: value
                for name, value in self.state.items()
                if name.startswith(prefix) and value.is_floating_point()
            },
            trained=self.trained,
            law=_law(self.state.get("grade_counts")),
            condition=_condition(self.settings.get("ramp_kimg"), self.images_shown),
            mapping_rate=float(rate) if isinstance(rate, (int, float)) and rate > 0 else 0.01,
            reason=f"of a {self.architecture}" if foreign and side == "generator" else "",
            note=f"of a {self.architecture}: other filter" if foreign else "",
        )


def read_origin(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint to begin with.

    Raises:
        UserError: If it cannot be read, is of no GAN, or of one that was never trained.
    """
    checkpoint = read_checkpoint(path)
    try:
        Origin.of(checkpoint)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return checkpoint


def layer_of(name: str) -> str:
    """Name of the layer that a weight belongs to; empty for those of the network itself."""
    return name.rpartition(".")[0]


def resolution_of(layer: str) -> int | None:
    """Resolution in pixels of a block, or of a layer to or from images; ``None`` for others."""
    found = re.search(r"(?:^|\.)(?:blocks|to_rgb|from_rgb)\.([1-9][0-9]{0,3})(?:\.|$)", layer)
    return int(found[1]) if found else None


def _law(counts: Any) -> Tensor:
    """Shares of the letters in the data of a checkpoint; equal ones if it does not tell."""
    if isinstance(counts, Tensor) and counts.shape == LABEL_SIZES and counts.sum() > 0:
        return counts.float() / counts.sum()
    return torch.full(LABEL_SIZES, 1.0 / math.prod(LABEL_SIZES))


def _condition(ramp_kimg: Any, images_shown: int) -> float:
    """How much the grade counted after the images shown, 0 to 1."""
    if not isinstance(ramp_kimg, (list, tuple)) or len(ramp_kimg) != 2:
        return 1.0
    begin, end = (1000 * float(kimg) for kimg in ramp_kimg)
    return min(max((images_shown - begin) / (end - begin), 0.0), 1.0) if begin < end else 1.0
