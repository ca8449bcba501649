"""Generated images of ``predict`` as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import BasePredictionWriter

from blastogan.callbacks.growing import as_gan
from blastogan.data.export import write_image, write_table
from blastogan.grades import Grade
from blastogan.utils.sheets import to_hwc


class ImageWriter(BasePredictionWriter):
    """Write predictions as PNGs in class folders, with a ``metadata.csv``.

    Every device writes its own share; the table is written at the end by the first.

    Args:
        folder: Folder of the set, new or empty.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__(write_interval="batch")
        self.folder = Path(folder)

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write the images of a batch."""
        write_predictions(self.folder, prediction, graded=as_gan(pl_module).conditional)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the table."""
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            write_table(self.folder, "generated")


def write_predictions(folder: Path, prediction: Any, *, graded: bool) -> None:
    """Write what `BaseGANModule.predict_step` returns.

    Args:
        folder: Of the set.
        prediction: A batch.
        graded: Whether the model was told the grades; else the images have none.
    """
    for image, labels, index in zip(
        prediction["image"].cpu(),
        prediction["labels"].tolist(),
        prediction["index"].tolist(),
        strict=True,
    ):
        grade = Grade.from_labels(*labels).name if graded else None
        write_image(folder, "generated", index, grade, to_hwc(image))
