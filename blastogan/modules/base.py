"""The training step that ProGAN and StyleGAN share."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor
from torch.autograd.profiler import record_function
from torch.optim import Optimizer

from blastogan.augment import AugmentationSettings
from blastogan.data.stream import ImageBatch
from blastogan.errors import UserError
from blastogan.grades import LABEL_SIZES
from blastogan.losses import LOSSES, LossName, drift, gradient_penalty, r1, r1_gamma_rule, wgan
from blastogan.modules.scoring import Augment, ScoringModule
from blastogan.modules.step.compiling import CompileMode
from blastogan.modules.step.draws import SampleDraws
from blastogan.modules.step.ema import ema_decay, update_ema
from blastogan.modules.step.freezing import frozen
from blastogan.modules.step.heads import mean_logit, over_heads
from blastogan.modules.step.latents import balanced_labels
from blastogan.modules.step.optimizers import apply_gradients, apply_settings, build_optimizer
from blastogan.modules.step.passes import Pass, add_mean, split_share
from blastogan.modules.step.ranks import rank_and_size, sum_over_ranks
from blastogan.modules.step.settings import FakeLabels, Regularizer, check_settings
from blastogan.modules.step.strategy import wrapped_by_ddp
from blastogan.networks.conditioning import flat_labels
from blastogan.networks.progressive import ProgressiveDiscriminator, ProgressiveNetwork
from blastogan.utils.allocator import keep_freed_memory

_log = logging.getLogger(__name__)


class BaseGANModule(ScoringModule):
    """Owns the step of a progressively grown GAN: D, lazy R1, G, EMA, images shown.

    Optimisation is manual. A step never waits for the device: nothing in it reads a value of a
    tensor. All that is random in it follows from `draw_seed` and the images shown.

    Under a ramp, penalties are of the mean of D's two scores by their weights, whose gradient is
    what the generator follows; the authors' code (Shahbazi et al. 2022) takes R1 of the score
    without the grade alone.

    A step takes the global batch of the stage, on however many devices; each device sends it
    through the networks in one pass or several, and a network steps once by the mean gradient.
    The minibatch standard deviation is that of a pass.

    Subclasses hand over their networks and may override `generate_fakes`, `end_of_fakes` and
    `sample`.

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
        micro_batch: Most images of a pass on one device; a larger share of a batch goes through in
            several, and gradients accumulate. ``None`` for no limit.
        generator_clip: Largest norm of the generator's gradient, larger ones are scaled down to it;
            ``None`` for no limit.
        discriminator_clip: As `generator_clip`.
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
        micro_batch: int | None,
        generator_clip: float | None,
        discriminator_clip: float | None,
        augment: Augment,
        augment_p: float | None,
        augment_target: float,
        augment_kimg: float,
        augment_max: float,
        ramp_kimg: Sequence[float] | None,
        fake_labels: FakeLabels,
    ) -> None:
        augmentation = AugmentationSettings(
            augment, augment_p, augment_target, augment_kimg, augment_max
        )
        super().__init__(generator, discriminator, ramp_kimg, augmentation, compile_mode)
        check_settings(
            loss=loss,
            regularizer=regularizer,
            fake_labels=fake_labels,
            ramped=ramp_kimg is not None,
            conditional=self.conditional,
            r1_interval=r1_interval,
            r1_gamma=r1_gamma,
            micro_batch=micro_batch,
            clips={"generator": generator_clip, "discriminator": discriminator_clip},
        )
        self.automatic_optimization = False
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

        self.micro_batch = micro_batch
        self.clips = (generator_clip, discriminator_clip)
        self.fake_labels: FakeLabels = fake_labels
        self.reuse_fakes = reuse_fakes
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
        """Keep freed memory for the next step, where that is left to the C library.

        Raises:
            UserError: If gradients are to be clipped that are scaled.
        """
        if any(self.clips) and self._scales_gradients():
            raise UserError(
                "generator_clip and discriminator_clip need unscaled gradients: use the precision "
                "bf16-mixed or 32-true instead of 16-mixed"
            )
        augmentation = self.augmentation
        if augmentation and augmentation.settings.adaptive and self.adversarial_loss is wgan:
            _log.warning(
                "the probability of augmentation follows the signs of D's scores, which say little "
                "with the loss wgan, whose scores have no zero: set augment_p, or another loss"
            )
        if self.device.type == "cpu":
            keep_freed_memory()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the state of the step; optimisers keep the settings of this module.

        Raises:
            UserError: If the checkpoint is of another architecture or other sizes.
        """
        super().on_load_checkpoint(checkpoint)
        apply_settings(self.optimizer_settings, checkpoint.get("optimizer_states", []))

    # -- the step ---------------------------------------------------------------------------------

    def training_step(self, batch: ImageBatch, batch_idx: int) -> dict[str, Tensor]:
        """One step of D and of G on this device's part of a global batch.

        Returns:
            Detached scalars, means over the part: ``loss_d``, ``loss_g``, ``logits_real``,
            ``logits_fake``, the unweighted ``r1`` or ``gradient_penalty`` where it was taken;
            ``augment_p`` and ``augment_sign_real`` (r_t) where D sees augmented images; and
            ``grad_norm_d``, ``grad_norm_g``, norms of the global gradients before they are clipped,
            unless gradients are scaled (16-mixed).
        """
        self._count_grades(batch["labels"])
        passes = self._passes(batch)
        global_batch = len(batch["image"]) * rank_and_size()[1]
        growing = self.alpha < 1.0, 0.0 < self.condition_weight < 1.0
        self._compiler.begin_step((self.resolution, growing, len(passes[0].reals)))
        terms: dict[str, Tensor] = {}
        kept = self._step_discriminator(passes, global_batch, terms)
        self._step_generator(passes, kept, terms)
        with record_function("generator: average"):
            decay = ema_decay(global_batch, self.images_shown, self.ema_kimg, self.ema_rampup)
            update_ema(self.generator_ema, self.generator, decay)
        self.images_shown += global_batch
        return terms

    def _step_discriminator(
        self, passes: list[Pass], global_batch: int, terms: dict[str, Tensor]
    ) -> list[Tensor]:
        """Step D, and note its terms; gives the fakes if G is to learn from them too."""
        optimizer, kept = self._optimizers()[1], []
        optimizer.zero_grad()
        for part in passes:
            with torch.set_grad_enabled(self.reuse_fakes):
                fakes = self._fakes("discriminator", part)
            found, total = self._discriminator_loss(part, fakes.detach(), global_batch)
            with record_function("discriminator: backward"):
                self.manual_backward(total / len(passes))
            add_mean(terms, found, len(passes))
            if self.reuse_fakes:
                kept.append(fakes)
        self.end_of_fakes()
        if self.augmentation is not None:
            signs = sum_over_ranks(self.augmentation.take_noted())
            self.augmentation.observe(signs, self.images_shown // global_batch)
            terms["augment_p"] = self.augmentation.p.clone()
            terms["augment_sign_real"] = self.augmentation.sign_real.clone()
        with record_function("discriminator: optimizer"):
            terms |= self._update("d", self.discriminator, optimizer, self.clips[1])
        return kept

    def _step_generator(
        self, passes: list[Pass], kept: list[Tensor], terms: dict[str, Tensor]
    ) -> None:
        """Step G, and note its terms."""
        optimizer = self._optimizers()[0]
        optimizer.zero_grad()
        with frozen(self.discriminator):
            for n, part in enumerate(passes):
                fakes = kept[n] if kept else self._fakes("generator", part)
                with record_function("generator: score"):
                    logits = self._score(self._seen("generator", fakes, part), part.fake_labels)
                loss = over_heads(self.adversarial_loss.generator, self.condition_weight, logits)
                with record_function("generator: backward"):
                    self.manual_backward(loss / len(passes))
                add_mean(terms, {"loss_g": loss}, len(passes))
        if not kept:
            self.end_of_fakes()
        with record_function("generator: optimizer"):
            terms |= self._update("g", self.generator, optimizer, self.clips[0])

    def _update(
        self, side: str, network: ProgressiveNetwork, optimizer: Any, clip: float | None
    ) -> dict[str, Tensor]:
        """Step by the mean gradient over the ranks; gives its norm, where it is not scaled."""
        scaled = self._scales_gradients()
        averaged = wrapped_by_ddp(self)
        norm = apply_gradients(network, optimizer, clip, averaged=averaged)
        return {} if scaled else {f"grad_norm_{side}": norm}

    def _passes(self, batch: ImageBatch) -> list[Pass]:
        reals, labels = self.prepare_reals(batch["image"]), batch["labels"]
        given = labels if self.conditional else None
        share = Pass(reals, given, rank_and_size()[0] * len(reals), given)
        if given is not None and self.fake_labels == "balanced":
            drawn = self._draws("fake labels", share).rand()
            share = share._replace(fake_labels=balanced_labels(self.grade_counts, drawn))
        return split_share(share, self.micro_batch, self.discriminator.stddev_group)

    def _fakes(self, purpose: str, part: Pass) -> Tensor:
        with record_function("generator: forward"):
            return self.generate_fakes(part.fake_labels, self._draws(purpose, part))

    def generate_fakes(self, labels: Tensor | None, draws: SampleDraws) -> Tensor:
        """Fakes of the generator in training, one for each draw, ``(B, C, R, R)``."""
        z, weight = draws.randn(self.latent_dim), self.condition_weight
        return self.run(self.generator, z, labels, condition=weight)

    def end_of_fakes(self) -> None:
        """Called when all passes of a step have their fakes, once for D and once for G."""

    def _discriminator_loss(
        self, part: Pass, fakes: Tensor, global_batch: int
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Terms to be logged, and the sum to be minimised."""
        labels, weight = part.labels, self.condition_weight
        take_r1 = self.regularizer == "r1" and self.takes_r1(global_batch)
        reals = part.reals.requires_grad_() if take_r1 else part.reals
        seen, seen_fakes = self._seen("reals", reals, part), self._seen("fakes", fakes, part)
        with record_function("discriminator: forward"):
            if take_r1:
                heads_fake = self._score(seen_fakes, part.fake_labels)
                # one forward serves the loss and the penalty
                heads_real = self._score_in_float32(seen, labels)
            else:
                heads_real, heads_fake = self._score_both(seen, seen_fakes, part)
        loss = over_heads(self.adversarial_loss.discriminator, weight, heads_real, heads_fake)
        logits_real = mean_logit(heads_real, weight)
        if self.augmentation is not None:
            self.augmentation.note(logits_real)
        terms = {"loss_d": loss, "logits_real": logits_real.mean()}
        terms["logits_fake"] = mean_logit(heads_fake, weight).mean()
        total = loss + self.drift_weight * drift(logits_real)
        if take_r1:
            with record_function("discriminator: R1"):
                terms["r1"] = r1(logits_real, reals)
            gamma = self.gamma_at(self.resolution, global_batch)
            total = total + gamma * self.r1_interval * terms["r1"]
        elif self.regularizer == "gradient_penalty":
            with record_function("discriminator: gradient penalty"):
                terms["gradient_penalty"] = gradient_penalty(
                    lambda images: mean_logit(self._score_in_float32(images, labels), weight),
                    seen,
                    seen_fakes,
                    self._draws("gradient penalty", part).rand(1, 1, 1),
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

    def _optimizers(self) -> list[Any]:
        optimizers = self.optimizers()
        assert isinstance(optimizers, list)
        return optimizers

    def _scales_gradients(self) -> bool:
        precision = getattr(getattr(self._trainer, "strategy", None), "precision_plugin", None)
        return getattr(precision, "scaler", None) is not None

    def _count_grades(self, labels: Tensor) -> None:
        flat = flat_labels(labels, LABEL_SIZES)
        counts = torch.zeros_like(self.grade_counts)
        counts.view(-1).index_add_(0, flat, torch.ones_like(flat))
        self.grade_counts += sum_over_ranks(counts)


def as_gan(module: LightningModule) -> BaseGANModule:
    """The module as a GAN of this library.

    Raises:
        UserError: If it is none.
    """
    if not isinstance(module, BaseGANModule):
        raise UserError(f"{type(module).__name__} is no GAN of blastogan")
    return module
