"""ProGAN as a Lightning module."""

from __future__ import annotations

from typing import Any

from blastogan.grades import LABEL_SIZES
from blastogan.losses import LossName
from blastogan.modules.base import BaseGANModule
from blastogan.modules.scoring import Augment
from blastogan.modules.step.compiling import CompileMode
from blastogan.modules.step.settings import FakeLabels, Regularizer
from blastogan.networks import ProGANDiscriminator, ProGANGenerator


class ProGANModule(BaseGANModule):
    """ProGAN (Karras et al. 2018).

    Defaults are the paper's, but for the loss: the logistic one with R1, as in StyleGAN, needs no
    critic steps and no penalty per step. ``loss="wgan", regularizer="gradient_penalty"`` is the
    paper's.

    Args:
        resolution: Final resolution in pixels.
        start_resolution: Lowest resolution of images in pixels.
        img_channels: 1 (grey) or 3 (RGB).
        conditional: Whether the networks get the grade.
        factorised: Whether ICM and TE letter have an embedding each, which are added; else each
            pair of letters has.
        latent_dim: Size of the latent z.
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
        start_resolution: int = 4,
        img_channels: int = 1,
        conditional: bool = True,
        factorised: bool = True,
        latent_dim: int = 512,
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
            ProGANGenerator(resolution, latent_dim=latent_dim, **networks),
            ProGANDiscriminator(
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
        self.save_hyperparameters()
