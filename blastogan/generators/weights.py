"""Export of the weights of a checkpoint as safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from blastogan.errors import UserError
from blastogan.generators.building import build_checked
from blastogan.generators.files import write_weights
from blastogan.generators.generator import DISCRIMINATOR, Generator
from blastogan.generators.settings import NETWORKS, discriminator_options
from blastogan.runs.checkpoint_content import GRADER


def write_trained(
    content: Mapping[str, Any], folder: Path, name: str, with_discriminator: bool = False
) -> Path:
    """Write the generator, or the grader, of a checkpoint with its card.

    Args:
        content: See `blastogan.generators.generator.read_with_card`.
        folder: The folder.
        name: Name of the checkpoint, for messages.
        with_discriminator: Whether the discriminator is written too.

    Returns:
        The file of the weights.

    Raises:
        UserError: If it holds no GAN of this library and no grader, or has no discriminator.
        OSError: If a file cannot be written.
    """
    if content["blastogan"]["architecture"] == GRADER:
        if with_discriminator:
            raise UserError(f"{name} holds a grader, which has no discriminator")
        path = folder / "grader.safetensors"
        card = {"resolution": None, "alpha": None, **content["card"]}
        settings = dict(content["hyper_parameters"])
        write_weights(path, content["state_dict"], {**card, "settings": settings})
        return path
    generator = Generator.from_content(content, name)
    others = _discriminator(generator, content, name) if with_discriminator else {}
    return generator.save(folder, others=others)


def _discriminator(
    generator: Generator, content: Mapping[str, Any], name: str
) -> dict[str, Tensor]:
    """Weights of the discriminator under their names in a checkpoint."""
    found = {
        key.removeprefix(DISCRIMINATOR): value
        for key, value in content["state_dict"].items()
        if key.startswith(DISCRIMINATOR)
    }
    if not found:
        raise UserError(f"{name} holds no discriminator: leave out --with-discriminator")
    kind = NETWORKS[generator.architecture].discriminator
    build_checked(
        lambda: kind(**discriminator_options(generator.settings)),
        found,
        f"the discriminator of {name} does not fit its settings",
    )
    return {DISCRIMINATOR + key: value for key, value in found.items()}
