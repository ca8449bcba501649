"""``blastogan grade fit|validate|test``: Lightning's command line for the grade classifier."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.cli import LightningArgumentParser
from pytorch_lightning.trainer.states import TrainerFn

from blastogan.callbacks import RandomState, SplitRecord
from blastogan.cli import base
from blastogan.cli.base import RunCLI
from blastogan.data import GradeDataModule
from blastogan.errors import UserError
from blastogan.modules.grade_classifier import GradeClassifier, check_grader
from blastogan.runs.checkpoint_files import read_to_resume
from blastogan.runs.checkpoint_io import write_checkpoints_atomically
from blastogan.utils.terminal import track

_log = logging.getLogger(__name__)

LINKS = {
    "data.resolution": "model.resolution",
    "data.img_channels": "model.img_channels",
    "seed_everything": "data.seed",
}
"""Settings that are given once, and what takes them."""


class GradeCLI(RunCLI):
    """Lightning's command line for `GradeClassifier`, with the run folders of the GANs."""

    offered = ("fit", "validate", "test")
    run_name = "grader"

    def __init__(self, args: Sequence[str]) -> None:
        super().__init__(
            GradeClassifier,
            GradeDataModule,
            trainer_defaults={
                "max_epochs": 10,
                "use_distributed_sampler": False,
                "num_sanity_val_steps": 0,
            },
            parser_kwargs={"prog": "blastogan grade"},
            args=args,
        )

    def config_of_run(self) -> Path | None:
        """Configuration of the run to resume or test; its checkpoint must be a grader's."""
        if self.given.ckpt_path:
            check_grader(read_to_resume(self.given.ckpt_path), {})
        return super().config_of_run()

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Link the settings that the network shares with the data."""
        super().add_arguments_to_parser(parser)
        for source, target in LINKS.items():
            parser.link_arguments(source, target)

    def before_instantiate_classes(self) -> None:
        """Refuse checkpoints that do not fit, and metrics of an untrained grader."""
        # never run code from a checkpoint
        self.config[self.subcommand].weights_only = True
        path = self._get(self.config, "ckpt_path")
        if not path and self.subcommand != "fit":
            raise UserError(
                f"{self.subcommand} needs a grader: add --ckpt_path RUN/checkpoints/best.ckpt"
            )
        self.checkpoint = read_to_resume(path) if path else None
        if self.checkpoint is not None:
            check_grader(self.checkpoint, self._get(self.config, "model").as_dict())

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer in the run's folder, with checkpoints, loggers and random state."""
        folder = self._run_folder()
        # fail on bad data before anything is written
        data: GradeDataModule = self._get(self.config_init, "data")
        if self.subcommand == "fit":
            data.track = track
            data.setup("fit")
        settings = self._get(self.config_init, "trainer")
        callbacks: list[Callback] = [
            RandomState(),
            SplitRecord(),
            _Interrupted(),
            *kept_checkpoints(folder / "checkpoints", best=bool(data.split.get("val"))),
        ]
        self.trainer_defaults = {**self.trainer_defaults, "callbacks": callbacks}
        bar = settings.get("enable_progress_bar")
        own = {
            "default_root_dir": str(folder),
            "logger": self._loggers(folder, settings.get("logger")),
            # the module logs a line per epoch
            "enable_progress_bar": sys.stderr.isatty() if bar is None else bar,
        }
        return super().instantiate_trainer(**{**own, **kwargs})

    def before_fit(self) -> None:
        """Refuse a checkpoint of other data, and log the run folder."""
        saved = self.checkpoint or {}
        if GradeDataModule.__name__ in saved:
            self.datamodule.load_state_dict(saved[GradeDataModule.__name__])
        _log.info("run folder: %s", self.trainer.default_root_dir)
        epochs, done = self.trainer.max_epochs, saved.get("epoch", -1) + 1
        if epochs is not None and 0 <= epochs <= done:
            _log.info(
                "this run has trained its %d epochs, nothing is left: to go on, add "
                "--trainer.max_epochs with more",
                done,
            )
        write_checkpoints_atomically(self.trainer)
        super().before_fit()

    def after_fit(self) -> None:
        """Log where the grader is and how to use it."""
        folder = Path(self.trainer.default_root_dir) / "checkpoints"
        best = next((path for path in _paths(folder) if path.exists()), None)
        if best is not None:
            _log.info(
                "grader: %s; to test it: blastogan grade test --ckpt_path %s; to compare "
                "images by its features: blastogan evaluate REAL FAKE --extractor grader "
                "--weights %s",
                *[best] * 3,
            )


class _Interrupted(Callback):
    """On Ctrl-C, log how to go on; training since the last epoch is lost."""

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        _, last = _paths(Path(trainer.default_root_dir) / "checkpoints")
        in_fit = trainer.state.fn == TrainerFn.FITTING
        if in_fit and isinstance(exception, KeyboardInterrupt) and last.exists():
            _log.warning("stopped; to go on from the last epoch, add --ckpt_path %s", last)


def _paths(folder: Path) -> tuple[Path, Path]:
    return folder / "best.ckpt", folder / "last.ckpt"


def kept_checkpoints(folder: Path, best: bool) -> list[Callback]:
    """Callbacks that keep ``last.ckpt`` and, by kappa, ``best.ckpt``.

    Args:
        folder: Folder of the checkpoints.
        best: Whether there are validation images to choose the best by.
    """
    settings: dict[str, Any] = {
        "dirpath": folder,
        "enable_version_counter": False,
        "save_on_train_epoch_end": True,
    }
    by_kappa = [ModelCheckpoint(filename="best", monitor="kappa", mode="max", **settings)]
    # with save_last, the last epoch would be saved only where it is the best
    return [*(by_kappa if best else []), ModelCheckpoint(filename="last", **settings)]


def grade(args: Sequence[str]) -> int:
    """Run ``fit``, ``validate`` or ``test`` and return the exit code."""
    # a resumed run writes to its own folder
    warnings.filterwarnings("ignore", message=r".*checkpoints exists and is not empty.*")
    return base.run(GradeCLI, args)
