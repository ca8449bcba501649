"""A classifier of ICM and TE letters as a Lightning module."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal, get_args

import torch
import torch.nn.functional as F
from pytorch_lightning import LightningModule
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor
from torch.optim import AdamW
from torchmetrics import MeanMetric

from blastogan.data.stream import ImageBatch
from blastogan.errors import UserError, check_ranges
from blastogan.generators.files import read_trained
from blastogan.grades import LETTERS, UNKNOWN_LABEL
from blastogan.metrics.grading import HEADS, GradeMetrics
from blastogan.modules.step.loading import build_saved
from blastogan.networks.grader import MIN_RESOLUTION, GraderNetwork
from blastogan.runs.checkpoint_content import check_weights
from blastogan.runs.checkpoint_files import check_checkpoint, checked_content
from blastogan.utils.version import provenance

ClassWeights = Literal["balanced", "none"]

_log = logging.getLogger(__name__)


class GradeClassifier(LightningModule):
    """Classifies the ICM and the TE letter of an image.

    It is trained with AdamW; the learning rate decays by a cosine over the trainer's
    ``max_epochs``. Loggers get one row per epoch and one per validation, by `images_shown`.

    Args:
        backbone: ``small`` or a convolutional classifier of torchvision, see `GraderNetwork`.
        feature_dim: Number of features before the heads.
        img_channels: 1 (grey) or 3 (RGB).
        resolution: Side of the images in pixels, 32 or more.
        lr: Learning rate at the start.
        weight_decay: Decoupled weight decay (Loshchilov and Hutter 2019).
        class_weights: ``balanced`` weights the loss of each letter inversely to its frequency in
            the training images; ``none`` weights all images equally.
        label_smoothing: Part of the target that is spread over all letters.
        min_resolution: Lowest resolution in pixels, 32 or more, at which images may come later.
            Each training batch is then reduced to a size drawn from powers of two between it and
            `resolution`, and resized as `prepare` does; ``None`` trains at `resolution` alone.

    Attributes:
        images_shown: Images trained on so far, summed over devices.
        letter_weights: float32 ``(2, 4)``, weight of each ICM and TE letter in the loss.

    Raises:
        UserError: If a value is out of range.
    """

    letter_weights: Tensor

    def __init__(
        self,
        backbone: str = "small",
        feature_dim: int = 64,
        img_channels: int = 1,
        resolution: int = 64,
        lr: float = 1e-3,
        weight_decay: float = 1e-2,
        class_weights: ClassWeights = "balanced",
        label_smoothing: float = 0.0,
        min_resolution: int | None = None,
    ) -> None:
        super().__init__()
        if img_channels not in (1, 3):
            raise UserError(f"img_channels is {img_channels}: expected 1 (grey) or 3 (RGB)")
        if resolution < MIN_RESOLUTION:
            raise UserError(f"resolution is {resolution}: expected {MIN_RESOLUTION} or more")
        check_ranges({"resolution": resolution, "feature_dim": feature_dim}, 1, 4096)
        if class_weights not in get_args(ClassWeights):
            expected = ", ".join(get_args(ClassWeights))
            raise UserError(f"class_weights is {class_weights!r}: expected one of {expected}")
        if not (0 < lr < math.inf and 0 <= weight_decay < math.inf and 0 <= label_smoothing < 1):
            raise UserError(
                f"got lr {lr}, weight_decay {weight_decay}, label_smoothing {label_smoothing}: "
                "expected above 0, 0 or more, and from 0 to below 1"
            )
        if min_resolution is not None and not MIN_RESOLUTION <= min_resolution <= resolution:
            raise UserError(
                f"min_resolution is {min_resolution}: expected {MIN_RESOLUTION} to {resolution}, "
                "the resolution of the images"
            )
        self.save_hyperparameters()
        self.img_channels = img_channels
        self.resolution = resolution
        self.lr = lr
        self.weight_decay = weight_decay
        self.class_weights = class_weights
        self.label_smoothing = label_smoothing
        self.min_resolution = min_resolution
        self.images_shown = 0
        self.network = GraderNetwork(backbone, feature_dim)
        self.register_buffer("letter_weights", torch.ones(len(HEADS), len(LETTERS)))
        self.train_loss = MeanMetric()
        self.val_metrics = GradeMetrics()
        self.test_metrics = GradeMetrics()

    def configure_optimizers(self) -> AdamW:
        """AdamW; each epoch sets its learning rate and weight decay."""
        return AdamW(self.parameters(), lr=self.lr, weight_decay=self.weight_decay)

    def prepare(self, images: Tensor) -> Tensor:
        """Convert 8-bit images of any size to the network's input.

        A grey grader sees the mean of RGB channels. Resizing is antialiased and bilinear, in float.

        Args:
            images: uint8 ``(B, 1, H, W)`` or ``(B, 3, H, W)``.

        Returns:
            float32 ``(B, img_channels, resolution, resolution)``, values in [-1, 1].

        Raises:
            UserError: If dtype or shape is another.
        """
        if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] not in (1, 3):
            raise UserError(
                f"images are {tuple(images.shape)} {images.dtype}: expected torch.uint8 of shape "
                "(B, 1, H, W) or (B, 3, H, W)"
            )
        pixels = images.float()
        if self.img_channels == 1 and images.shape[1] == 3:
            pixels = pixels.sum(dim=1, keepdim=True) / 3
        pixels = pixels.expand(-1, self.img_channels, -1, -1)
        size = (self.resolution, self.resolution)
        if pixels.shape[-2:] != size:
            pixels = F.interpolate(pixels, size, mode="bilinear", antialias=True)
        return pixels / 127.5 - 1

    def features(self, images: Tensor) -> Tensor:
        """Features float32 ``(B, feature_dim)`` of 8-bit images, see `prepare`."""
        return self.network.features(self.prepare(images))

    @torch.no_grad()
    def grade(self, images: Tensor) -> Tensor:
        """Letters of 8-bit images, see `prepare`.

        The heads are independent, so that a pair need not be one of the ten classes.

        Returns:
            int64 ``(B, 2)``, ICM and TE letter, 0 (A) to 3 (D).
        """
        training = self.training
        self.eval()
        try:
            logits = self.network(self.prepare(images.to(self.device)))
        finally:
            self.train(training)
        return torch.stack([scores.argmax(dim=1) for scores in logits], dim=1)

    def on_fit_start(self) -> None:
        """Weight the letters by the labels of the data module; raises `UserError` without any."""
        if self.class_weights == "none":
            return
        data: Any = getattr(self.trainer, "datamodule", None)
        if not hasattr(data, "labels"):
            raise UserError(
                "balanced class weights need a data module with labels: fit with "
                'datamodule=GradeDataModule(...), or set class_weights="none"'
            )
        weights = data.sampling_weights() if hasattr(data, "sampling_weights") else None
        self.letter_weights.copy_(balanced_weights(data.labels("train"), weights))

    def on_train_epoch_start(self) -> None:
        """Set the learning rate of the epoch, also in a run resumed with other settings."""
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, AdamW)
        epochs = self.trainer.max_epochs or -1
        progress = min(self.trainer.current_epoch / epochs, 1.0) if epochs > 0 else 0.0
        rate = self.lr * (1 + math.cos(math.pi * progress)) / 2
        for group in optimizer.param_groups:
            group.update(lr=rate, weight_decay=self.weight_decay)

    def training_step(self, batch: ImageBatch, batch_idx: int) -> Tensor:
        """Loss of a batch, summed over both heads."""
        images = self._reduced(batch["image"])
        loss = self._loss(self.network(self.prepare(images)), batch["labels"])
        self.train_loss.update(loss.detach(), weight=len(batch["labels"]))
        self.images_shown += len(batch["labels"]) * self.trainer.world_size
        return loss

    def on_train_epoch_end(self) -> None:
        """Log the epoch's loss and learning rate."""
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        self._send({"train_loss": float(self.train_loss.compute()), "learning_rate": rate})
        self.train_loss.reset()

    def validation_step(self, batch: ImageBatch, batch_idx: int) -> None:
        """Compare predictions with labels."""
        self._update(self.val_metrics, batch)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the validation set."""
        values = self._log_metrics(self.val_metrics)
        if self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.sanity_checking:
            row = {name: float(value) for name, value in values.items()}
            self._send(row)
            if self.trainer.is_global_zero:
                listed = "  ".join(f"{name} {value:.3f}" for name, value in row.items())
                _log.info("%g kimg  %s", self.images_shown / 1000, listed)

    def test_step(self, batch: ImageBatch, batch_idx: int) -> None:
        """See `validation_step`, on the test set."""
        self._update(self.test_metrics, batch)

    def on_test_epoch_end(self) -> None:
        """Log the metrics of the test set."""
        self._log_metrics(self.test_metrics)

    def _reduced(self, images: Tensor) -> Tensor:
        """The 8-bit images at a resolution drawn for the batch; see `min_resolution`."""
        if self.min_resolution is None:
            return images
        halvings = int(math.log2(self.resolution / self.min_resolution))
        side = self.resolution >> int(torch.randint(halvings + 1, ()))
        if side == images.shape[-1]:
            return images
        reduced = F.interpolate(images.float(), (side, side), mode="bilinear", antialias=True)
        return reduced.round().to(torch.uint8)

    def _loss(self, logits: tuple[Tensor, Tensor], labels: Tensor) -> Tensor:
        # not divided by the sum of weights, which is 0 for a batch of letters not in training
        loss = partial(
            F.cross_entropy,
            reduction="sum",
            label_smoothing=self.label_smoothing,
            ignore_index=UNKNOWN_LABEL,
        )
        heads = zip(logits, labels.unbind(1), self.letter_weights, strict=True)
        terms = [loss(scores.float(), truth, weight) for scores, truth, weight in heads]
        return torch.stack(terms).sum() / len(labels)

    def _update(self, metrics: GradeMetrics, batch: ImageBatch) -> None:
        logits = self.network(self.prepare(batch["image"]))
        metrics.update(logits, batch["labels"], self._loss(logits, batch["labels"]))

    def _log_metrics(self, metrics: GradeMetrics) -> dict[str, Tensor]:
        values = metrics.compute()
        metrics.reset()
        # in a fit, `_send` logs them by images shown; otherwise Lightning prints them
        self.log_dict(values, logger=self.trainer.state.fn != TrainerFn.FITTING, batch_size=1)
        return values

    def _send(self, row: Mapping[str, float]) -> None:
        for logger in self.trainer.loggers:
            logger.log_metrics(dict(row), step=self.images_shown)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the architecture and the images shown, as plain values."""
        checkpoint["blastogan"] = {
            "architecture": type(self).__name__,
            "images_shown": self.images_shown,
            **provenance(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the images shown; see `check_grader`."""
        check_grader(checkpoint, dict(self.hparams))
        check_weights(checkpoint["state_dict"], self.state_dict())
        self.images_shown = int(checkpoint["blastogan"]["images_shown"])

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls,
        checkpoint_path: str | Path | IO[bytes],
        map_location: Any = "cpu",
        **settings: Any,
    ) -> GradeClassifier:
        """Load a grader, ready to grade; the global random state is not used.

        Args:
            checkpoint_path: File, or a binary stream, of tensors and plain values only.
            map_location: Device of the grader.
            **settings: Hyper-parameters to change, such as ``lr``.

        Raises:
            UserError: If the file is missing, damaged, or holds another model.
        """
        checkpoint = _read(checkpoint_path)
        check_grader(checkpoint, {})
        name = str(checkpoint_path) if isinstance(checkpoint_path, (str, Path)) else "this stream"
        return build_saved(cls, checkpoint, settings, name).to(map_location).eval()


def balanced_weights(labels: Tensor, shown: Tensor | None = None) -> Tensor:
    """Weight of each letter, inverse to its frequency; the mean over the images shown is 1.

    Args:
        labels: int64 ``(N, 2)``, -1 if unknown.
        shown: Relative frequency at which each image is shown; ``None`` for equal frequencies.

    Returns:
        float32 ``(2, 4)``; 0 for letters without images.
    """
    weights = torch.ones(len(labels)) if shown is None else shown.float()
    counts = torch.stack(
        [
            each[each >= 0].bincount(weights[each >= 0], minlength=len(LETTERS))
            for each in labels.unbind(1)
        ]
    )
    present = counts > 0
    relative = counts / (weights.sum() / present.sum(dim=1, keepdim=True))
    return torch.where(present, 1 / relative, 0.0)


def check_grader(checkpoint: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Refuse a checkpoint that does not fit a `GradeClassifier` with these hyper-parameters.

    Raises:
        UserError: If it holds another model, or weights of other shapes.
    """
    check_checkpoint(checkpoint, GradeClassifier.__name__, settings)
    saved = checkpoint.get("hyper_parameters", {})
    different = [
        f"{name} is {saved[name]} in the checkpoint and {settings[name]} in the configuration"
        for name in ("backbone", "feature_dim")
        if name in saved and name in settings and saved[name] != settings[name]
    ]
    if different:
        raise UserError("the checkpoint does not fit the configuration: " + "; ".join(different))


def _read(source: str | Path | IO[bytes]) -> dict[str, Any]:
    if isinstance(source, (str, Path)):
        return read_trained(source)
    try:
        checkpoint = torch.load(source, map_location="cpu", weights_only=True)
    # a damaged file can raise nearly any exception
    except Exception as error:
        raise UserError("cannot read the checkpoint: it is damaged or not one") from error
    return checked_content(checkpoint, "this stream")
