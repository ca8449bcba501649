"""Writes the generated images of ``predict`` to files."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import BasePredictionWriter

from blastogan.data.export import write_predictions, write_table
from blastogan.modules.base import as_gan

_log = logging.getLogger(__name__)


class ImageWriter(BasePredictionWriter):
    """Write each process's predictions as PNGs in class folders; at the end ``metadata.csv``.

    Args:
        folder: Output folder, new or empty.
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
            count = sum(1 for _ in self.folder.rglob("*.png"))
            _log.info("%d generated images in %s", count, self.folder)
