"""``blastogan fit|validate|test|predict``: Lightning's command line for the GANs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from pytorch_lightning import Trainer
from pytorch_lightning.cli import LightningArgumentParser
from torch.optim import Optimizer

from blastogan.callbacks import (
    TF32,
    DivergenceWatch,
    FadeIn,
    FidelityCallback,
    GracefulInterrupt,
    GrowthCheckpoint,
    GrowthProgress,
    ProgressiveGrowing,
    RandomState,
    SampleGrid,
    SplitRecord,
    TrainingLog,
)
from blastogan.callbacks.image_writer import ImageWriter
from blastogan.cli import base as run_cli
from blastogan.cli.base import RunCLI, RunConfig
from blastogan.cli.recipe import follow_recipe
from blastogan.data import BlastocystDataModule
from blastogan.errors import Requeue, RollBack, UserError
from blastogan.growth import GrowthSchedule
from blastogan.modules import ARCHITECTURES, BaseGANModule, GrowingDDPStrategy
from blastogan.modules.step.optimizers import DEFAULT
from blastogan.modules.transfer import TransferOptions, begin_with, check_begun
from blastogan.modules.transfer_source import read_origin
from blastogan.presets import find_config
from blastogan.runs.checkpoint_files import check_checkpoint, check_place
from blastogan.runs.folder import newest_config, run_of_checkpoint
from blastogan.runs.lock import is_first_process
from blastogan.runs.resume import config_to_resume, read_to_resume
from blastogan.runs.rollback import roll_back

_log = logging.getLogger(__name__)

CALLBACKS = {
    "growing": ProgressiveGrowing,
    "fade_in": FadeIn,
    "checkpoints": GrowthCheckpoint,
    "watch": DivergenceWatch,
    "training_log": TrainingLog,
    "progress": GrowthProgress,
    # after those that have a row to write
    "interrupt": GracefulInterrupt,
}
"""Callbacks that take the schedule, by the key of their options."""

LINKS = {
    "schedule.final_resolution": "model.init_args.resolution",
    "schedule.start_resolution": "model.init_args.start_resolution",
    "data.img_channels": "model.init_args.img_channels",
    "seed_everything": "data.seed",
}
"""Settings that stand once and are handed on."""


CONTRADICTIONS: dict[str, Any] = {
    "max_epochs": None,
    "min_epochs": None,
    "max_steps": -1,
    "min_steps": None,
    "limit_train_batches": None,
    "overfit_batches": 0.0,
    "fast_dev_run": False,
}
"""Options of the trainer that would cut growth short, with their values when unset."""

REPLACED: dict[str, tuple[Any, str]] = {
    "accumulate_grad_batches": (1, "--model.init_args.micro_batch"),
    "gradient_clip_val": (
        None,
        "--model.init_args.generator_clip and --model.init_args.discriminator_clip",
    ),
}
"""Options that Lightning has not for two networks: their values when unset, and what to use."""


class BlastoganCLI(RunCLI):
    """Lightning's command line with a schedule that stands once, and presets.

    Attributes:
        origin: What ``--transfer.checkpoint`` holds; ``None`` where a run does not begin with it.
    """

    origin: dict[str, Any] | None = None

    def __init__(self, args: Sequence[str]) -> None:
        super().__init__(
            BaseGANModule,
            BlastocystDataModule,
            save_config_callback=RunConfig,
            seed_everything_default=0,
            trainer_defaults={"use_distributed_sampler": False, "num_sanity_val_steps": 0},
            subclass_mode_model=True,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=self._resolve_configs(list(args)),
        )

    def settings_of_classes(self) -> list[str]:
        """Those of the networks."""
        names = dict.fromkeys(signature(BaseGANModule).parameters)
        for kind in ARCHITECTURES.values():
            names |= dict.fromkeys(signature(kind).parameters)
        return [f"model.init_args.{name}" for name in names if name != "training"]

    def _resolve_configs(self, args: list[str]) -> list[str]:
        """Replace names of presets by their files; without any, take that of the checkpoint."""
        resolved: list[str] = []
        checkpoint = None
        for n, arg in enumerate(args):
            before = args[n - 1] if n else ""
            option, _, value = arg.partition("=")
            if before in ("--config", "-c"):
                arg = str(find_config(arg))
                self.run_name = Path(arg).stem
            elif option in ("--config", "-c") and value:
                arg = f"--config={find_config(value)}"
                self.run_name = find_config(value).stem
            elif before == "--ckpt_path" or (option == "--ckpt_path" and value):
                checkpoint = value or arg
            resolved.append(arg)
        if any(arg.partition("=")[0] in ("--config", "-c", "--help", "-h") for arg in args):
            return resolved
        config = newest_config(run_of_checkpoint(checkpoint)) if checkpoint else None
        config = config or config_to_resume(args)
        if config is None:
            if checkpoint:
                check_place(Path(checkpoint))
            raise UserError(
                "no configuration given: add --config NAME, for instance --config demo, the "
                "--ckpt_path of a checkpoint in its run folder, or --resume and its --run_dir"
            )
        return [resolved[0], f"--config={config}", *resolved[1:]]

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add schedule, optimisers and callbacks, and link what belongs together."""
        super().add_arguments_to_parser(parser)
        parser.add_argument(
            "--scale_batch",
            type=bool,
            default=False,
            help="Take schedule.batch_size for that of one device, and multiply it by their "
            "number; else it is that of all devices together.",
        )
        parser.add_argument(
            "--recipe",
            type=bool,
            nargs="?",
            const=True,
            default=False,
            help="With fit: choose gamma, half-life, augmentation, conditioning and schedule by "
            "the training images, and say why; what is given by hand wins over it.",
        )
        parser.add_class_arguments(TransferOptions, "transfer")
        parser.add_class_arguments(GrowthSchedule, "schedule")
        parser.link_arguments("schedule", "data.schedule", apply_on="instantiate")
        for key, callback in CALLBACKS.items():
            parser.add_lightning_class_args(callback, key)
            parser.link_arguments("schedule", f"{key}.schedule", apply_on="instantiate")
        parser.add_lightning_class_args(TF32, "float32")
        parser.add_lightning_class_args(SampleGrid, "samples")
        parser.add_lightning_class_args(FidelityCallback, "fidelity")
        parser.link_arguments("schedule", "fidelity.schedule", apply_on="instantiate")
        for source, target in LINKS.items():
            parser.link_arguments(source, target)
        for key in ("generator_optimizer", "discriminator_optimizer"):
            parser.add_subclass_arguments(
                Optimizer, key, instantiate=False, skip={"params"}, fail_untyped=False
            )
            parser.link_arguments(key, f"model.init_args.{key}", compute_fn=_plain)
            parser.set_defaults({key: DEFAULT})

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse with the recipe, if one is asked for, between presets and what is given by hand."""
        args = follow_recipe(parser, args, self.run_name, _device_count)
        super().parse_arguments(parser, args)

    def before_instantiate_classes(self) -> None:
        """Refuse settings that contradict the schedule, and checkpoints that do not fit."""
        self._check_trainer()
        self._scale_batch()
        # what lies in a checkpoint is never run
        self.config[self.subcommand].weights_only = True
        if self.subcommand == "predict":
            # they are written as they come, not gathered
            self.config[self.subcommand].return_predictions = False
        path = self._get(self.config, "ckpt_path")
        if not path and self.subcommand == "predict":
            raise UserError("predict needs a model: add --ckpt_path RUN/checkpoints/last.ckpt")
        if not path and self.subcommand != "fit":
            _log.warning("no --ckpt_path: these are the metrics of an untrained network")
        if path:
            self.checkpoint = read_to_resume(path)
            name = self._get(self.config, "model").class_path.rpartition(".")[2]
            settings = self._get(self.config, "model").init_args.as_dict()
            check_checkpoint(self.checkpoint, name, settings)
        if self.subcommand == "fit":
            self._read_transfer(path)

    def _read_transfer(self, path: str | None) -> None:
        """Read the checkpoint that a new run is to begin with."""
        options = TransferOptions(**self._get(self.config, "transfer").as_dict())
        if path:
            check_begun(options, self.checkpoint or {})
        elif options.checkpoint is not None:
            self.origin = read_origin(options.checkpoint)

    def _check_trainer(self) -> None:
        trainer = self._get(self.config, "trainer")
        for name, unset in CONTRADICTIONS.items():
            if self.subcommand == "fit" and trainer.get(name, unset) != unset:
                raise UserError(
                    f"trainer.{name} contradicts the schedule, which alone says how long a run is: "
                    "change --schedule.hold_kimg and --schedule.fade_kimg instead"
                )
        for name, (unset, instead) in REPLACED.items():
            if trainer.get(name, unset) != unset:
                raise UserError(f"trainer.{name} does not work for a GAN: use {instead} instead")

    def _scale_batch(self) -> None:
        """Multiply the batches of the configuration, so that a resumed run finds the product."""
        config = self.config[self.subcommand]
        if not config.scale_batch:
            return
        devices = _device_count(config.trainer)
        sizes = config.schedule.batch_size
        scaled = (
            {resolution: size * devices for resolution, size in sizes.items()}
            if isinstance(sizes, dict)
            else sizes * devices
        )
        config.schedule.batch_size = scaled
        config.scale_batch = False
        _log.info("batch sizes, scaled to %d devices: %s", devices, scaled)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer for the schedule's length, in the run's folder."""
        growing = self._get(self.config_init, "growing")
        saved = (self.checkpoint or {}).get("callbacks", {}).get("ProgressiveGrowing")
        if saved is not None and self.subcommand == "fit":
            growing.load_state_dict(saved)
        folder = self._run_folder()
        settings = self._get(self.config_init, "trainer")
        extra: list[Any] = [RandomState(), SplitRecord()]
        if self.subcommand == "predict":
            extra.append(ImageWriter(folder))
        self.trainer_defaults = {**self.trainer_defaults, "callbacks": extra}
        if settings.get("enable_progress_bar") is False:
            self._parser(self.subcommand).callback_keys.remove("progress")
        own: dict[str, Any] = {
            "default_root_dir": str(folder),
            "max_epochs": growing.schedule.total_ticks,
            "logger": self._loggers(folder, settings.get("logger")),
        }
        if settings.get("strategy", "auto") == "auto" and _device_count(settings) > 1:
            own["strategy"] = GrowingDDPStrategy.strategy_name
        return super().instantiate_trainer(**{**own, **kwargs})

    def before_fit(self) -> None:
        """Read the data before anything is written, and say where everything goes."""
        if self.origin is not None:
            begin_with(self.model, self.origin, self._get(self.config_init, "transfer"))
            self.origin = None
        self.datamodule.setup("fit")
        if self.checkpoint and "BlastocystDataModule" in self.checkpoint:
            self.datamodule.load_state_dict(self.checkpoint["BlastocystDataModule"])
        _log.info("run folder: %s", self.trainer.default_root_dir)
        shown = (self.checkpoint or {}).get("blastogan", {}).get("images_shown", 0)
        if shown >= self.datamodule.schedule.total_images:
            self._end_at_once(shown)
        super().before_fit()

    def _end_at_once(self, shown: int) -> None:
        """Of a run that has ended, keep the configuration it was trained by; branch off nothing."""
        told = (
            f"this run has shown all {shown} images of its schedule: nothing is left. To train it "
            "longer, raise --schedule.hold_kimg of the last resolution"
        )
        path = Path(self._get(self.config_init, "ckpt_path"))
        if run_of_checkpoint(path).resolve() != Path(self.trainer.default_root_dir).resolve():
            raise UserError(f"{path}: {told}")
        _log.info("%s", told)
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, RunConfig):
                callback.needed = False

    def _run_subcommand(self, subcommand: str) -> None:
        """Set a run back that has gone wrong, if that is asked for."""
        try:
            super()._run_subcommand(subcommand)
        except RollBack as error:
            error.folder = Path(self.trainer.default_root_dir)
            error.several = self.trainer.world_size > 1
            if is_first_process():
                watch: DivergenceWatch = self._get(self.config_init, "watch")
                roll_back(error.folder, error, watch.max_rollbacks)
            raise

    def after_fit(self) -> None:
        """Say what there is to look at."""
        folder = Path(self.trainer.default_root_dir)
        sheets = sorted((folder / "samples").glob("kimg-*.png"))
        if sheets:
            _log.info("samples: %s", sheets[-1])
        _log.info("to generate images: blastogan generate %s OUT", folder / "checkpoints/last.ckpt")


def _plain(value: Any) -> Any:
    return value.as_dict() if isinstance(value, Namespace) else value


def _device_count(settings: Any) -> int:
    devices = settings.get("devices", "auto")
    nodes = int(settings.get("num_nodes", 1) or 1)
    if isinstance(devices, (list, tuple)):
        return len(devices) * nodes
    if str(devices) in ("auto", "-1"):
        on_gpu = settings.get("accelerator", "auto") in ("auto", "gpu", "cuda")
        return max(torch.cuda.device_count(), 1) * nodes if on_gpu else nodes
    if isinstance(devices, str) and "," in devices:
        return len(devices.strip(",").split(",")) * nodes
    return int(devices) * nodes


def run(args: Sequence[str]) -> int:
    """Run ``fit``, ``validate``, ``test`` or ``predict`` and return the exit code.

    A run that was set back goes on in this process; one on several devices is to be started again.

    Raises:
        Requeue: If the run is to be started again.
    """
    while True:
        try:
            return run_cli.run(BlastoganCLI, args)
        except RollBack as error:
            if error.several:
                raise Requeue from error
            args = [*_without(args, ("--run_dir", "--ckpt_path", "--resume"))]
            args += ["--run_dir", str(error.folder), "--resume", "true"]


def _without(args: Sequence[str], options: tuple[str, ...]) -> list[str]:
    """A command line without some options and their values."""
    kept: list[str] = []
    dropped = False
    for arg in args:
        is_value = dropped and not arg.startswith("-")
        dropped = arg.partition("=")[0] in options and "=" not in arg
        if not (is_value or arg.partition("=")[0] in options):
            kept.append(arg)
    return kept
