"""What ``blastogan fit`` and ``blastogan grade`` share: run folders, loggers, exit codes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Optional

from jsonargparse import Namespace
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

from blastogan.callbacks.defaults import RECORDS
from blastogan.callbacks.fidelity.table import print_values
from blastogan.callbacks.stopping import TimeLimit
from blastogan.cli.checks import cause_of, check_trainer, one_message
from blastogan.cli.found import PATHS as SETTINGS_WITH_PATHS
from blastogan.cli.found import check_found, place_of_run
from blastogan.cli.parser import RunParser, read_early, run_to_resume, without_retired
from blastogan.errors import ProblemList, UserError, check_ranges
from blastogan.presets import find_config
from blastogan.runs.checkpoint_files import latest_valid_checkpoint, read_to_resume
from blastogan.runs.checkpoint_io import damaged_states_named
from blastogan.runs.folder import (
    checkpoints_in,
    fresh_folder,
    is_run,
    newest_config,
    run_of_checkpoint,
    unused_folder,
)
from blastogan.runs.lock import (
    claim,
    claim_unused,
    claimed_folder,
    is_first_process,
    release,
)
from blastogan.runs.loggers import CSVLog, WandbLog
from blastogan.runs.signals import requeued_by_signal
from blastogan.runs.trust import remember
from blastogan.utils.files import DISK_FULL, atomic_copy, atomic_link, atomic_write, user_path
from blastogan.utils.terminal import track

_log = logging.getLogger(__name__)

PATHS = (*SETTINGS_WITH_PATHS, "ckpt_path", "run_dir", "trainer.default_root_dir")
"""Options that are paths; see `blastogan.utils.files.user_path`."""
NAMES = {"val": "validation", "test": "test"}
"""Names of the parts that are evaluated."""

MAX_DEVICES = 64
"""Most devices in one machine."""


class RunConfig(SaveConfigCallback):
    """Write the whole configuration into the run folder; a different one there is kept."""

    needed = True  # whether the run trains anything

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write ``config.yaml``, or ``config-2.yaml`` when resumed with other settings."""
        if stage != "fit" or not trainer.is_global_zero or not self.needed:
            return
        config = self.config.clone()
        # a run that is resumed has the same configuration
        for key in ("ckpt_path", "config", "resume", "yes", "dry_run"):
            config.pop(key, None)
        text = self.parser.dump(config, skip_none=False)
        folder = Path(trainer.default_root_dir)
        number, path = 1, folder / "config.yaml"
        while path.exists() and path.read_text(encoding="utf-8") != text:
            number += 1
            path = folder / f"config-{number}.yaml"
        with atomic_write(path) as part:
            part.write_text(text, encoding="utf-8")
        remember(path)


class RunCLI(LightningCLI):
    """Lightning's command line in run folders that are new or resumed, never overwritten."""

    # Lightning calls, in this order: add_arguments_to_parser, parse_arguments, _parse_ckpt_path,
    # before_instantiate_classes, instantiate_classes with instantiate_trainer in it, before_fit,
    # the trainer, after_fit; _with_config comes before all of these, and parse, _resume,
    # callbacks_in, _run_folder and report_end within them.

    offered: tuple[str, ...] = ("fit", "validate", "test", "predict")
    """Names of the subcommands."""
    run_name = "run"
    """Name of a new folder under ``runs/``."""
    checkpoint: dict[str, Any] = {}  # noqa: RUF012
    """Content of ``--ckpt_path``, ``{}`` without one."""
    resumed: Path | None = None
    """Folder found by ``--resume``; ``None`` for a new one."""
    time_interval = "step"
    """Where ``max_time`` may stop a run: after a ``step`` or an ``epoch``."""
    last_damaged = False
    """Whether the checkpoint to resume from replaces ``last.ckpt``."""

    def __init__(self, model: type, data: type, *, args: Sequence[str], **settings: Any) -> None:
        self.given = read_early(args)
        self.asked = args[:1]
        defaults = {"use_distributed_sampler": False, "num_sanity_val_steps": 0}
        super().__init__(
            model,
            data,
            trainer_defaults=defaults | settings.pop("trainer_defaults", {}),
            **{"parser_class": RunParser, **settings},
            save_config_callback=RunConfig,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=self._with_config(list(args)),
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The subcommand asked for alone, since to build the parsers of all takes a second."""
        every = {name: LightningCLI.subcommands()[name] for name in self.offered}
        return {name: every[name] for name in self.asked if name in every} or every

    def _with_config(self, args: list[str]) -> list[str]:
        """The arguments with the configuration of the run that they name, if they have none."""
        configs = [find_config(user_path(name)) for name in self.given.config]
        if not configs and not self.given.help and (path := self.config_of_run()):
            configs = [path]
            check_found(path, {arg.partition("=")[0] for arg in args})
            args = [args[0], f"--config={path}", *place_of_run(path), *args[1:]]
        elif not configs and not self.given.help and self.given.ckpt_path:
            args = [args[0], *self.options_of_checkpoint(), *args[1:]]
        for path in configs:
            if changes := without_retired(path)[1]:
                _log.warning("%s has retired options: %s", path, ", ".join(changes))
        return args

    def config_of_run(self) -> Path | None:
        """Configuration of the run that ``--ckpt_path`` or ``--resume --run_dir`` name."""
        if self.given.ckpt_path:
            return newest_config(run_of_checkpoint(self.given.ckpt_path))
        if self.given.run_dir and (self.given.resume or "false").lower() != "false":
            return newest_config(Path(self.given.run_dir))
        return None

    def options_of_checkpoint(self) -> list[str]:
        """Options that follow from a checkpoint without a configuration in its run folder."""
        return []

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add run folder and W&B."""
        add = parser.add_argument
        text = "Folder of the run, new or empty; by default a new one under runs/."
        add("--run_dir", type=Optional[str], help=text)  # noqa: UP045
        text = (
            "With fit: resume the run in --run_dir, or the newest of this name under runs/, from "
            "its latest valid checkpoint; start it if there is none."
        )
        add("--resume", type=bool, nargs="?", const=True, default=False, help=text)
        text, modes = "Whether to log to Weights & Biases.", Literal["off", "online", "offline"]
        add("--wandb", type=modes, default="off", help=text)

    def _prepare_subcommand_parser(self, *args: Any, **kwargs: Any) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(*args, **kwargs)
        # `show_results` names what Lightning's table would only number
        if any(action.dest == "verbose" for action in parser._actions):
            parser.set_defaults(verbose=False)
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse without Lightning's warning, which takes any use of `args` for a mistake."""
        self.config = self.parse(parser, list(args))
        seed = self.config[self.config.subcommand].seed_everything
        if not 0 <= seed < 2**32:
            raise UserError(f"seed_everything is {seed}: expected 0 to {2**32 - 1}")
        if self.config.subcommand == "fit":
            self._resume(self.config.fit)
        elif self.given.resume is not None:
            raise UserError("--resume works with fit only: here, give --ckpt_path")

    def parse(self, parser: LightningArgumentParser, args: list[str]) -> Namespace:
        """The configuration that the arguments come to, its paths resolved."""
        config = parser.parse_args(args)
        _resolve_paths(config[config.subcommand])
        return config

    def _resume(self, config: Any) -> None:
        """Find the run and its checkpoint for ``--resume``; without a run, a new one starts."""
        if not config.resume:
            return
        if config.ckpt_path:
            raise UserError(
                "--resume finds the checkpoint by itself: leave out --ckpt_path, or leave out "
                "--resume to choose one"
            )
        folder = claimed_folder() or run_to_resume(config, self.run_name)
        if folder is None or not is_run(folder):
            return
        # before the checkpoint is chosen, no other process may write one
        claim(folder)
        self.resumed = folder
        newest, damaged = latest_valid_checkpoint(checkpoints_in(folder / "checkpoints"))
        if newest is None and damaged:
            raise ProblemList(
                f"none of the checkpoints of {folder} can be read",
                list(damaged.values()),
                "Restore one of them, or start a new run in another --run_dir",
            )
        if newest is None:
            _log.info("%s has no checkpoint yet: its run starts from the beginning", folder)
            return
        for path in damaged:
            _log.warning("%s is damaged; used instead: %s", path, newest)
        self.last_damaged = bool(damaged)
        _log.info("resuming from %s", newest)
        config.ckpt_path = str(newest.path)

    def _parse_ckpt_path(self) -> None:
        """Leave the configuration alone: it is compared with the checkpoint, not replaced."""

    def before_instantiate_classes(self) -> None:
        """Read the checkpoint, without running code from it."""
        self.config[self.subcommand].weights_only = True
        devices = str(self._get(self.config, "trainer").get("devices"))
        if devices.isdecimal():
            # each has a process
            check_ranges({"trainer.devices": int(devices)}, 0, MAX_DEVICES)
        if path := self._get(self.config, "ckpt_path"):
            self.checkpoint = read_to_resume(path)

    def instantiate_classes(self) -> None:
        """Build data, model and trainer; a package that an option needs may be missing."""
        try:
            super().instantiate_classes()
        except (ImportError, ValueError) as error:
            missing = cause_of(error, ImportError)
            if missing is None or cause_of(error, UserError):
                raise
            text = str(missing).strip().splitlines()[0]
            raise UserError(f"an option needs a package that is missing: {text}") from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer in the run's folder, with its callbacks and loggers."""
        folder = self._run_folder()
        # a grader reads its data for the callbacks
        self.datamodule.track = track
        callbacks = [*(kind() for kind in RECORDS), *self.callbacks_in(folder)]
        self.trainer_defaults = {**self.trainer_defaults, "callbacks": callbacks}
        settings = self._get(self.config_init, "trainer")
        if limit := settings.get("max_time"):
            callbacks.append(TimeLimit(limit, interval=self.time_interval))
        own = {"default_root_dir": str(folder), "max_time": None}
        own["logger"] = self._loggers(folder, settings.get("logger"))
        with one_message("these options of the trainer do not work"):
            trainer = super().instantiate_trainer(**{**own, **kwargs})
        check_trainer(trainer)
        return trainer

    def callbacks_in(self, folder: Path) -> list[Callback]:
        """More callbacks for a run in that folder."""
        return []

    def _loggers(self, folder: Path, asked: Any) -> Any:
        """The CSV log, W&B if it is switched on, and the loggers of the configuration."""
        others = [] if asked in (None, True, False) else asked
        others = others if isinstance(others, list) else [others]
        if self.subcommand != "fit":
            return others or False
        mode = self._get(self.config_init, "wandb")
        wandb = [WandbLog(folder, mode)] if mode != "off" else []
        return [CSVLog(folder), *wandb, *others]

    def _run_folder(self) -> Path:
        """The folder asked for, that of the checkpoint, or a new one; a fit locks it."""
        asked = self._get(self.config_init, "run_dir")
        asked = asked or self._get(self.config_init, "trainer").get("default_root_dir")
        checkpoint = self._get(self.config_init, "ckpt_path")
        here = run_of_checkpoint(checkpoint) if checkpoint else None
        if self.subcommand == "predict":
            assert here is not None
            name = here.resolve().name
            return fresh_folder(asked) if asked else unused_folder(f"{name}-generated")
        if here and asked and Path(asked).resolve() != here.resolve():
            here = None
        if self.subcommand != "fit":
            return here or Path(asked or ".")
        folder = self.resumed or claimed_folder() or here
        if folder is None and asked is None:
            return claim_unused(self.run_name)
        folder = folder or fresh_folder(asked)
        claim(folder)
        if here is not None and self.resumed is None:
            self._refuse_to_rewind(here)
        return folder

    def _refuse_to_rewind(self, folder: Path) -> None:
        """Refuse to resume from a checkpoint if its run has continued since."""
        last = folder / "checkpoints" / "last.ckpt"
        if not last.exists():
            return
        shown = self.checkpoint["blastogan"]["images_shown"]
        newest, damaged = latest_valid_checkpoint(checkpoints_in(last.parent))
        if newest is not None and newest.images_shown > shown:
            raise UserError(
                f"the checkpoint is at {shown / 1000:g} kimg, but its run has continued to "
                f"{newest.images_shown / 1000:g} kimg, which would be lost: resume from "
                f"{newest.path}, or add --run_dir NEW to branch off into a folder of its own"
            )
        self.last_damaged = last in damaged

    def before_fit(self) -> None:
        """Refuse a checkpoint of other data; after all checks, replace a damaged ``last.ckpt``."""
        if (data := type(self.datamodule).__name__) in self.checkpoint:
            self.datamodule.load_state_dict(self.checkpoint[data])
        folder = Path(self.trainer.default_root_dir)
        _log.info("run folder: %s", folder)
        self.report_end(folder)
        if self.last_damaged and is_first_process():
            last = folder / "checkpoints" / "last.ckpt"
            if last.exists():
                atomic_link(last, last.with_name(f"{last.name}.damaged"))
            atomic_copy(Path(self._get(self.config_init, "ckpt_path")), last)

    def report_end(self, folder: Path) -> None:
        """Log it if there is nothing left to train."""

    def after_validate(self) -> None:
        """Print the metrics."""
        self.show_results("val")

    def after_test(self) -> None:
        """Print the metrics."""
        self.show_results("test")

    def show_results(self, part: str) -> None:
        """Print the metrics of a part of the split, and what they compare."""
        values = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        if values and self.trainer.is_global_zero:
            print_values(values, self.compared(len(self.datamodule.split[part]), NAMES[part]))

    def compared(self, count: int, part: str) -> str:
        """Title of the metrics of a part of the split."""
        return f"{count} {part} images"


def _resolve_paths(config: Namespace) -> None:
    """Resolve the paths of a configuration in place; refuse URLs."""
    for option in PATHS:
        if isinstance(value := config.get(option), str):
            if "://" in value:
                raise UserError(f"{option} is {value}: expected a path on this computer, not a URL")
            config[option] = user_path(value)


def run(command_line: Callable[[Sequence[str]], RunCLI], args: Sequence[str]) -> int:
    """Run a command line and return its exit code.

    Raises:
        UserError: For wrong use, Lightning's own complaints included.
        OSError: If a file cannot be read or written; the message says what is left of the run.
        KeyboardInterrupt: If the run was interrupted; `Requeue` if by a scheduler.
    """
    try:
        with requeued_by_signal(), damaged_states_named():
            command_line(args)
    except SystemExit as error:
        # Lightning ends an interrupted run with exit code 1, out of the KeyboardInterrupt
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except MisconfigurationException as error:
        raise UserError(str(error)) from error
    except ValueError as error:
        # a parser wraps what a class says about its arguments
        if (found := cause_of(error, UserError)) is None:
            raise
        raise found from None
    except (OSError, RuntimeError) as error:
        # torch has no class of its own for a worker that was killed
        killed = str(error).startswith("DataLoader worker")
        folder = claimed_folder()
        if folder is None or not (killed or isinstance(error, OSError)):
            raise
        raise OSError(_stopped(folder, error)) from error
    finally:
        release()
    return 0


def _stopped(folder: Path, error: OSError | RuntimeError) -> str:
    """Message of a run that cannot continue: why, what is left of it, and what to do."""
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        cause = f"{where}{error.strerror or error}"
        remedy = "make room" if error.errno in DISK_FULL else "fix that"
    else:
        cause = f"{str(error).splitlines()[0].rstrip('. ')}: perhaps for lack of memory"
        remedy = "set fewer --data.num_workers"
    newest, _ = latest_valid_checkpoint(checkpoints_in(folder / "checkpoints"))
    left = f"its latest valid checkpoint is {newest}" if newest else "it has no checkpoint yet"
    return f"{cause}. The run in {folder} stopped; {left}. To resume, {remedy} and add --resume"
