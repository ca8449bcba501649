"""A trained generator: samples, evaluation, checkpoints."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from blastogan.data.stream import ImageBatch
from blastogan.errors import UserError
from blastogan.generators.latents import PredictionBatch, complete_labels
from blastogan.generators.sampling import Sampler
from blastogan.grades import LABEL_SIZES
from blastogan.metrics.sets import ImageSetMetrics
from blastogan.modules.step.loading import build_saved
from blastogan.modules.step.ranks import agreed, gathered
from blastogan.networks.layers import downsample, fade, upsample
from blastogan.networks.progressive import ProgressiveGenerator
from blastogan.runs.checkpoint_files import check_checkpoint, read_checkpoint
from blastogan.utils.pixels import to_float
from blastogan.utils.seeding import derive_seed
from blastogan.utils.version import provenance

_log = logging.getLogger(__name__)

Self = TypeVar("Self", bound="GeneratingModule")


class GeneratingModule(Sampler, LightningModule):
    """A generator with its moving average, and the state of its growth.

    The growing callbacks set `resolution` and `alpha`; without them the network is fully grown.

    Attributes:
        generator: Network to train.
        generator_ema: Moving average of `generator`; samples, metrics and exports use it.
        grade_counts: int64 ``(4, 4)``, number of reals seen by ICM and TE letter.
        images_shown: Images trained on so far, summed over devices.
        resolution: Resolution in pixels of the next step.
        alpha: Weight of the newest resolution in the next step, 0 to 1.
        ramp_kimg: See `BaseGANModule`.
    """

    generator: ProgressiveGenerator

    def set_generator(
        self, generator: ProgressiveGenerator, ramp_kimg: Sequence[float] | None = None
    ) -> None:
        """Take a new generator, copy it as its moving average, and start at no images shown."""
        self.ramp_kimg = ramp_kimg
        self.generator = generator
        self.generator_ema = copy.deepcopy(generator).requires_grad_(False)
        self.images_shown = 0
        self.resolution = generator.resolution
        self.alpha = 1.0
        self.register_buffer("grade_counts", torch.zeros(LABEL_SIZES, dtype=torch.int64))
        self.val_metrics = ImageSetMetrics()
        self.test_metrics = ImageSetMetrics()

    def prepare_reals(self, images: Tensor) -> Tensor:
        """Floats in [-1, 1] of uint8 images ``(B, C, R, R)``, cross-faded as D fades.

        During a fade, reals change from half the resolution to their own by the same resize as in
        the skip path of D, so that D cannot recognise reals by their sharpness.
        """
        reals = to_float(images)
        if self.alpha < 1.0 and self.resolution > self.generator.start_resolution:
            reals = fade(upsample(downsample(reals)), reals, self.alpha)
        return reals

    def drawn_labels(self, indices: Sequence[int], labels: Tensor, *, seed: int) -> Tensor:
        """Labels int64 ``(B, 2)`` whose unknown letters are drawn like those seen in training.

        The draw of a sample follows from its number and the seed.
        """
        if not (labels < 0).any():
            return labels
        u = [torch.Generator().manual_seed(derive_seed(seed, "unknown", n)) for n in indices]
        uniform = torch.cat([torch.rand(1, generator=each) for each in u])
        return complete_labels(labels, self.grade_counts, uniform.to(labels.device))

    # -- evaluation -------------------------------------------------------------------------------

    def validation_step(self, batch: ImageBatch, batch_idx: int) -> None:
        """Compare reals with samples of the same grades, at the final resolution."""
        self._update_metrics(self.val_metrics, batch)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the validation set."""
        self._log_metrics(self.val_metrics)

    def test_step(self, batch: ImageBatch, batch_idx: int) -> None:
        """See `validation_step`, on the test set."""
        self._update_metrics(self.test_metrics, batch)

    def on_test_epoch_end(self) -> None:
        """Log the metrics of the test set."""
        self._log_metrics(self.test_metrics)

    def _update_metrics(self, metrics: ImageSetMetrics, batch: ImageBatch) -> None:
        index = batch["index"].tolist()
        labels = self.drawn_labels(index, batch["labels"], seed=0)
        fakes = self.sample_enlarged(index, labels, seed=0)
        metrics.update(batch["image"], fakes, batch["index"])

    def _log_metrics(self, metrics: ImageSetMetrics) -> None:
        # in a fit, `TrainingLog` logs them against images shown; otherwise Lightning prints them
        to_logger = self.trainer.state.fn != TrainerFn.FITTING
        parts = gathered(metrics.rank_part())
        metrics.merge(parts)
        values = agreed(metrics.compute() if parts else {})
        self.log_dict(values, logger=to_logger, batch_size=1)
        metrics.reset()

    def predict_step(self, batch: PredictionBatch, batch_idx: int) -> dict[str, Tensor]:
        """Generate the samples of a prediction batch.

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
            **provenance(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the state of growth.

        Raises:
            UserError: If the checkpoint is of another architecture or of other sizes.
        """
        check_checkpoint(checkpoint, type(self).__name__, dict(self.hparams))
        state = checkpoint["blastogan"]
        self.images_shown = int(state["images_shown"])
        before = checkpoint.get("hyper_parameters", {}).get("ramp_kimg")
        if before is not None and self.ramp_kimg is not None and [*before] != [*self.ramp_kimg]:
            _log.warning(
                "ramp_kimg changes from %s to %s: at %g kimg the weight of the grade is %.0f %%",
                [*before],
                [*self.ramp_kimg],
                self.images_shown / 1000,
                100 * self.condition_weight,
            )
        if bool((checkpoint["state_dict"]["grade_counts"] < 0).any()):
            raise UserError("the checkpoint is damaged: its grade_counts are negative")
        self.resolution = self.generator.check_growth(state["resolution"], state["alpha"])
        self.alpha = float(state["alpha"])

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
        if hparams_file is not None:
            raise UserError("hparams_file is not read: give changed settings by keyword")
        checkpoint = read_checkpoint(checkpoint_path)
        check_checkpoint(checkpoint, cls.__name__, {})
        module = build_saved(cls, checkpoint, kwargs, str(checkpoint_path), strict is not False)
        return module.to(map_location or "cpu").eval()
