"""The split of a run, as a file in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from blastogan.data import BlastocystDataModule
from blastogan.data.split_file import write_split_file


class SplitRecord(Callback):
    """Writes ``split.csv`` into the run's folder, to be given back as ``--data.split_file``.

    A run that is resumed has the same split, so an existing file is left alone.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the split of the run's data module."""
        data: Any = getattr(trainer, "datamodule", None)
        path = Path(trainer.default_root_dir) / "split.csv"
        if isinstance(data, BlastocystDataModule) and trainer.is_global_zero and not path.exists():
            write_split_file(path, data.records, data.split, data.root)
