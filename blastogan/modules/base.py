"""The training step that ProGAN and StyleGAN share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.autograd.profiler import record_function
from torch.optim import Optimizer

from blastogan.allocator import keep_freed_memory
from blastogan.data.stream import ImageBatch
from blastogan.errors import UserError
from blastogan.grades import LETTERS
from blastogan.losses import LOSSES, LossName, drift, gradient_penalty, r1, r1_gamma_rule
from blastogan.metrics import to_float
from blastogan.modules.compiling import CompileMode, NetworkCompiler
from blastogan.modules.ema import ema_decay, update_ema
from blastogan.modules.freezing import frozen
from blastogan.modules.generating import GeneratingModule
from blastogan.modules.optimizers import apply_settings, build_optimizer
from blastogan.networks.layers import downsample, fade, upsample, without_autocast
from blastogan.networks.progressive import ProgressiveDiscriminator, ProgressiveNetwork

Regularizer = Literal["r1", "gradient_penalty", "none"]


class BaseGANModule(GeneratingModule):
    """Owns the step of a progressively grown GAN: D, lazy R1, G, EMA, images shown.

    Optimisation is manual. A step never waits for the device: nothing in it reads a value of a
    tensor.

    Subclasses hand over their networks and may override `generate_fakes` and `sample`.

    Args:
        generator: Network to train; it has a ``latent_dim``.
        discriminator: Its opponent, for the same resolutions and labels.
        loss: ``wgan``, ``logistic`` or ``hinge``.
        regularizer: ``r1``, ``gradient_penalty`` or ``none``.
        r1_gamma: Weight of R1; ``None`` follows `blastogan.losses.r1_gamma_rule`.
        r1_interval: R1 is taken every so many steps and weighted up by as much (lazy
            regularisation, Karras et al. 2020, StyleGAN2, section 3.1).
        gradient_penalty_weight: Weight of the gradient penalty, taken every step.
        drift_weight: Weight of the drift penalty; ``None`` is 0.001 with ``wgan``, else 0.
        ema_kimg: Half-life of the generator's moving average in thousands of images.
        ema_rampup: The half-life is at most this share of the images shown; 0 for no ramp.
        generator_optimizer: ``{"class_path": ..., "init_args": {...}}`` of any optimiser of
            `torch.optim`; ``None`` is Adam with 0.001, betas 0.0 and 0.99, eps 1e-8.
        discriminator_optimizer: As `generator_optimizer`.
        reuse_fakes: Whether the generator learns from the fakes that the discriminator has just
            learnt from, which saves a pass; else both get their own, as in the papers.
        channels_last: Whether networks that gain by it hold their features channel by channel at
            each pixel: both of ProGAN, StyleGAN's discriminator.
        compile_mode: Whether, and in which mode, networks run through `torch.compile`; passes that
            are differentiated twice do not.
    """

    discriminator: ProgressiveDiscriminator

    def __init__(
        self,
        generator: ProgressiveNetwork,
        discriminator: ProgressiveDiscriminator,
        *,
        loss: LossName,
        regularizer: Regularizer,
        r1_gamma: float | None,
        r1_interval: int,
        gradient_penalty_weight: float,
        drift_weight: float | None,
        ema_kimg: float,
        ema_rampup: float,
        generator_optimizer: dict[str, Any] | None,
        discriminator_optimizer: dict[str, Any] | None,
        reuse_fakes: bool,
        channels_last: bool,
        compile_mode: CompileMode,
    ) -> None:
        super().__init__(generator)
        if loss not in LOSSES:
            raise UserError(f"loss is {loss!r}: expected one of {', '.join(LOSSES)}")
        if regularizer not in get_args(Regularizer):
            expected = ", ".join(get_args(Regularizer))
            raise UserError(f"regularizer is {regularizer!r}: expected one of {expected}")
        if r1_interval < 1:
            raise UserError(f"r1_interval is {r1_interval}: expected 1 or more")
        self.automatic_optimization = False
        self.discriminator = discriminator
        self.adversarial_loss = LOSSES[loss]
        self.regularizer = regularizer
        self.r1_gamma = r1_gamma
        self.r1_interval = r1_interval
        self.gradient_penalty_weight = gradient_penalty_weight
        if drift_weight is None:
            drift_weight = 0.001 if loss == "wgan" else 0.0
        self.drift_weight = drift_weight
        self.ema_kimg = ema_kimg
        self.ema_rampup = ema_rampup
        self.optimizer_settings = (generator_optimizer, discriminator_optimizer)

        self.reuse_fakes = reuse_fakes
        self._compiler = NetworkCompiler(compile_mode)
        if channels_last:
            for network in (self.generator, self.generator_ema, self.discriminator):
                network.use_channels_last()

    def configure_optimizers(self) -> tuple[Optimizer, Optimizer]:
        """Optimisers of the generator and of the discriminator, in this order."""
        for_generator, for_discriminator = self.optimizer_settings
        return (
            build_optimizer(for_generator, self.generator.parameters()),
            build_optimizer(for_discriminator, self.discriminator.parameters()),
        )

    def on_fit_start(self) -> None:
        """Keep freed memory for the next step, where that is left to the C library."""
        if self.device.type == "cpu":
            keep_freed_memory()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the state of growth; optimisers keep the settings of this module.

        Raises:
            UserError: If the checkpoint is of another architecture or other sizes.
        """
        super().on_load_checkpoint(checkpoint)
        apply_settings(self.optimizer_settings, checkpoint.get("optimizer_states", []))

    # -- the step ---------------------------------------------------------------------------------

    def training_step(self, batch: ImageBatch, batch_idx: int) -> dict[str, Tensor]:
        """One step of D and of G on a batch of reals.

        Returns:
            Detached scalars: ``loss_d``, ``loss_g``, ``logits_real``, ``logits_fake``, and the
            unweighted ``r1`` or ``gradient_penalty`` where it was taken.
        """
        reals, labels = self.prepare_reals(batch["image"]), batch["labels"]
        global_batch = len(reals) * self.trainer.world_size
        self._count_grades(labels)
        self._compiler.begin_step((self.resolution, self.alpha < 1.0, len(reals)))
        given = labels if self.conditional else None
        generator_optimizer, discriminator_optimizer = self._optimizers()

        with torch.set_grad_enabled(self.reuse_fakes):
            fakes = self._fakes(given, len(reals))
        discriminator_optimizer.zero_grad()
        terms, total = self._discriminator_loss(reals, fakes.detach(), given, global_batch)
        with record_function("discriminator: backward"):
            self.manual_backward(total)
        with record_function("discriminator: optimizer"):
            discriminator_optimizer.step()

        if not self.reuse_fakes:
            fakes = self._fakes(given, len(reals))
        generator_optimizer.zero_grad()
        with frozen(self.discriminator):
            with record_function("generator: score"):
                logits = self._score(fakes, given)
            terms["loss_g"] = self.adversarial_loss.generator(logits)
            with record_function("generator: backward"):
                self.manual_backward(terms["loss_g"])
        with record_function("generator: optimizer"):
            generator_optimizer.step()
        with record_function("generator: average"):
            decay = ema_decay(global_batch, self.images_shown, self.ema_kimg, self.ema_rampup)
            update_ema(self.generator_ema, self.generator, decay)
        self.images_shown += global_batch
        return {name: term.detach() for name, term in terms.items()}

    def prepare_reals(self, images: Tensor) -> Tensor:
        """Floats in [-1, 1] of uint8 images ``(B, C, R, R)``, cross-faded as D fades.

        During a fade, reals move from the detail of half the resolution to their own by the same
        resize as in the skip path of D, so that D cannot tell reals by their sharpness.
        """
        reals = to_float(images)
        if self.alpha < 1.0 and self.resolution > self.generator.start_resolution:
            reals = fade(upsample(downsample(reals)), reals, self.alpha)
        return reals

    def _fakes(self, labels: Tensor | None, count: int) -> Tensor:
        with record_function("generator: forward"):
            return self.generate_fakes(labels, count)

    def generate_fakes(self, labels: Tensor | None, count: int) -> Tensor:
        """Fakes of the generator in training, ``(count, C, R, R)``."""
        z = self.global_draw(torch.randn, count, self.latent_dim)
        return self.run(self.generator, z, labels)

    def run(self, network: ProgressiveNetwork, *args: Any) -> Tensor:
        """Call a network at the step's resolution and alpha, compiled if asked for."""
        return self._compiler(network, *args, resolution=self.resolution, alpha=self.alpha)

    def global_draw(self, draw: Callable[..., Tensor], count: int, *shape: int) -> Tensor:
        """This rank's ``(count, *shape)`` of a draw over the global batch.

        All ranks have the same random state: without slicing they would draw the same latents.
        """
        trainer = self._trainer
        rank, ranks = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        drawn = draw(count * ranks, *shape, device=self.device)
        return drawn[rank * count : (rank + 1) * count]

    def _discriminator_loss(
        self, reals: Tensor, fakes: Tensor, labels: Tensor | None, global_batch: int
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Terms to be logged, and the sum to be minimised."""
        take_r1 = self.regularizer == "r1" and self.takes_r1(global_batch)
        with record_function("discriminator: forward"):
            if take_r1:
                logits_fake = self._score(fakes, labels)
                # one forward serves the loss and the penalty
                logits_real = self._score_in_float32(reals.requires_grad_(), labels)
            else:
                logits_real, logits_fake = self._score_both(reals, fakes, labels)
        loss = self.adversarial_loss.discriminator(logits_real, logits_fake)
        terms = {"loss_d": loss, "logits_real": logits_real.mean()}
        terms["logits_fake"] = logits_fake.mean()
        total = loss + self.drift_weight * drift(logits_real)
        if take_r1:
            with record_function("discriminator: R1"):
                terms["r1"] = r1(logits_real, reals)
            weight = self.gamma_at(self.resolution, global_batch) * self.r1_interval
            total = total + weight * terms["r1"]
        elif self.regularizer == "gradient_penalty":
            with record_function("discriminator: gradient penalty"):
                terms["gradient_penalty"] = gradient_penalty(
                    lambda images: self._score_in_float32(images, labels),
                    reals,
                    fakes,
                )
            total = total + self.gradient_penalty_weight * terms["gradient_penalty"]
        return terms, total

    def takes_r1(self, batch_size: int) -> bool:
        """Whether the next step is R1's turn: a function of images shown and global batch."""
        return self.images_shown // batch_size % self.r1_interval == 0

    def gamma_at(self, resolution: int, batch_size: int) -> float:
        """Weight of R1 at a resolution in pixels and a global batch size."""
        if self.r1_gamma is not None:
            return self.r1_gamma
        return r1_gamma_rule(resolution, batch_size)

    def _score(self, images: Tensor, labels: Tensor | None) -> Tensor:
        return self.run(self.discriminator, images, labels)

    def _score_in_float32(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """Logits to be differentiated twice: in float32, and not compiled, which cannot be."""
        with without_autocast(self.device):
            logits: Tensor = self.discriminator(
                images, labels, resolution=self.resolution, alpha=self.alpha
            )
        return logits

    def _optimizers(self) -> list[Any]:
        optimizers = self.optimizers()
        assert isinstance(optimizers, list)
        return optimizers

    def _score_both(
        self, reals: Tensor, fakes: Tensor, labels: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Logits of reals and fakes in one pass, where no minibatch statistic would mix them."""
        if len(reals) % self.discriminator.stddev_group:
            return self._score(reals, labels), self._score(fakes, labels)
        both = None if labels is None else labels.repeat(2, 1)
        real, fake = self._score(torch.cat([reals, fakes]), both).chunk(2)
        return real, fake

    def _count_grades(self, labels: Tensor) -> None:
        flat = labels[:, 0] * len(LETTERS) + labels[:, 1]
        self.grade_counts.view(-1).index_add_(0, flat, torch.ones_like(flat))
