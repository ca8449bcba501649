"""The training step that ProGAN and StyleGAN share."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar, get_args

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor
from torch.optim import Optimizer

from blastogan.data.stream import ImageBatch
from blastogan.errors import UserError
from blastogan.grades import CLASSES, LABEL_SIZES, LETTERS, Grade
from blastogan.losses import LOSSES, LossName, drift, gradient_penalty, r1, r1_gamma_rule
from blastogan.metrics import ImageSetMetrics, to_float, to_uint8
from blastogan.modules.checkpoints import check_checkpoint, read_checkpoint
from blastogan.modules.ema import ema_decay, update_ema
from blastogan.modules.optimizers import apply_settings, build_optimizer
from blastogan.modules.requests import Request, grade_labels, numbered_latents
from blastogan.networks.layers import downsample, fade, upsample
from blastogan.networks.progressive import ProgressiveDiscriminator, ProgressiveNetwork

Regularizer = Literal["r1", "gradient_penalty", "none"]
Self = TypeVar("Self", bound="BaseGANModule")


class BaseGANModule(LightningModule):
    """Owns the step of a progressively grown GAN: D, lazy R1, G, EMA, images shown.

    Optimisation is manual. `resolution` and `alpha` say what the next step works on; they are set
    by the growing callbacks, and without them the module trains at its full resolution. Time is
    `images_shown`, summed over devices.

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
        channels_last: Memory format of the networks; faster on GPUs in half precision.

    Attributes:
        generator_ema: Moving average of `generator`; samples, metrics and exports use it.
        grade_counts: int64 ``(4, 4)``, reals seen by ICM and TE letter: the law of the data.
    """

    generator: ProgressiveNetwork
    generator_ema: ProgressiveNetwork
    discriminator: ProgressiveDiscriminator
    grade_counts: Tensor

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
        channels_last: bool,
    ) -> None:
        super().__init__()
        if loss not in LOSSES:
            raise UserError(f"loss is {loss!r}: expected one of {', '.join(LOSSES)}")
        if regularizer not in get_args(Regularizer):
            expected = ", ".join(get_args(Regularizer))
            raise UserError(f"regularizer is {regularizer!r}: expected one of {expected}")
        if r1_interval < 1:
            raise UserError(f"r1_interval is {r1_interval}: expected 1 or more")
        self.automatic_optimization = False
        self.generator = generator
        self.generator_ema = copy.deepcopy(generator).requires_grad_(False)
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

        self.images_shown = 0
        self.resolution = generator.resolution
        self.alpha = 1.0
        self.register_buffer("grade_counts", torch.zeros(LABEL_SIZES, dtype=torch.int64))
        if channels_last:
            self.to(memory_format=torch.channels_last)
        self.configure_metrics()

    @property
    def final_resolution(self) -> int:
        """Highest resolution of the networks in pixels."""
        return self.generator.resolution

    @property
    def conditional(self) -> bool:
        """Whether the networks get the grade."""
        return bool(self.generator.label_sizes)

    def configure_metrics(self) -> None:
        """Set the metrics of validation and test."""
        self.val_metrics = ImageSetMetrics()
        self.test_metrics = ImageSetMetrics()

    def configure_optimizers(self) -> tuple[Optimizer, Optimizer]:
        """Optimisers of the generator and of the discriminator, in this order."""
        for_generator, for_discriminator = self.optimizer_settings
        return (
            build_optimizer(for_generator, self.generator.parameters()),
            build_optimizer(for_discriminator, self.discriminator.parameters()),
        )

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
        generator_optimizer, discriminator_optimizer = self._optimizers()
        given = labels if self.conditional else None

        self.toggle_optimizer(discriminator_optimizer)
        terms = self._discriminator_step(reals, given, global_batch)
        discriminator_optimizer.step()
        self.untoggle_optimizer(discriminator_optimizer)

        self.toggle_optimizer(generator_optimizer)
        generator_optimizer.zero_grad()
        fakes = self.generate_fakes(given, len(reals))
        loss = self.adversarial_loss.generator(self._score(fakes, given).float())
        self.manual_backward(loss)
        generator_optimizer.step()
        self.untoggle_optimizer(generator_optimizer)

        decay = ema_decay(global_batch, self.images_shown, self.ema_kimg, self.ema_rampup)
        update_ema(self.generator_ema, self.generator, decay)
        self.images_shown += global_batch
        return {name: term.detach() for name, term in {**terms, "loss_g": loss}.items()}

    def prepare_reals(self, images: Tensor) -> Tensor:
        """Floats in [-1, 1] of uint8 images ``(B, C, R, R)``, cross-faded as D fades.

        During a fade, reals move from the detail of half the resolution to their own by the same
        resize as in the skip path of D, so that D cannot tell reals by their sharpness.
        """
        reals = to_float(images)
        if self.alpha < 1.0 and self.resolution > self.generator.start_resolution:
            reals = fade(upsample(downsample(reals)), reals, self.alpha)
        return reals

    def generate_fakes(self, labels: Tensor | None, count: int) -> Tensor:
        """Fakes of the generator in training, ``(count, C, R, R)``."""
        z = self.global_draw(torch.randn, count, self.latent_dim)
        fakes: Tensor = self.generator(z, labels, resolution=self.resolution, alpha=self.alpha)
        return fakes

    def global_draw(self, draw: Callable[..., Tensor], count: int, *shape: int) -> Tensor:
        """This rank's ``(count, *shape)`` of a draw over the global batch.

        All ranks have the same random state: without slicing they would draw the same latents.
        """
        trainer = self._trainer
        rank, ranks = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        drawn = draw(count * ranks, *shape, device=self.device)
        return drawn[rank * count : (rank + 1) * count]

    def _discriminator_step(
        self, reals: Tensor, labels: Tensor | None, global_batch: int
    ) -> dict[str, Tensor]:
        for optimizer in self._optimizers()[1:]:
            optimizer.zero_grad()
        with torch.no_grad():
            fakes = self.generate_fakes(labels, len(reals))
        take_r1 = self.regularizer == "r1" and self.takes_r1(global_batch)
        if take_r1:
            logits_fake = self._score(fakes, labels).float()
            # one forward serves the loss and the penalty, whose second derivatives need float32
            with torch.autocast(self.device.type, enabled=False):
                logits_real = self._score(reals.requires_grad_(), labels)
        else:
            logits_real, logits_fake = self._score_both(reals, fakes, labels)
        loss = self.adversarial_loss.discriminator(logits_real, logits_fake)
        terms = {"logits_real": logits_real.mean(), "logits_fake": logits_fake.mean()}
        total = loss + self.drift_weight * drift(logits_real)
        if take_r1:
            terms["r1"] = r1(logits_real, reals)
            weight = self.gamma_at(self.resolution, global_batch) * self.r1_interval
            total = total + weight * terms["r1"]
        elif self.regularizer == "gradient_penalty":
            with torch.autocast(self.device.type, enabled=False):
                terms["gradient_penalty"] = gradient_penalty(
                    lambda images: self._score(images, labels), reals.float(), fakes.float()
                )
            total = total + self.gradient_penalty_weight * terms["gradient_penalty"]
        self.manual_backward(total)
        return {"loss_d": loss, **terms}

    def takes_r1(self, batch_size: int) -> bool:
        """Whether the next step is R1's turn: a function of images shown and global batch."""
        return self.images_shown // batch_size % self.r1_interval == 0

    def gamma_at(self, resolution: int, batch_size: int) -> float:
        """Weight of R1 at a resolution in pixels and a global batch size."""
        if self.r1_gamma is not None:
            return self.r1_gamma
        return r1_gamma_rule(resolution, batch_size)

    def _score(self, images: Tensor, labels: Tensor | None) -> Tensor:
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
            return self._score(reals, labels).float(), self._score(fakes, labels).float()
        both = None if labels is None else labels.repeat(2, 1)
        logits = self._score(torch.cat([reals.to(fakes.dtype), fakes]), both).float()
        real, fake = logits.chunk(2)
        return real, fake

    def _count_grades(self, labels: Tensor) -> None:
        flat = labels[:, 0] * len(LETTERS) + labels[:, 1]
        self.grade_counts.view(-1).index_add_(0, flat, torch.ones_like(flat))

    # -- sampling ---------------------------------------------------------------------------------

    @property
    def latent_dim(self) -> int:
        """Size of the latent z."""
        return int(self.generator.latent_dim)  # type: ignore[arg-type]

    @torch.no_grad()
    def sample(
        self, indices: Sequence[int], labels: Tensor, *, seed: int, truncation_psi: float = 1.0
    ) -> Tensor:
        """Images of the averaged generator at the current resolution.

        Args:
            indices: Numbers of the B samples.
            labels: int64 ``(B, 2)``; ignored by an unconditional module.
            seed: Seed of the latents.
            truncation_psi: 1 for none; only where the architecture has a truncation.

        Returns:
            uint8 ``(B, C, resolution, resolution)`` on the module's device.
        """
        if truncation_psi != 1.0:
            raise UserError(
                f"truncation_psi is {truncation_psi}: {type(self).__name__} normalises its latents "
                "and has no truncation; use 1"
            )
        z, _ = numbered_latents(indices, seed, self.latent_dim)
        given = labels.to(self.device) if self.conditional else None
        average = self.generator_ema
        return to_uint8(
            average(z.to(self.device), given, resolution=self.resolution, alpha=self.alpha)
        )

    def sample_enlarged(self, indices: Sequence[int], labels: Tensor, *, seed: int) -> Tensor:
        """As `sample`, enlarged to the final resolution, so that stages can be compared."""
        images = self.sample(indices, labels, seed=seed)
        while images.shape[-1] < self.final_resolution:
            images = upsample(images)
        return images

    def generate(
        self,
        count: int,
        grade: str | Grade | Sequence[str | Grade] | None = None,
        *,
        truncation_psi: float = 1.0,
        seed: int = 0,
        batch_size: int = 32,
    ) -> Tensor:
        """Synthetic images, for a seed and grade the same whatever `count`.

        Another `batch_size` or device may round a pixel to the next grey level.

        Args:
            count: Number of images.
            grade: One grade for all, such as ``AB``, or one for each; ``None`` draws them by the
                law of the training data.
            truncation_psi: 1 for none, towards 0 for less variety (StyleGAN only).
            seed: Seed of latents and grades.
            batch_size: Images to a forward pass.

        Returns:
            uint8 ``(count, C, resolution, resolution)`` on the CPU.

        Raises:
            UserError: If the number of grades is not `count`, or a grade is unknown.
        """
        if count < 1 or batch_size < 1:
            raise UserError(f"cannot generate {count} images in batches of {batch_size}")
        labels = grade_labels(count, grade, seed, self.class_weights())
        parts = [
            self.sample(
                range(start, min(start + batch_size, count)),
                labels[start : start + batch_size],
                seed=seed,
                truncation_psi=truncation_psi,
            ).cpu()
            for start in range(0, count, batch_size)
        ]
        return torch.cat(parts)

    def class_weights(self) -> dict[str, float]:
        """How often each class was seen in training; equal weights before any training."""
        counts = {name: float(self.grade_counts[Grade.parse(name).labels]) for name in CLASSES}
        return counts if sum(counts.values()) else dict.fromkeys(CLASSES, 1.0)

    # -- evaluation -------------------------------------------------------------------------------

    def validation_step(self, batch: ImageBatch, batch_idx: int) -> None:
        """Compare reals with as many samples of the same grades, at the final resolution."""
        self._update_metrics(self.val_metrics, batch)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the validation set."""
        self._log_metrics(self.val_metrics)

    def test_step(self, batch: ImageBatch, batch_idx: int) -> None:
        """As `validation_step`, on the test set."""
        self._update_metrics(self.test_metrics, batch)

    def on_test_epoch_end(self) -> None:
        """Log the metrics of the test set."""
        self._log_metrics(self.test_metrics)

    def _update_metrics(self, metrics: ImageSetMetrics, batch: ImageBatch) -> None:
        fakes = self.sample_enlarged(batch["index"].tolist(), batch["labels"], seed=0)
        metrics.update(batch["image"], fakes)

    def _log_metrics(self, metrics: ImageSetMetrics) -> None:
        # in a fit, `TrainingLog` tells the loggers, against images shown; else Lightning prints
        to_logger = self.trainer.state.fn != TrainerFn.FITTING
        self.log_dict(metrics.compute(), logger=to_logger, batch_size=1)
        metrics.reset()

    def predict_step(self, batch: Request, batch_idx: int) -> dict[str, Tensor]:
        """Generate the samples that a prediction batch asks for.

        Returns:
            ``image`` uint8 ``(B, C, R, R)``, with the ``labels`` and ``index`` of the batch.
        """
        seed = int(batch["seed"][0])
        images = self.sample(batch["index"].tolist(), batch["labels"], seed=seed)
        return {"image": images, "labels": batch["labels"], "index": batch["index"]}

    # -- checkpoints ------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the architecture and the state of growth, as plain values."""
        checkpoint["blastogan"] = {
            "architecture": type(self).__name__,
            "images_shown": self.images_shown,
            "resolution": self.resolution,
            "alpha": self.alpha,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the state of growth.

        Raises:
            UserError: If the checkpoint is of another architecture or other sizes.
        """
        check_checkpoint(checkpoint, type(self).__name__, dict(self.hparams))
        state = checkpoint["blastogan"]
        self.images_shown = int(state["images_shown"])
        self.resolution = int(state["resolution"])
        self.alpha = float(state["alpha"])
        apply_settings(self.optimizer_settings, checkpoint.get("optimizer_states", []))

    @classmethod
    def load_from_checkpoint(
        cls: type[Self],
        checkpoint_path: Any,
        map_location: Any = "cpu",
        hparams_file: Any = None,
        strict: bool | None = None,
        weights_only: bool | None = True,
        **kwargs: Any,
    ) -> Self:
        """Load a module from a checkpoint, tensors and plain values only, on the CPU by default.

        Raises:
            UserError: If the file is missing, damaged, or of another architecture.
        """
        checkpoint = read_checkpoint(checkpoint_path)
        check_checkpoint(checkpoint, cls.__name__, {})
        module = super().load_from_checkpoint(
            checkpoint_path, map_location, hparams_file, strict, weights_only, **kwargs
        )
        assert isinstance(module, cls)
        return module.eval()
