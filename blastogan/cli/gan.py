"""``blastogan fit|validate|test|predict``: Lightning's command line for the GANs."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Any

import torch
from jsonargparse import Namespace
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.cli import LightningArgumentParser
from torch.optim import Optimizer

from blastogan.callbacks.checkpoints import owes_evaluation
from blastogan.callbacks.defaults import DEFAULT_CALLBACKS, takes_schedule
from blastogan.callbacks.image_writer import ImageWriter
from blastogan.callbacks.stopping import stopped_by
from blastogan.cli import base
from blastogan.cli.base import RunCLI, RunConfig
from blastogan.cli.parser import RunParser
from blastogan.cli.plan import MIN_IMAGES, make_plan
from blastogan.cli.recipe import follow_recipe
from blastogan.data import BlastocystDataModule
from blastogan.data.readers import ReaderOptions, scan_graded_images
from blastogan.errors import Requeue, UserError
from blastogan.grades import grading_of
from blastogan.growth import GrowthSchedule
from blastogan.modules import ARCHITECTURES, BaseGANModule, GrowingDDPStrategy
from blastogan.modules.step.grades import describe_options, options_for_grades
from blastogan.modules.step.optimizers import DEFAULT
from blastogan.modules.transfer import (
    TransferOptions,
    check_initialized_from,
    initialize_from,
    read_source,
)
from blastogan.recipe.rules import times
from blastogan.runs.checkpoint_files import check_checkpoint, check_place, read_to_resume
from blastogan.runs.folder import RUNS, run_of_checkpoint
from blastogan.runs.lock import is_first_process
from blastogan.utils.terminal import show_tables

_log = logging.getLogger(__name__)

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

    def __init__(self, args: Sequence[str], **settings: Any) -> None:
        super().__init__(
            BaseGANModule,
            BlastocystDataModule,
            parser_class=GANParser,
            subclass_mode_model=True,
            trainer_defaults={"enable_model_summary": False},
            args=args,
            **settings,
        )

    def config_of_run(self) -> Path | None:
        """Configuration of the run that is named; fit must have one."""
        if found := super().config_of_run():
            return found
        if self.given.ckpt_path:
            check_place(Path(self.given.ckpt_path))
            if self.asked != ["fit"]:
                return None
        raise UserError(
            "no configuration given: add --config NAME, for instance --config demo, the "
            "--ckpt_path of a checkpoint in its run folder, or --resume and its --run_dir"
        )

    def options_of_checkpoint(self) -> list[str]:
        """Architecture, hyper-parameters and schedule, for a checkpoint that a script has written.

        Raises:
            UserError: If the architecture is unknown.
        """
        checkpoint = read_to_resume(self.given.ckpt_path)
        name = checkpoint["blastogan"].get("architecture")
        if name not in ARCHITECTURES:
            return []  # what fits is checked later
        settings = dict(checkpoint.get("hyper_parameters", {}))
        sizes = {
            "final_resolution": settings.pop("resolution", 256),
            "start_resolution": settings.pop("start_resolution", 4),
        }
        growing = checkpoint.get("callbacks", {}).get("ProgressiveGrowing", {})
        options = {"schedule": growing.get("schedule", sizes)}
        # of training only, and options of their own on the command line
        for key in ("generator_optimizer", "discriminator_optimizer"):
            settings.pop(key, None)
        options["data.img_channels"] = settings.pop("img_channels", 1)
        options["model"] = {"class_path": name, "init_args": settings}
        _log.info(
            "%s has no configuration: network and schedule are those of the checkpoint; give the "
            "--data options of its training",
            self.given.ckpt_path,
        )
        return [f"--{key}={json.dumps(value, default=str)}" for key, value in options.items()]

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
        flag: dict[str, Any] = {"type": bool, "nargs": "?", "const": True, "default": False}
        text = "With fit: show phases, time, disk and memory, and end."
        parser.add_argument("--dry_run", **flag, help=text)
        text = "With fit: begin although the run will take days on a CPU."
        parser.add_argument("--yes", **flag, help=text)
        parser.add_class_arguments(TransferOptions, "transfer")
        parser.add_class_arguments(GrowthSchedule, "schedule")
        parser.link_arguments("schedule", "data.schedule", apply_on="instantiate")
        for key, callback in DEFAULT_CALLBACKS.items():
            parser.add_lightning_class_args(callback, key)
            if takes_schedule(callback):
                parser.link_arguments("schedule", f"{key}.schedule", apply_on="instantiate")
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
        config = super().parse(parser, silent)
        if config.subcommand != "fit":
            if self.given.recipe is not None:
                raise UserError("--recipe is of fit: elsewhere, give the config.yaml of the run")
        elif config.fit.recipe:
            devices = _device_count(config.fit.trainer) if config.fit.scale_batch else 1
            chosen = follow_recipe(parser, silent, config, self.run_name, devices)
            return super().parse(parser, [*args, *chosen])
        return config if args == silent else super().parse(parser, args)

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
        elif self.subcommand == "fit":
            self._fit_to_grades()
        else:
            _log.warning("no --ckpt_path: these are the metrics of an untrained network")
        if self.subcommand == "fit":
            options = TransferOptions(**self._get(self.config, "transfer").as_dict())
            if self.checkpoint:
                check_initialized_from(options, self.checkpoint)
            elif options.checkpoint is not None:
                self.source = read_source(options.checkpoint)

    def _fit_to_grades(self) -> None:
        """Set the options of the model that ungraded images require, for the run's configuration.

        Faults of the data are reported when they are read for training.
        """
        data = self._get(self.config, "data")
        if data.root is None:
            return
        names = [field.name for field in fields(ReaderOptions)]
        given = {name: data[name] for name in names if data.get(name) is not None}
        try:
            records = scan_graded_images(data.root, ReaderOptions(**given)).records
        except UserError:
            return
        settings = self._get(self.config, "model").init_args
        changed = options_for_grades(settings, grading_of(record.grade for record in records))
        if changed:
            _log.info("%s", describe_options(changed))
            for name, value in changed.items():
                settings[name] = value

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
        if self.subcommand == "fit" and is_first_process():
            self._plan(growing.schedule, settings)
        if settings.get("enable_progress_bar") is False:
            self._parser(self.subcommand).callback_keys.remove("progress")
        own: dict[str, Any] = {"max_epochs": growing.schedule.total_ticks}
        if settings.get("strategy", "auto") == "auto" and _device_count(settings) > 1:
            own["strategy"] = GrowingDDPStrategy.strategy_name
        return super().instantiate_trainer(**{**own, **kwargs})

    def _plan(self, schedule: GrowthSchedule, settings: Any) -> None:
        """Say what the run will take; end a dry run, and refuse what a CPU would not finish."""
        dry = self._get(self.config_init, "dry_run")
        shown = self.checkpoint.get("blastogan", {}).get("images_shown", 0)
        if schedule.total_images - shown < MIN_IMAGES and not dry:
            return
        kept = self._get(self.config_init, "checkpoints")
        plan = make_plan(
            self.model,
            schedule,
            images_shown=shown,
            keep=(kept.keep_last, kept.keep_best, kept.keep_phases),
            device=_device(settings),
            devices=_device_count(settings),
            precision=str(settings.get("precision")),
        )
        if dry:
            show_tables(plan.describe(), [plan.table()], plan.notes())
            raise SystemExit(0)
        # a run that is resumed was begun
        if not (self._get(self.config_init, "yes") or self.checkpoint):
            plan.check()
        _log.info("%s", plan.describe())
        plan.check_disk(Path(self._get(self.config_init, "run_dir") or RUNS))
        self._get(self.config_init, "progress").pace.costs = plan.seconds

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
        schedule = self.datamodule.schedule
        if shown < schedule.total_images or owes_evaluation(self.checkpoint, schedule):
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

    def show_results(self, part: str) -> None:
        """Print the metrics, unless `FidelityCallback` has: its table has more images."""
        if not any(name.endswith("_held_out") for name in self.trainer.callback_metrics):
            super().show_results(part)

    def compared(self, count: int, part: str) -> str:
        """Title of the metrics of a part of the split."""
        side = self.datamodule.schedule.final_resolution
        return (
            f"{count} generated images against {count} {part} images of the same grades, "
            f"{side}x{side}"
        )

    def after_fit(self) -> None:
        """Log where the samples are and how to generate more, or that the end is not reached.

        Raises:
            Requeue: If the trainer was told to stop before the end of the schedule.
        """
        folder = Path(self.trainer.default_root_dir)
        if self.model.images_shown < self.datamodule.schedule.total_images:
            raise Requeue(f"stopped by {stopped_by(self.trainer)}; to continue, add --resume")
        sheets = sorted((folder / "samples").glob("kimg-*.png"))
        if sheets:
            _log.info("samples: %s", sheets[-1])
        last = quote(str(folder / "checkpoints/last.ckpt"))
        _log.info("to generate images: blastogan generate %s OUT", last)


def _plain(value: Any) -> Any:
    return value.as_dict() if isinstance(value, Namespace) else value


def _device(settings: Any) -> torch.device | None:
    """Device that a trainer will use; ``None`` for one that is not known here."""
    asked = settings.get("accelerator", "auto")
    if asked in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.device("cuda")
    if asked in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu") if asked in ("auto", "cpu") else None


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
