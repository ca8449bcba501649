"""Loggers whose axis is kimg, thousands of images shown."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from pytorch_lightning.loggers import Logger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from blastogan.errors import UserError
from blastogan.runs.folder import LOG
from blastogan.runs.table import RunTable


class CSVLog(Logger):
    """One table of everything logged, ``metrics.csv`` in the run folder; one row per event.

    A resumed run continues the table: only rows after the place where it resumes are replaced.

    Args:
        save_dir: The run folder.
    """

    FILE = LOG

    def __init__(self, save_dir: str | Path) -> None:
        super().__init__()
        self._table = RunTable(Path(save_dir) / self.FILE)
        self._started = False
        self._resumed_at: float | None = None

    @property
    def name(self) -> str:
        """Name of the logger."""
        return "csv"

    @property
    def version(self) -> str:
        """Empty: the run folder is the version."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self._table.path.parent)

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the configuration has its own file."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Add a row with the metrics by column; `step` is the number of images shown."""
        kimg = (step or 0) / 1000
        if not self._started:
            self._started = True
            self._table.truncate(kimg, inclusive=True)
        # what follows the last image of a tick may have been logged before the run was stopped
        write = self._table.replace if kimg == self._resumed_at else self._table.append
        write({"kimg": kimg, **metrics})

    @rank_zero_only
    def resume_from(self, images_shown: int) -> None:
        """Keep the rows up to where a run resumes; it repeats the later ones, and replaces some."""
        self._started = True
        self._resumed_at = images_shown / 1000
        self._table.truncate(images_shown / 1000, inclusive=False)


class WandbLog(WandbLogger):
    """Weights & Biases with kimg as the axis and one log call per event.

    The run's id is stored in the run folder, so that a resumed run continues the same W&B run.

    Args:
        save_dir: The run folder.
        mode: ``online`` or ``offline``; offline runs are uploaded later by ``wandb sync``.
        project: Project of the run.

    Raises:
        UserError: If the mode is ``online`` and nobody is logged in.
    """

    ID_FILE = "wandb-run-id.txt"

    def __init__(
        self,
        save_dir: str | Path,
        mode: Literal["online", "offline"] = "online",
        project: str = "blastogan",
    ) -> None:
        folder = Path(save_dir)
        if mode == "online" and os.environ.get("WANDB_MODE") not in ("offline", "disabled"):
            import wandb

            if not wandb.login(prompt=False):
                raise UserError(
                    "W&B logging needs a login: run `wandb login` first, set WANDB_API_KEY, or log "
                    "offline with --wandb offline"
                )
        self._id_file = folder / self.ID_FILE
        known = self._id_file.read_text(encoding="utf-8").strip() if self._id_file.exists() else ""
        super().__init__(
            name=folder.name,
            save_dir=str(folder),
            id=known or secrets.token_hex(4),
            project=project,
            offline=mode == "offline",
            resume="allow",
        )

    @property
    def experiment(self) -> Any:
        """The W&B run, started by the first access."""
        started = self._experiment is not None
        run = super().experiment
        # other ranks get a dummy and keep no experiment
        if not started and self._experiment is not None:
            run.define_metric("kimg")
            run.define_metric("*", step_metric="kimg")
            self._id_file.write_text(run.id + "\n", encoding="utf-8")
        return run

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log one event; `step` is the number of images shown."""
        self.experiment.log({"kimg": (step or 0) / 1000, **metrics})


def takes_texts(logger: Logger) -> bool:
    """Whether a logger takes texts beside numbers; TensorBoard's, for one, fails."""
    return isinstance(logger, (CSVLog, WandbLogger))


def send_picture(logger: Logger, name: str, picture: Image.Image, images_shown: int) -> None:
    """Send a picture to a logger that takes images, such as W&B or TensorBoard."""
    if hasattr(logger, "log_image"):
        logger.log_image(name, [picture], step=images_shown)
        return
    add_image = getattr(getattr(logger, "experiment", None), "add_image", None)
    if add_image is not None:
        add_image(name, np.asarray(picture), images_shown, dataformats="HWC")
