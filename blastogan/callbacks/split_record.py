"""Writes the data split of a run into its folder."""

from __future__ import annotations

import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from blastogan.data import BlastocystDataModule
from blastogan.data.split_file import write_split_file
from blastogan.utils.files import atomic_write

_log = logging.getLogger(__name__)


class SplitRecord(Callback):
    """Write ``split.csv`` into the run folder, for use as ``--data.split_file``.

    A resumed run with the same split leaves the file unchanged. If the folder has a different
    split, this one is written to ``split-2.csv``, and so on.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the split of the run's data module."""
        data: Any = getattr(trainer, "datamodule", None)
        if not isinstance(data, BlastocystDataModule) or not trainer.is_global_zero:
            return
        with TemporaryDirectory() as temporary:
            path = Path(temporary) / "split.csv"
            write_split_file(path, data.records, data.split, data.root)
            content = path.read_bytes()
        folder = Path(trainer.default_root_dir)
        number, path = 1, folder / "split.csv"
        while path.exists() and path.read_bytes() != content:
            number += 1
            path = folder / f"split-{number}.csv"
        if path.exists():
            return
        with atomic_write(path) as part:
            part.write_bytes(content)
        if number > 1:
            _log.warning(
                "%s has the split of another run: the split of this run is in %s", folder, path.name
            )
