"""StyleGAN as a Lightning module."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from blastogan.generators.settings import discriminator_options, generator_options
from blastogan.modules.base import BaseGANModule
from blastogan.modules.step.draws import SampleDraws
from blastogan.modules.step.ranks import mean_over_ranks
from blastogan.networks import StyleGANDiscriminator, StyleGANGenerator
from blastogan.networks.stylegan import mix_styles


class StyleGANModule(BaseGANModule):
    """StyleGAN (Karras et al. 2019).

    Defaults are the paper's, with the loss of its configuration for FFHQ (appendix C): logistic
    with R1, here lazy and weighted by resolution and batch size.

    Args:
        resolution: Final resolution in pixels.
        start_resolution: Lowest resolution of images in pixels.
        w_dim: Size of the intermediate latent w.
        mapping_layers: Layers of the mapping network.
        mapping_lr_multiplier: Learning rate of the mapping network relative to the other layers.
        style_mixing_prob: Fraction of training images generated from two latents (section 3.1).
        **training: The other options of `BaseGANModule`.
    """

    generator: StyleGANGenerator
    generator_ema: StyleGANGenerator

    def __init__(
        self,
        resolution: int = 256,
        start_resolution: int = 8,
        w_dim: int = 512,
        mapping_layers: int = 8,
        mapping_lr_multiplier: float = 0.01,
        style_mixing_prob: float = 0.9,
        **training: Any,
    ) -> None:
        super().__init__(resolution, start_resolution, **training)
        self.style_mixing_prob = style_mixing_prob
        self._mean_w: list[Tensor] = []

    def configure_networks(self) -> tuple[StyleGANGenerator, StyleGANDiscriminator]:
        """Build the generator, then the discriminator."""
        own = generator_options(self.hparams, StyleGANGenerator)
        return (
            StyleGANGenerator(**own),
            StyleGANDiscriminator(**discriminator_options(self.hparams)),
        )

    def generate_fakes(self, labels: Tensor | None, draws: SampleDraws) -> Tensor:
        """Fakes with style mixing, one per draw, ``(B, C, R, R)``."""
        generator = self.generator
        layers = generator.synthesis.num_layers(self.resolution)
        z = draws.randn(2, self.latent_dim)
        u = draws.rand(2)
        crossover = (1 + u[:, 0] * (layers - 1)).long()  # uniform on 1 to layers - 1
        unmixed = u[:, 1] >= self.style_mixing_prob
        given = None if labels is None else labels.repeat(2, 1)
        both = torch.cat([z[:, 0], z[:, 1]])
        w, other = generator.mapping(both, given, self.condition_weight).chunk(2)
        self._mean_w.append(w.detach().float().mean(dim=0))
        ws = mix_styles(w, other, crossover.masked_fill(unmixed, layers), layers)
        shapes = generator.synthesis.noise_shapes(self.resolution)
        noise = [draws.randn(1, *shape) for shape in shapes]
        return self.call_network(generator.synthesis, ws, noise=noise)

    def end_of_fakes(self) -> None:
        """Move the running mean of w towards the mean over all passes and ranks."""
        mean = torch.stack(self._mean_w).mean(dim=0)
        self._mean_w.clear()
        mean_over_ranks([mean])
        self.generator.update_w_avg(mean[None])
