"""A trained generator as a plain module, without Lightning and without its run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from blastogan.errors import UserError
from blastogan.generators.building import build_checked
from blastogan.generators.card import UNSTATED, build_card
from blastogan.generators.files import find_trained, read_trained, write_weights
from blastogan.generators.sampling import Sampler
from blastogan.generators.settings import NETWORKS, generator_options, network_settings
from blastogan.grades import LABEL_SIZES

FILE = "generator.safetensors"
"""Name of the file in an exported folder."""

DISCRIMINATOR = "discriminator."
"""Prefix of weights that an export may hold besides those of the generator."""


Self = TypeVar("Self", bound="Generator")


class Generator(Sampler, nn.Module):
    """The averaged generator of a trained GAN.

    `generate` gives the same images as that of the module in training, for the same seed. See
    `load_generator` for how to get one.

    Args:
        architecture: Class name of the module in training, such as ``StyleGANModule``.
        settings: Hyper-parameters of that module; others than those of the generator are ignored.
        resolution: Resolution of images in pixels.
        alpha: Weight of that resolution, 0 to 1.
        images_shown: Images shown in training, from which the weight of the grade follows.
        card: What is known of the training, as plain values; see `blastogan.generators.card`.

    Raises:
        UserError: If a setting is missing, unknown or out of range.
    """

    def __init__(
        self,
        architecture: str,
        settings: Mapping[str, Any],
        *,
        resolution: int | None = None,
        alpha: float = 1.0,
        images_shown: int = 0,
        card: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.settings = network_settings(architecture, settings)
        self.card = dict(card or {})
        kind = NETWORKS[architecture].generator
        self.generator_ema = kind(**generator_options(self.settings, kind))
        if self.settings["channels_last"]:
            self.generator_ema.use_channels_last()
        self.register_buffer("grade_counts", torch.zeros(LABEL_SIZES, dtype=torch.int64))
        self.resolution = self.generator_ema.check_growth(resolution, alpha)
        self.alpha = float(alpha)
        self.images_shown = images_shown
        self.ramp_kimg = self.settings["ramp_kimg"]
        self.requires_grad_(False).eval()

    @classmethod
    def from_content(cls: type[Self], content: Mapping[str, Any], name: str) -> Self:
        """Build the generator of a checkpoint or an export; no random state is used.

        Args:
            content: See `blastogan.generators.files.read_trained`.
            name: Its file, for messages.

        Raises:
            UserError: If it is of no GAN, or its weights do not fit its settings.
        """
        progress = content["blastogan"]
        state = {
            key: value
            for key, value in content["state_dict"].items()
            if key == "grade_counts" or key.startswith("generator_ema.")
        }

        def build() -> Self:
            return cls(
                progress["architecture"],
                content["hyper_parameters"],
                resolution=progress.get("resolution"),
                alpha=progress.get("alpha", 1.0),
                images_shown=progress["images_shown"],
                card=content.get("card"),
            )

        generator = build_checked(build, state, f"{name} holds no generator that can be loaded")
        if bool((state["grade_counts"] < 0).any()):
            raise UserError(f"{name} is damaged: its grade_counts are negative")
        generator.load_state_dict(state)
        return generator

    def forward(
        self, z: Tensor, labels: Tensor | None = None, noise: Sequence[Tensor] | None = None
    ) -> Tensor:
        """Images at the resolution and alpha of the generator, without random draws.

        Args:
            z: Latents ``(B, latent_dim)``, standard normal.
            labels: int64 ``(B, 2)``, indices of the ICM and the TE letter, 0 (A) to 3 (D);
                ``None`` for a generator that was trained without grades.
            noise: One ``(B, 1, H, W)`` for each of `noise_shapes`; ``None`` switches noise off.

        Returns:
            Float ``(B, C, resolution, resolution)``, black at -1 and white at 1, not clipped.
        """
        if noise is None:
            noise = [z.new_zeros(1, 1, *shape) for shape in self.noise_shapes]
        return self.generator_ema.render(
            z,
            labels,
            noise,
            resolution=self.resolution,
            alpha=self.alpha,
            condition=self.condition_weight,
        )

    @property
    def noise_shapes(self) -> list[tuple[int, int]]:
        """Height and width of the noise of each layer; empty for a ProGAN."""
        return self.generator_ema.noise_shapes(self.resolution)

    def save(
        self, folder: str | Path, *, others: Mapping[str, Tensor] | None = None, **card: Any
    ) -> Path:
        """Write weights and card into a folder, and return the path of the weights.

        Args:
            folder: The folder; made if it is missing.
            others: More weights to write, such as those of a discriminator, by name.
            **card: Entries of the card to change, such as ``licence``.

        Raises:
            OSError: If they cannot be written.
        """
        path = Path(folder) / FILE
        write_weights(path, {**self.state_dict(), **(others or {})}, {**self.full_card, **card})
        return path

    @property
    def full_card(self) -> dict[str, Any]:
        """The card, with what is known of every generator."""
        own = ("architecture", "settings", "resolution", "alpha", "images_shown")
        return {**UNSTATED, **self.card, **{name: getattr(self, name) for name in own}}


def load_generator(source: str | Path) -> Generator:
    """Load the generator of a checkpoint, an export, or one that ships in the package.

    Args:
        source: Path of a checkpoint, of a file or folder of ``blastogan export``, or a name of
            `blastogan.pretrained`.

    Returns:
        The generator on the CPU; move it by ``.to(device)``.

    Raises:
        UserError: If there is nothing, or it is damaged or holds no generator.
    """
    path = find_trained(source)
    return Generator.from_content(read_with_card(path), str(path))


def read_with_card(path: Path) -> dict[str, Any]:
    """`read_trained`, with a card; that of a checkpoint is built from it and its run folder."""
    content = read_trained(path)
    return content if "card" in content else {**content, "card": build_card(content, path)}
