"""``blastogan grade fit|validate|test``: Lightning's command line for the grade classifier."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.cli import LightningArgumentParser
from pytorch_lightning.trainer.states import TrainerFn

from blastogan.callbacks.stopping import is_out_of_time, stopped_by
from blastogan.cli import base
from blastogan.cli.base import RunCLI
from blastogan.data import GradeDataModule
from blastogan.errors import Requeue, UserError
from blastogan.modules.grade_classifier import GradeClassifier, check_grader
from blastogan.recipe.recipe import in_yaml
from blastogan.runs.checkpoint_files import read_to_resume
from blastogan.runs.checkpoint_io import checkpoint_folder, write_checkpoints_atomically
from blastogan.utils.files import unused_file, write_json

_log = logging.getLogger(__name__)


class GradeCLI(RunCLI):
    """Lightning's command line for `GradeClassifier`, with the run folders of the GANs."""

    offered = ("fit", "validate", "test")
    run_name = "grader"
    time_interval = "epoch"

    def __init__(self, args: Sequence[str]) -> None:
        super().__init__(
            GradeClassifier,
            GradeDataModule,
            trainer_defaults={"max_epochs": 10},
            parser_kwargs={"prog": "blastogan grade"},
            args=args,
        )

    def config_of_run(self) -> Path | None:
        """Configuration of the run to resume or test; its checkpoint must be a grader's."""
        if self.given.ckpt_path:
            check_grader(read_to_resume(self.given.ckpt_path), {})
        return super().config_of_run()

    def options_of_checkpoint(self) -> list[str]:
        """Hyper-parameters of a grader that a script has trained."""
        settings = dict(read_to_resume(self.given.ckpt_path).get("hyper_parameters", {}))
        shared = {"resolution": "data.resolution", "img_channels": "data.img_channels"}
        names = {name: shared.get(name, f"model.{name}") for name in settings}
        return [f"--{names[name]}={in_yaml(value)}" for name, value in settings.items()]

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Link the settings that the network shares with the data."""
        super().add_arguments_to_parser(parser)
        parser.link_arguments("data.resolution", "model.resolution")
        parser.link_arguments("data.img_channels", "model.img_channels")
        parser.link_arguments("seed_everything", "data.seed")

    def before_instantiate_classes(self) -> None:
        """Refuse checkpoints that do not fit, and metrics of an untrained grader."""
        super().before_instantiate_classes()
        if self.checkpoint:
            check_grader(self.checkpoint, self._get(self.config, "model").as_dict())
        elif self.subcommand != "fit":
            raise UserError(
                f"{self.subcommand} needs a grader: add --ckpt_path RUN/checkpoints/best.ckpt"
            )

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer, without a bar where it would fill a file: the module logs epochs."""
        bar = self._get(self.config_init, "trainer").get("enable_progress_bar")
        bar = sys.stderr.isatty() if bar is None else bar
        return super().instantiate_trainer(**{"enable_progress_bar": bar, **kwargs})

    def callbacks_in(self, folder: Path) -> list[Callback]:
        """The checkpoints, by the validation images if there are any."""
        if self.subcommand == "fit":
            # fail on bad data before anything is written
            self.datamodule.setup("fit")
        weak = "val" in self.datamodule.weak_parts
        best = bool(self.datamodule.split.get("val")) and not weak
        if weak and self.subcommand == "fit":
            _log.warning("no best.ckpt is kept: val is too small to choose by; use last.ckpt")
        return [_Interrupted(), *kept_checkpoints(folder / "checkpoints", best)]

    def report_end(self, folder: Path) -> None:
        """Log it if all epochs are trained."""
        epochs, done = self.trainer.max_epochs, self.checkpoint.get("epoch", -1) + 1
        if epochs is not None and 0 <= epochs <= done:
            _log.info(
                "this run has trained its %d epochs, nothing is left: to continue, add "
                "--trainer.max_epochs with more",
                done,
            )

    def before_fit(self) -> None:
        """Write checkpoints atomically."""
        super().before_fit()
        write_checkpoints_atomically(self.trainer)

    def after_test(self) -> None:
        """Write the metrics into the folder of the run, then print them."""
        values = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        content = {"checkpoint": self._get(self.config_init, "ckpt_path"), "values": values}
        content |= self.datamodule.plan.position()
        folder = Path(self.trainer.default_root_dir)
        path = unused_file(folder / f"grade-test-{self.model.images_shown / 1000:g}.json")
        write_json(content, path)
        _log.info("written: %s", path)
        super().after_test()

    def after_fit(self) -> None:
        """Log where the grader is and how to use it, or that not all epochs are trained.

        Raises:
            Requeue: If the time limit has stopped it.
        """
        done, epochs = self.trainer.current_epoch, self.trainer.max_epochs
        if epochs is not None and done < epochs:
            cause = f"stopped by {stopped_by(self.trainer)} after {done} of {epochs} epochs"
            if is_out_of_time(self.trainer):
                raise Requeue(f"{cause}; to continue, add --resume")
            _log.warning("%s; to continue, add --resume", cause)
        folder = checkpoint_folder(self.trainer)
        names = ("best.ckpt", "last.ckpt")
        if best := next((folder / name for name in names if (folder / name).exists()), None):
            _log.info(
                "grader: %s; to test it: blastogan grade test --ckpt_path %s; to compare "
                "images by its features: blastogan evaluate REAL FAKE --extractor grader "
                "--weights %s",
                *[quote(str(best))] * 3,
            )


class _Interrupted(Callback):
    """On Ctrl-C, log how to resume; training since the last epoch is lost."""

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        last = checkpoint_folder(trainer) / "last.ckpt"
        in_fit = trainer.state.fn == TrainerFn.FITTING
        if in_fit and isinstance(exception, KeyboardInterrupt) and last.exists():
            _log.warning(
                "stopped; the last epoch is in %s; the same command with --resume continues",
                quote(str(last)),
            )


def kept_checkpoints(folder: Path, best: bool) -> list[Callback]:
    """Callbacks that keep ``last.ckpt`` and, with validation images, the `best` by kappa."""
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
