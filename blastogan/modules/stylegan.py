"""StyleGAN as a Lightning module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from blastogan.grades import LABEL_SIZES
from blastogan.losses import LossName
from blastogan.metrics import to_uint8
from blastogan.modules.base import BaseGANModule
from blastogan.modules.scoring import Augment
from blastogan.modules.step.compiling import CompileMode
from blastogan.modules.step.draws import SampleDraws
from blastogan.modules.step.latents import numbered_latents
from blastogan.modules.step.ranks import mean_over_ranks
from blastogan.modules.step.settings import FakeLabels, Regularizer
from blastogan.networks import StyleGANDiscriminator, StyleGANGenerator
from blastogan.networks.stylegan import mix_styles


class StyleGANModule(BaseGANModule):
    """StyleGAN (Karras et al. 2019).

    Defaults are the paper's, with the loss of its configuration for FFHQ (appendix C): logistic
    with R1, here lazy and with a weight by resolution and batch.

    Args:
        resolution: Final resolution in pixels.
        start_resolution: Lowest resolution of images in pixels.
        img_channels: 1 (grey) or 3 (RGB).
        conditional: Whether the networks get the grade.
        factorised: Whether ICM and TE letter have an embedding each, which are added; else each
            pair of letters has.
        latent_dim: Size of the latent z.
        w_dim: Size of the intermediate latent w.
        mapping_layers: Layers of the mapping network.
        mapping_lr_multiplier: Its learning rate relative to the rest.
        style_mixing_prob: Share of images in training with two latents (section 3.1).
        channel_base: Channels are ``channel_base / 2^(log2(resolution) - 1)``,
        channel_cap: but no more than this.
        stddev_group: Images to a group of the minibatch standard deviation.
        loss: ``wgan``, ``logistic`` or ``hinge``.
        regularizer: ``r1``, ``gradient_penalty`` or ``none``.
        r1_gamma: Weight of R1; ``None`` follows a rule by resolution and batch.
        r1_interval: Steps from one R1 to the next; it is weighted up by as much.
        gradient_penalty_weight: Weight of the gradient penalty.
        drift_weight: Weight of the drift penalty; ``None`` is 0.001 with ``wgan``, else 0.
        ema_kimg: Half-life of the generator's moving average in thousands of images.
        ema_rampup: The half-life is at most this share of the images shown.
        generator_optimizer: Class path and arguments; ``None`` is the paper's Adam.
        discriminator_optimizer: Class path and arguments; ``None`` is the paper's Adam.
        reuse_fakes: Whether both networks learn from the same fakes, which saves a pass of the
            generator; in the demo it cost some of the variety of samples.
        channels_last: Whether networks that gain by it take the channels-last memory format.
        compile_mode: Mode of `torch.compile`: ``default``, ``reduce-overhead`` (CUDA graphs),
            ``max-autotune``, or ``off``.
        micro_batch: Most images of a pass on one device; a larger share of a batch goes through in
            several, whose gradients accumulate.
        generator_clip: Largest norm of the generator's gradient; ``None`` for no limit.
        discriminator_clip: Largest norm of the discriminator's gradient.
        augment: Augmentation of all that D sees: ``none``, ``grade-preserving``, ``bgc``,
            ``diffaugment``, or the amplitudes of operations (`blastogan.augment.OPERATIONS`), such
            as ``{flip: 1, turn: 1, brightness: 0.1}``.
        augment_p: Probability of each operation; ``None`` adapts it, such that D does not overfit
            (Karras et al. 2020, "Training generative adversarial networks with limited data").
        augment_target: Share by which more reals than not should be taken for reals, which the
            probability follows.
        augment_kimg: Thousands of images over which the probability can rise from 0 to 1.
        augment_max: Highest adaptive probability; above 0.8 samples may show the augmentation.
        ramp_kimg: Thousands of images at which the grade begins to count, and from which on it
            counts in full, such as ``[10, 30]``; D then also scores images without their grade
            (Shahbazi et al. 2022). ``None`` for all of the run, without that.
        fake_labels: Law of the grades of fakes in training: that of the reals shown (``data``), or
            all that were seen alike (``balanced``; not under a ramp).
    """

    def __init__(
        self,
        resolution: int = 256,
        start_resolution: int = 8,
        img_channels: int = 1,
        conditional: bool = True,
        factorised: bool = True,
        latent_dim: int = 512,
        w_dim: int = 512,
        mapping_layers: int = 8,
        mapping_lr_multiplier: float = 0.01,
        style_mixing_prob: float = 0.9,
        channel_base: int = 8192,
        channel_cap: int = 512,
        stddev_group: int = 4,
        loss: LossName = "logistic",
        regularizer: Regularizer = "r1",
        r1_gamma: float | None = None,
        r1_interval: int = 16,
        gradient_penalty_weight: float = 10.0,
        drift_weight: float | None = None,
        ema_kimg: float = 10.0,
        ema_rampup: float = 0.05,
        generator_optimizer: dict[str, Any] | None = None,
        discriminator_optimizer: dict[str, Any] | None = None,
        reuse_fakes: bool = False,
        channels_last: bool = True,
        compile_mode: CompileMode = "off",
        micro_batch: int | None = None,
        generator_clip: float | None = None,
        discriminator_clip: float | None = None,
        augment: Augment = "none",
        augment_p: float | None = None,
        augment_target: float = 0.6,
        augment_kimg: float = 500.0,
        augment_max: float = 0.8,
        ramp_kimg: list[float] | None = None,
        fake_labels: FakeLabels = "data",
    ) -> None:
        networks: dict[str, Any] = {
            "start_resolution": start_resolution,
            "img_channels": img_channels,
            "label_sizes": LABEL_SIZES if conditional else (),
            "factorised": factorised,
            "channel_base": channel_base,
            "channel_cap": channel_cap,
        }
        super().__init__(
            StyleGANGenerator(
                resolution,
                latent_dim=latent_dim,
                w_dim=w_dim,
                mapping_layers=mapping_layers,
                mapping_lr_multiplier=mapping_lr_multiplier,
                **networks,
            ),
            StyleGANDiscriminator(
                resolution,
                stddev_group=stddev_group,
                unconditional_head=conditional and ramp_kimg is not None,
                **networks,
            ),
            loss=loss,
            regularizer=regularizer,
            r1_gamma=r1_gamma,
            r1_interval=r1_interval,
            gradient_penalty_weight=gradient_penalty_weight,
            drift_weight=drift_weight,
            ema_kimg=ema_kimg,
            ema_rampup=ema_rampup,
            generator_optimizer=generator_optimizer,
            discriminator_optimizer=discriminator_optimizer,
            reuse_fakes=reuse_fakes,
            channels_last=channels_last,
            compile_mode=compile_mode,
            micro_batch=micro_batch,
            generator_clip=generator_clip,
            discriminator_clip=discriminator_clip,
            augment=augment,
            augment_p=augment_p,
            augment_target=augment_target,
            augment_kimg=augment_kimg,
            augment_max=augment_max,
            ramp_kimg=ramp_kimg,
            fake_labels=fake_labels,
        )
        self.style_mixing_prob = style_mixing_prob
        self._mean_w: list[Tensor] = []
        self.save_hyperparameters()

    def generate_fakes(self, labels: Tensor | None, draws: SampleDraws) -> Tensor:
        """Fakes with style mixing, one for each draw, ``(B, C, R, R)``."""
        generator = self.generator
        assert isinstance(generator, StyleGANGenerator)
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
        return self.run(generator.synthesis, ws, noise=noise)

    def end_of_fakes(self) -> None:
        """Move the running mean of w towards the mean over all passes and ranks."""
        generator = self.generator
        assert isinstance(generator, StyleGANGenerator)
        mean = torch.stack(self._mean_w).mean(dim=0)
        self._mean_w.clear()
        mean_over_ranks([mean])
        generator.update_w_avg(mean[None])

    @torch.no_grad()
    def sample(
        self, indices: Sequence[int], labels: Tensor, *, seed: int, truncation_psi: float = 1.0
    ) -> Tensor:
        """See `BaseGANModule.sample`; noise too belongs to the number of the sample."""
        average = self.generator_ema
        assert isinstance(average, StyleGANGenerator)
        z, generators = numbered_latents(indices, seed, self.latent_dim)
        noise = [
            torch.stack([torch.randn(1, *shape, generator=g) for g in generators]).to(self.device)
            for shape in average.synthesis.noise_shapes(self.resolution)
        ]
        given = labels.to(self.device) if self.conditional else None
        ws = average.mapping(z.to(self.device), given, self.condition_weight)[:, None]
        ws = ws.expand(-1, average.synthesis.num_layers(self.resolution), -1)
        if truncation_psi != 1.0:
            center = None if given is None else self._mean_styles(given)
            ws = average.truncate(ws, truncation_psi, center=center)
        return to_uint8(
            average.synthesis(ws, resolution=self.resolution, alpha=self.alpha, noise=noise)
        )

    def _mean_styles(self, labels: Tensor, count: int = 1000) -> Tensor:
        """Mean w of each label ``(B, w_dim)``: the mean over all would draw grades together."""
        average = self.generator_ema
        assert isinstance(average, StyleGANGenerator)
        z = torch.randn(count, self.latent_dim, generator=torch.Generator().manual_seed(0))
        found, position = torch.unique(labels, dim=0, return_inverse=True)
        z = z.to(labels.device)
        means = [
            average.mapping(z, label.expand(count, -1), self.condition_weight) for label in found
        ]
        return torch.stack([w.mean(dim=0) for w in means])[position]
