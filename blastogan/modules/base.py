"""The training step that all architectures share."""

from __future__ import annotations

import logging
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.autograd.profiler import record_function
from torch.optim import Optimizer

from blastogan.augment import AdaptiveAugmentation, AugmentationSettings
from blastogan.data.stream import ImageBatch
from blastogan.errors import UserError
from blastogan.generators.latents import balanced_labels, complete_labels, count_grades
from blastogan.losses import LOSSES, LossName, drift, gradient_penalty, r1, r1_gamma_rule, wgan
from blastogan.modules.generating import GeneratingModule
from blastogan.modules.step.compiling import CompileMode, NetworkCompiler
from blastogan.modules.step.draws import SampleDraws
from blastogan.modules.step.ema import ema_decay, update_ema
from blastogan.modules.step.freezing import freeze_again, frozen
from blastogan.modules.step.grades import fit_to_grades
from blastogan.modules.step.heads import mean_logit, over_heads, penalty_weights
from blastogan.modules.step.optimizers import apply_gradients, build_optimizer
from blastogan.modules.step.passes import Pass, add_mean, score_both, split_passes
from blastogan.modules.step.ranks import agreed, rank_and_size, sum_over_ranks
from blastogan.modules.step.resuming import change_optimizers, is_fitting, keep_augmentation
from blastogan.modules.step.settings import Augment, FakeLabels, Regularizer, check_settings
from blastogan.modules.step.strategy import scales_gradients, wrapped_by_ddp
from blastogan.networks.layers import without_autocast
from blastogan.networks.progressive import ProgressiveDiscriminator, ProgressiveGenerator
from blastogan.runs.checkpoint_content import check_weights
from blastogan.utils.allocator import keep_freed_memory
from blastogan.utils.seeding import derive_seed

Labels = Tensor | None

_log = logging.getLogger(__name__)


class BaseGANModule(GeneratingModule):
    """A progressively grown GAN: its options and its training step.

    An architecture implements `configure_networks`, and may override `generate_fakes`,
    `end_of_fakes`, `generator_regularizer` and `sample`.

    A step takes a global batch, on one device or many, in one or more passes per device; then each
    network steps once, by the mean gradient. The minibatch standard deviation is taken within a
    pass. No step waits for the device, and everything random in it follows from `draw_seed` and
    the images shown. During a ramp, penalties are of the weighted mean of D's two scores, which
    the generator follows (Shahbazi et al. 2022 take R1 of the score without the grade alone).

    Args:
        resolution: Final resolution in pixels.
        start_resolution: Lowest resolution of images in pixels.
        img_channels: 1 (grey) or 3 (RGB).
        conditional: Whether the networks are conditioned on the grade.
        factorised: Whether ICM and TE letters have separate embeddings, which are added.
        latent_dim: Size of the latent z.
        channel_base: Channels at 2x2 pixels before the cap; doubling the resolution halves them.
        channel_cap: Largest number of channels at any resolution.
        stddev_group: Images per group of the minibatch standard deviation.
        loss: ``wgan``, ``logistic`` or ``hinge``.
        regularizer: ``r1``, ``gradient_penalty`` or ``none``.
        r1_gamma: Weight of R1; ``None`` follows `blastogan.losses.r1_gamma_rule`.
        r1_interval: Steps from one R1 penalty to the next; its weight is multiplied by as much
            (lazy regularisation, Karras et al. 2020, StyleGAN2, section 3.1).
        gradient_penalty_weight: Weight of the gradient penalty, taken every step.
        drift_weight: Weight of the drift penalty; ``None`` is 0.001 with ``wgan``, otherwise 0.
        ema_kimg: Half-life of the generator's moving average in thousands of images.
        ema_rampup: The half-life is at most this fraction of the images shown; 0 for no ramp-up.
        generator_optimizer: ``{"class_path": ..., "init_args": {...}}`` of an optimiser of
            `torch.optim`; ``None`` is Adam with 0.001, betas 0.0 and 0.99, eps 1e-8.
        discriminator_optimizer: Likewise for the discriminator.
        reuse_fakes: Whether the generator learns from the fakes that the discriminator has just
            seen, which saves a pass; in the demo it cost some of the variety of samples.
        channels_last: Whether networks that gain by it use the channels-last memory format.
        compile_mode: Mode of `torch.compile`: ``default``, ``reduce-overhead`` (CUDA graphs),
            ``max-autotune``, or ``off``. Passes that are differentiated twice are not compiled.
        micro_batch: Largest number of images per pass on one device; larger batches take several
            passes and accumulate gradients. ``None`` for no limit.
        generator_clip: Larger gradient norms are scaled down to this; ``None`` for no limit.
        discriminator_clip: Likewise for the discriminator.
        augment: Augmentation of all images that D sees: ``none``, ``grade-preserving``, ``bgc``,
            ``diffaugment``, or amplitudes by operation (`blastogan.augment.OPERATIONS`), such as
            ``{flip: 1, turn: 1, brightness: 0.1}``.
        augment_p: Probability of each operation; ``None`` adapts it so that D does not overfit
            (Karras et al. 2020, "Training generative adversarial networks with limited data").
        augment_target: Target of the adaptive probability: the mean sign of D's scores of reals.
        augment_kimg: Thousands of images in which the probability can rise from 0 to 1.
        augment_max: Highest adaptive probability; above 0.8 samples may show the augmentation.
        ramp_kimg: Kimg at which the grade begins to count and counts in full, such as ``[10, 30]``;
            D then also scores images without it (Shahbazi et al. 2022). ``None``: always in full.
        fake_labels: Class distribution of the fakes in training: that of the reals shown
            (``data``), or uniform over all classes seen (``balanced``; not with a ramp).

    Attributes:
        augmentation: Augmentation of what D sees; ``None`` for none.
        draw_seed: Seed of the steps; unset, it follows from PyTorch's seed at the first one.
        transfer: The source checkpoint of a run with transferred weights, as plain values.
        known_share: Share of images shown with a known letter, if some have -1; see `setup`.

    Raises:
        UserError: If an option is out of range, or options contradict each other.
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
        super().__init__()
        self.save_hyperparameters()
        check_settings(self.hparams)
        chosen = AugmentationSettings(augment, augment_p, augment_target, augment_kimg, augment_max)
        self._compiler = NetworkCompiler(compile_mode)
        self.build_networks()
        self.augmentation = AdaptiveAugmentation(chosen) if chosen.active else None
        self.automatic_optimization = False
        self.optimizer_settings = (generator_optimizer, discriminator_optimizer)
        self.clips = (generator_clip, discriminator_clip)
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
        self.reuse_fakes = reuse_fakes
        self.micro_batch = micro_batch
        self.fake_labels: FakeLabels = fake_labels
        self.draw_seed: int | None = None
        self.transfer: dict[str, Any] | None = None
        self.known_share: float | None = None

    # not abstract: a configuration may give options of the model before its class
    def configure_networks(self) -> tuple[ProgressiveGenerator, ProgressiveDiscriminator]:
        """Build the generator, then the discriminator, from the hyper-parameters."""
        raise UserError(
            f"{type(self).__name__} has no networks: choose an architecture, for instance by the "
            "class_path ProGANModule"
        )

    def build_networks(self) -> None:
        """Take new networks, see `configure_networks`, and start at no images shown."""
        generator, self.discriminator = self.configure_networks()
        self.set_generator(generator, self.hparams["ramp_kimg"])
        if self.hparams["channels_last"]:
            for network in (self.generator, self.generator_ema, self.discriminator):
                network.use_channels_last()

    def generate_fakes(self, labels: Tensor | None, draws: SampleDraws) -> Tensor:
        """Fakes of the generator in training, one per draw, ``(B, C, R, R)``."""
        z, weight = draws.randn(self.latent_dim), self.condition_weight
        return self.call_network(self.generator, z, labels, condition=weight)

    def end_of_fakes(self) -> None:
        """Run once all passes of a step have their fakes: once for D, and once for G."""

    def generator_regularizer(self, fakes: Tensor, part: Pass) -> Tensor | None:
        """Weighted penalty to add to the generator's loss and to log; ``None`` for none this step.

        It is a mean over the `fakes` ``(B, C, R, R)`` of a pass, before augmentation. A penalty of
        gradients needs a forward pass of its own: a compiled one is not differentiated twice.
        """
        return None

    def setup(self, stage: str) -> None:
        """Before training, fit the networks to what is known of the grades."""
        if stage == "fit":
            fit_to_grades(self, getattr(self.trainer, "datamodule", None))

    def configure_optimizers(self) -> tuple[Optimizer, Optimizer]:
        """Optimisers of the generator and of the discriminator, in this order."""
        for_generator, for_discriminator = self.optimizer_settings
        return (
            build_optimizer(for_generator, self.generator.parameters()),
            build_optimizer(for_discriminator, self.discriminator.parameters()),
        )

    def on_fit_start(self) -> None:
        """Check what only the trainer knows; on a CPU, keep freed memory for the next step.

        Raises:
            UserError: If gradients are to be clipped but are scaled (16-mixed).
        """
        if any(self.clips) and scales_gradients(self):
            raise UserError("clipping needs unscaled gradients: use bf16-mixed instead of 16-mixed")
        augmentation = self.augmentation
        if augmentation and augmentation.settings.adaptive and self.adversarial_loss is wgan:
            _log.warning("the signs of D's scores mean little with the loss wgan: set augment_p")
        if self.device.type == "cpu":
            keep_freed_memory()

    def training_step(self, batch: ImageBatch, batch_idx: int) -> dict[str, Tensor]:
        """One step of D and of G on this device's part of a global batch.

        Returns:
            Detached scalars, means over the part: ``loss_d``, ``loss_g``, ``logits_real``,
            ``logits_fake``; unweighted ``r1`` or ``gradient_penalty`` when taken, and weighted
            ``generator_regularizer``; ``augment_p`` and ``augment_sign_real`` (r_t) with
            augmentation; ``grad_norm_d`` and ``grad_norm_g``, norms of the global gradients before
            clipping, unless gradients are scaled (16-mixed).
        """
        self.grade_counts += sum_over_ranks(count_grades(batch["labels"]))
        passes = self._passes(batch)
        global_batch = len(batch["image"]) * rank_and_size()[1]
        growing = self.alpha < 1.0, 0.0 < self.condition_weight < 1.0
        self._compiler.begin_step((self.resolution, growing, len(passes[0].reals)))
        terms: dict[str, Tensor] = {}
        for_generator, for_discriminator = self.optimizers()  # type: ignore[attr-defined]
        kept = self._step_discriminator(for_discriminator, passes, global_batch, terms)
        self._step_generator(for_generator, passes, kept, terms)
        with record_function("generator: average"):
            decay = ema_decay(global_batch, self.images_shown, self.ema_kimg, self.ema_rampup)
            update_ema(self.generator_ema, self.generator, decay)
        self.images_shown += global_batch
        return terms

    def _step_discriminator(
        self, optimizer: Any, passes: list[Pass], global_batch: int, terms: dict[str, Tensor]
    ) -> list[Tensor]:
        """Step D and add its terms; returns the fakes if G is to learn from them too."""
        kept: list[Tensor] = []
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
        self, optimizer: Any, passes: list[Pass], kept: list[Tensor], terms: dict[str, Tensor]
    ) -> None:
        """Step G and add its terms."""
        optimizer.zero_grad()
        with frozen(self.discriminator):
            for n, part in enumerate(passes):
                fakes = kept[n] if kept else self._fakes("generator", part)
                with record_function("generator: score"):
                    seen = self._augmented("generator", fakes, part)
                    logits = self._score(seen, part.fake_labels, part.known)
                weight, loss_of = self.condition_weight, self.adversarial_loss.generator
                loss = over_heads(loss_of, weight, logits, known=part.known, share=part.share)
                found, total = {"loss_g": loss}, loss
                if (penalty := self.generator_regularizer(fakes, part)) is not None:
                    found["generator_regularizer"], total = penalty, loss + penalty
                with record_function("generator: backward"):
                    self.manual_backward(total / len(passes))
                add_mean(terms, found, len(passes))
        if not kept:
            self.end_of_fakes()
        with record_function("generator: optimizer"):
            terms |= self._update("g", self.generator, optimizer, self.clips[0])

    def _update(
        self, letter: str, network: nn.Module, optimizer: Any, clip: float | None
    ) -> dict[str, Tensor]:
        """Step by the mean gradient over the ranks; returns its norm unless it is scaled."""
        norm = apply_gradients(network, optimizer, clip, averaged=wrapped_by_ddp(self))
        return {} if scales_gradients(self) else {f"grad_norm_{letter}": norm}

    def _passes(self, batch: ImageBatch) -> list[Pass]:
        reals, labels = self.prepare_reals(batch["image"]), batch["labels"]
        given = labels if self.conditional else None
        whole = Pass(reals, given, rank_and_size()[0] * len(reals), given)
        if given is not None and self.known_share is not None:
            drawn = self._draws("unknown grades", whole).rand()
            given = complete_labels(labels, self.grade_counts, drawn)
            whole = Pass(reals, given, whole.first, given, labels >= 0, self.known_share)
        elif given is not None and self.fake_labels == "balanced":
            drawn = self._draws("fake labels", whole).rand()
            whole = whole._replace(fake_labels=balanced_labels(self.grade_counts, drawn))
        return split_passes(whole, self.micro_batch, self.discriminator.stddev_group)

    def _fakes(self, purpose: str, part: Pass) -> Tensor:
        with record_function("generator: forward"):
            return self.generate_fakes(part.fake_labels, self._draws(purpose, part))

    def _discriminator_loss(
        self, part: Pass, fakes: Tensor, global_batch: int
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Terms to log, and the sum to minimise."""
        labels, known, weight = part.labels, part.known, self.condition_weight
        take_r1 = self.regularizer == "r1" and self.takes_r1(global_batch)

        # Images as D sees them.
        reals = part.reals.requires_grad_() if take_r1 else part.reals
        seen = self._augmented("reals", reals, part)
        seen_fakes = self._augmented("fakes", fakes, part)

        # Scores; on R1's turn one forward pass of the reals serves the loss and the penalty.
        with record_function("discriminator: forward"):
            if take_r1:
                heads_fake = self._score(seen_fakes, part.fake_labels, known)
                heads_real = self._score_in_float32(seen, labels, known)
            else:
                group = self.discriminator.stddev_group
                heads_real, heads_fake = score_both(self._score, seen, seen_fakes, part, group)
        logits_real = mean_logit(heads_real, weight, known)
        if self.augmentation is not None:
            self.augmentation.note(logits_real)

        # Adversarial loss and drift.
        loss_of = self.adversarial_loss.discriminator
        loss = over_heads(loss_of, weight, heads_real, heads_fake, known=known, share=part.share)
        terms = {"loss_d": loss, "logits_real": logits_real.mean()}
        terms["logits_fake"] = mean_logit(heads_fake, weight, known).mean()
        total = loss + self.drift_weight * drift(logits_real)

        # Lazy R1, or the gradient penalty.
        if take_r1:
            with record_function("discriminator: R1"):
                counted = penalty_weights(logits_real, weight, known, part.share)
                terms["r1"] = r1(logits_real, reals, counted)
            gamma = self.gamma_at(self.resolution, global_batch)
            total = total + gamma * self.r1_interval * terms["r1"]
        elif self.regularizer == "gradient_penalty":
            with record_function("discriminator: gradient penalty"):
                terms["gradient_penalty"] = gradient_penalty(
                    lambda images: mean_logit(
                        self._score_in_float32(images, labels, known), weight, known
                    ),
                    seen,
                    seen_fakes,
                    self._draws("gradient penalty", part).rand(1, 1, 1),
                )
            total = total + self.gradient_penalty_weight * terms["gradient_penalty"]
        return terms, total

    def takes_r1(self, batch_size: int) -> bool:
        """Whether the next step takes R1, by the images shown and the global batch size."""
        return self.images_shown // batch_size % self.r1_interval == 0

    def gamma_at(self, resolution: int, batch_size: int) -> float:
        """Weight of R1 at a resolution in pixels and a global batch size."""
        rule = r1_gamma_rule(resolution, batch_size)
        return rule if self.r1_gamma is None else self.r1_gamma

    def _draws(self, purpose: str, part: Pass) -> SampleDraws:
        """Random numbers of a pass; each purpose has its own."""
        if self.draw_seed is None:
            self.draw_seed = agreed(derive_seed(torch.initial_seed(), "steps"))
        key = (self.images_shown, purpose)
        return SampleDraws(self.draw_seed, key, part.first, len(part.reals), self.device)

    def _augmented(self, purpose: str, images: Tensor, part: Pass) -> Tensor:
        if self.augmentation is None:
            return images
        with record_function("augment"):
            augmented: Tensor = self.augmentation(images, self._draws(f"augment {purpose}", part))
        return augmented

    def call_network(self, network: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        """Call a network at the current resolution and alpha, compiled under `compile_mode`."""
        growth = {"resolution": self.resolution, "alpha": self.alpha}
        return self._compiler(network, *args, **growth, **kwargs)

    def score(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """Logits ``(B,)`` of images ``(B, C, R, R)`` by D at this stage; labels -1 are unknown."""
        known = labels >= 0 if labels is not None and self.known_share is not None else None
        given = labels.clamp(min=0) if labels is not None and self.conditional else None
        logits = self._score_in_float32(images, given, known)
        return mean_logit(logits, self.condition_weight, known)

    def _score(self, images: Tensor, labels: Labels, known: Labels = None) -> Tensor:
        return self.call_network(self.discriminator, images, labels, known=known)

    def _score_in_float32(self, images: Tensor, labels: Labels, known: Labels = None) -> Tensor:
        """Logits that can be differentiated twice: in float32 and not compiled."""
        growth = {"resolution": self.resolution, "alpha": self.alpha}
        with without_autocast(self.device):
            logits: Tensor = self.discriminator(images, labels, known=known, **growth)
        return logits

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what a resumed run needs, as plain values."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["blastogan"]["draw_seed"] = self.draw_seed
        checkpoint["blastogan"]["transfer"] = self.transfer

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the state of growth and of the step; optimisers keep this module's settings.

        The augmentation keeps its state if its options are unchanged, and otherwise starts over.

        Raises:
            UserError: If the checkpoint is of another architecture or of other sizes.
        """
        super().on_load_checkpoint(checkpoint)
        self.draw_seed = checkpoint["blastogan"].get("draw_seed")
        self.transfer = freeze_again(self.discriminator, checkpoint["blastogan"].get("transfer"))
        keep_augmentation(checkpoint, self.state_dict(), self.hparams)
        check_weights(checkpoint["state_dict"], self.state_dict())
        change_optimizers(checkpoint, self.optimizer_settings, is_fitting(self))


def as_gan(module: LightningModule) -> BaseGANModule:
    """The module as a GAN of this library; raises a `UserError` if it is none."""
    if not isinstance(module, BaseGANModule):
        raise UserError(f"{type(module).__name__} is no GAN of blastogan")
    return module
