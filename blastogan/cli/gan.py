"""``blastogan fit|validate|test|predict``: Lightning's command line for the GANs."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from pytorch_lightning import Callback, Trainer
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
    SampleGrid,
    TrainingLog,
)
from blastogan.callbacks.image_writer import ImageWriter
from blastogan.cli import base
from blastogan.cli.base import RunCLI, RunConfig
from blastogan.cli.parser import RunParser
from blastogan.cli.recipe import follow_recipe
from blastogan.data import BlastocystDataModule
from blastogan.errors import UserError
from blastogan.growth import GrowthSchedule
from blastogan.modules import ARCHITECTURES, BaseGANModule, GrowingDDPStrategy
from blastogan.modules.step.optimizers import DEFAULT
from blastogan.modules.transfer import (
    TransferOptions,
    check_initialized_from,
    initialize_from,
    read_source,
)
from blastogan.recipe.rules import times
from blastogan.runs.checkpoint_files import check_checkpoint, check_place
from blastogan.runs.folder import run_of_checkpoint

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

CONTRADICTIONS: dict[str, Any] = {
    "max_epochs": None,
    "min_epochs": None,
    "max_steps": -1,
    "min_steps": None,
    "limit_train_batches": None,
    "overfit_batches": 0.0,
    "fast_dev_run": False,
}
"""Options of the trainer that would end growth early: their values when unset."""

REPLACED: dict[str, tuple[Any, str]] = {
    "accumulate_grad_batches": (1, "micro_batch"),
    "gradient_clip_val": (None, "generator_clip and discriminator_clip"),
}
"""Options for one network only: their values when unset, and the model's options instead."""


class GANParser(RunParser):
    """A parser whose hints know the settings of the networks."""

    classes = {"model.init_args": tuple(ARCHITECTURES.values())}  # noqa: RUF012


class BlastoganCLI(RunCLI):
    """Lightning's command line with one schedule for all, and presets."""

    source: dict[str, Any] | None = None
    """Content of ``--transfer.checkpoint``; ``None`` without one."""

    def __init__(self, args: Sequence[str]) -> None:
        super().__init__(
            BaseGANModule,
            BlastocystDataModule,
            parser_class=GANParser,
            subclass_mode_model=True,
            args=args,
        )

    def config_of_run(self) -> Path:
        """Configuration of the run that is named, which must have one."""
        if found := super().config_of_run():
            return found
        if self.given.ckpt_path:
            check_place(Path(self.given.ckpt_path))
        raise UserError(
            "no configuration given: add --config NAME, for instance --config demo, the "
            "--ckpt_path of a checkpoint in its run folder, or --resume and its --run_dir"
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add schedule, optimisers and callbacks, and link what belongs together."""
        super().add_arguments_to_parser(parser)
        text = (
            "Take schedule.batch_size as the batch of one device and multiply it by their number; "
            "otherwise it is the batch of all devices together."
        )
        parser.add_argument("--scale_batch", type=bool, default=False, help=text)
        text = (
            "With fit: choose gamma, half-life, augmentation, conditioning and schedule from the "
            "training images, and print the reasons; options given by hand win."
        )
        parser.add_argument("--recipe", type=bool, nargs="?", const=True, default=False, help=text)
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
        parser.link_arguments("schedule.final_resolution", "model.init_args.resolution")
        parser.link_arguments("schedule.start_resolution", "model.init_args.start_resolution")
        parser.link_arguments("data.img_channels", "model.init_args.img_channels")
        parser.link_arguments("seed_everything", "data.seed")
        for key in ("generator_optimizer", "discriminator_optimizer"):
            parser.add_subclass_arguments(
                Optimizer, key, instantiate=False, skip={"params"}, fail_untyped=False
            )
            parser.link_arguments(key, f"model.init_args.{key}", compute_fn=_plain)
            parser.set_defaults({key: DEFAULT})

    def parse(self, parser: LightningArgumentParser, args: list[str]) -> Namespace:
        """Parse with a recipe, if one is asked for, between presets and what is given by hand."""
        if self.given.config:
            self.run_name = Path(self.given.config[-1]).stem
        # the configuration is printed when it is complete
        silent = [arg for arg in args if not arg.startswith("--print_config")]
        config = parser.parse_args(silent)
        if config.subcommand != "fit":
            if self.given.recipe is not None:
                raise UserError("--recipe is of fit: elsewhere, give the config.yaml of the run")
        elif config.fit.recipe:
            devices = _device_count(config.fit.trainer) if config.fit.scale_batch else 1
            chosen = follow_recipe(parser, silent, config, self.run_name, devices)
            return parser.parse_args([*args, *chosen])
        return config if args == silent else parser.parse_args(args)

    def before_instantiate_classes(self) -> None:
        """Refuse settings that contradict the schedule, and checkpoints that do not fit."""
        self._check_trainer()
        self._scale_batch()
        super().before_instantiate_classes()
        if self.subcommand == "predict":
            # they are written one by one, not collected
            self.config[self.subcommand].return_predictions = False
            if not self.checkpoint:
                raise UserError("predict needs a model: add --ckpt_path RUN/checkpoints/last.ckpt")
        if self.checkpoint:
            model = self._get(self.config, "model")
            name = model.class_path.rpartition(".")[2]
            check_checkpoint(self.checkpoint, name, model.init_args.as_dict())
        elif self.subcommand != "fit":
            _log.warning("no --ckpt_path: these are the metrics of an untrained network")
        if self.subcommand == "fit":
            options = TransferOptions(**self._get(self.config, "transfer").as_dict())
            if self.checkpoint:
                check_initialized_from(options, self.checkpoint)
            elif options.checkpoint is not None:
                self.source = read_source(options.checkpoint)

    def _check_trainer(self) -> None:
        trainer = self._get(self.config, "trainer")
        for name, unset in CONTRADICTIONS.items():
            if self.subcommand == "fit" and trainer.get(name, unset) != unset:
                raise UserError(
                    f"trainer.{name} contradicts the schedule, which sets the length of a run: "
                    "change --schedule.hold_kimg and --schedule.fade_kimg instead"
                )
        for name, (unset, instead) in REPLACED.items():
            if trainer.get(name, unset) != unset:
                option = f"--model.init_args.{instead}"
                raise UserError(f"trainer.{name} does not work for a GAN: use {option}")

    def _scale_batch(self) -> None:
        """Multiply the batches in the configuration, where a resumed run finds the product."""
        config = self.config[self.subcommand]
        if not config.scale_batch:
            return
        devices = _device_count(config.trainer)
        config.schedule.batch_size = scaled = times(config.schedule.batch_size, devices)
        config.scale_batch = False
        _log.info("batch sizes, scaled to %d devices: %s", devices, scaled)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer for the schedule's length."""
        growing = self._get(self.config_init, "growing")
        saved = self.checkpoint.get("callbacks", {}).get("ProgressiveGrowing")
        if saved is not None and self.subcommand == "fit":
            growing.load_state_dict(saved)
        settings = self._get(self.config_init, "trainer")
        if settings.get("enable_progress_bar") is False:
            self._parser(self.subcommand).callback_keys.remove("progress")
        own: dict[str, Any] = {"max_epochs": growing.schedule.total_ticks}
        if settings.get("strategy", "auto") == "auto" and _device_count(settings) > 1:
            own["strategy"] = GrowingDDPStrategy.strategy_name
        return super().instantiate_trainer(**{**own, **kwargs})

    def callbacks_in(self, folder: Path) -> list[Callback]:
        """What writes generated images."""
        return [ImageWriter(folder)] if self.subcommand == "predict" else []

    def before_fit(self) -> None:
        """Transfer weights, and read the data before anything is written."""
        if self.source is not None:
            initialize_from(self.model, self.source, self._get(self.config_init, "transfer"))
            self.source = None
        self.datamodule.setup("fit")
        super().before_fit()

    def report_end(self, folder: Path) -> None:
        """Keep the configuration of a run that has ended; refuse to branch off from it."""
        shown = self.checkpoint.get("blastogan", {}).get("images_shown", 0)
        if shown < self.datamodule.schedule.total_images:
            return
        message = (
            f"this run has shown all {shown} images of its schedule: nothing is left. To train it "
            "longer, raise --schedule.hold_kimg of the last resolution"
        )
        path = Path(self._get(self.config_init, "ckpt_path"))
        if run_of_checkpoint(path).resolve() != folder.resolve():
            raise UserError(f"{path}: {message}")
        _log.info("%s", message)
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, RunConfig):
                callback.needed = False

    def after_fit(self) -> None:
        """Log where the samples are, and how to generate more."""
        folder = Path(self.trainer.default_root_dir)
        sheets = sorted((folder / "samples").glob("kimg-*.png"))
        if sheets:
            _log.info("samples: %s", sheets[-1])
        _log.info(
            "to generate images: blastogan generate %s OUT",
            shlex.quote(str(folder / "checkpoints/last.ckpt")),
        )


def _plain(value: Any) -> Any:
    return value.as_dict() if isinstance(value, Namespace) else value


def _device_count(settings: Any) -> int:
    devices = settings.get("devices", "auto")
    nodes = int(settings.get("num_nodes", 1) or 1)
    if isinstance(devices, str) and "," in devices:
        devices = devices.strip(",").split(",")
    if isinstance(devices, (list, tuple)):
        return len(devices) * nodes
    if str(devices) in ("auto", "-1"):
        on_gpu = settings.get("accelerator", "auto") in ("auto", "gpu", "cuda")
        return max(torch.cuda.device_count(), 1) * nodes if on_gpu else nodes
    return int(devices) * nodes


def _run(subcommand: str, args: Sequence[str]) -> int:
    return base.run(BlastoganCLI, [subcommand, *args])


fit, validate, test, predict = (partial(_run, name) for name in RunCLI.offered)
