"""What ``blastogan fit`` and ``blastogan grade`` share: run folders, loggers, exit codes."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Optional

from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

from blastogan.errors import ProblemList, UserError
from blastogan.runs.checkpoint_files import latest_valid_checkpoint
from blastogan.runs.folder import (
    checkpoints_in,
    fresh_folder,
    is_run,
    newest_run,
    run_of_checkpoint,
    unused_folder,
    unused_folders,
)
from blastogan.runs.lock import RunInUse, claim, claimed_folder, is_first_process, release
from blastogan.runs.loggers import CSVLog, WandbLog
from blastogan.runs.resume import option
from blastogan.runs.signals import requeued_by_signal
from blastogan.utils.files import DISK_FULL, atomic_copy, atomic_link, atomic_write

_log = logging.getLogger(__name__)

MAX_SUGGESTIONS = 4
"""Options that are named where one was given that there is not."""


class RunConfig(SaveConfigCallback):
    """Write the whole configuration into the run folder; an older one is kept beside it.

    Attributes:
        needed: Whether anything is trained by it.
    """

    needed = True

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write ``config.yaml``, or ``config-2.yaml`` when resumed with other settings."""
        if stage != "fit" or not trainer.is_global_zero or not self.needed:
            return
        config = self.config.clone()
        # a run that is resumed has the same configuration
        for key in ("ckpt_path", "config", "resume"):
            config.pop(key, None)
        text = self.parser.dump(config, skip_none=False)
        folder = Path(trainer.default_root_dir)
        number, path = 1, folder / "config.yaml"
        while path.exists() and path.read_text(encoding="utf-8") != text:
            number += 1
            path = folder / f"config-{number}.yaml"
        with atomic_write(path) as part:
            part.write_text(text, encoding="utf-8")


class RunCLI(LightningCLI):
    """Lightning's command line in run folders that are new or resumed, never overwritten.

    Attributes:
        run_name: Name of a new folder under ``runs/``.
        checkpoint: What ``--ckpt_path`` holds, read safely; ``None`` without.
        resumed: Folder that ``--resume`` has found; ``None`` for a new one.
        restored: The checkpoint to go on from where ``last.ckpt`` is damaged.
    """

    run_name = "run"
    checkpoint: dict[str, Any] | None = None
    resumed: Path | None = None
    restored: Path | None = None

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """A parser that does not list its hundreds of options before each message."""
        parser = super().init_parser(**kwargs)
        # the first is that of all commands, whose usage begins theirs
        parser.usage = "%(prog)s [options]" if hasattr(self, "parser") else "%(prog)s"
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add run folder and W&B."""
        parser.add_argument(
            "--run_dir",
            type=Optional[str],  # noqa: UP045
            default=None,
            help="Folder of the run, new or empty; by default a new one under runs/.",
        )
        parser.add_argument(
            "--resume",
            type=bool,
            nargs="?",
            const=True,
            default=False,
            help="With fit: go on with the run in --run_dir, or the newest of this name under "
            "runs/, from its newest whole checkpoint; begin it if there is none.",
        )
        parser.add_argument(
            "--wandb",
            type=Literal["off", "online", "offline"],
            default="off",
            help="Whether to log to Weights & Biases.",
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse without Lightning's warning, which takes any use of `args` for a mistake."""
        try:
            self.config = parser.parse_args(args)
        except SystemExit as error:
            if error.code:
                self._tell_of_similar(args)
            raise
        seed = self.config[self.config.subcommand].seed_everything
        if not 0 <= seed < 2**32:
            raise UserError(f"seed_everything is {seed}: expected 0 to {2**32 - 1}")
        if self.config.subcommand == "fit":
            self._resume(self.config.fit)
        elif option(args, "resume") is not None:
            raise UserError("--resume is of fit: elsewhere, give --ckpt_path")

    def settings_of_classes(self) -> list[str]:
        """Options that the parser does not know before it knows a class."""
        return []

    def _tell_of_similar(self, args: Sequence[str]) -> None:
        """After the parser's message, say which options those that there are not may be."""
        given = [arg[2:].partition("=")[0] for arg in args if arg.startswith("--")]
        parsers = self._subcommand_parsers.values()
        own = dict.fromkeys(name[2:] for each in parsers for name in each._option_string_actions)
        settings = self.settings_of_classes()
        # the parser takes the word between a class and its setting as read
        taken = [*settings, *(name.replace(".init_args", "") for name in settings)]
        # what others are handed to is not to be given
        names = [name for name in own if ".schedule." not in name] + settings
        for name in given:
            # it takes beginnings of its own options, too
            if name in taken or any(option.startswith(name) for option in own):
                continue
            if meant := similar(name, names):
                told = " or ".join(f"--{option}" for option in meant)
                sys.stderr.write(f"there is no --{name}; perhaps {told}\n")

    def _resume(self, config: Any) -> None:
        """Find run and checkpoint, if asked to; where there is no run, a new one is begun."""
        if not config.resume:
            return
        if config.ckpt_path:
            raise UserError(
                "--resume finds the checkpoint by itself: leave out --ckpt_path, or leave out "
                "--resume to choose it"
            )
        asked = claimed_folder() or config.run_dir or config.trainer.default_root_dir
        folder = Path(asked) if asked else newest_run(self.run_name)
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
                "Restore one of them, or begin anew in another --run_dir",
            )
        if newest is None:
            _log.info("%s has no checkpoint yet: its run begins anew", folder)
            return
        for path in damaged:
            _log.warning("%s is damaged; used instead: %s", path, newest)
        if damaged:
            self.restored = newest.path
        _log.info("going on from %s", newest)
        config.ckpt_path = str(newest.path)

    def _parse_ckpt_path(self) -> None:
        """Leave the configuration alone: it is compared with the checkpoint, not replaced."""

    def _loggers(self, folder: Path, asked: Any) -> Any:
        """The CSV log always, W&B by its switch, and whatever else is asked for."""
        others = [] if asked in (None, True, False) else asked
        others = others if isinstance(others, list) else [others]
        if self.subcommand != "fit":
            return others or False
        mode = self._get(self.config_init, "wandb")
        wandb = [WandbLog(folder, mode)] if mode != "off" else []
        return [CSVLog(folder), *wandb, *others]

    def _run_folder(self) -> Path:
        """Folder of the run: as asked for, that of the checkpoint to resume, or a new one."""
        asked = self._get(self.config_init, "run_dir")
        asked = asked or self._get(self.config_init, "trainer").get("default_root_dir")
        checkpoint = self._get(self.config_init, "ckpt_path")
        here = run_of_checkpoint(checkpoint) if checkpoint else None
        if self.subcommand == "predict":
            assert here is not None
            name = here.resolve().name
            return fresh_folder(asked) if asked else unused_folder(f"{name}-generated")
        if here is not None and asked is not None and Path(asked).resolve() != here.resolve():
            here = None
        if self.subcommand == "fit":
            return self._claimed_folder(asked, here)
        return here or Path(asked or ".")

    def _claimed_folder(self, asked: str | None, here: Path | None) -> Path:
        """Folder of a fit, which no other process writes meanwhile.

        Args:
            asked: What the user wants.
            here: Folder of the checkpoint, if the run goes on there.
        """
        folder = self.resumed or claimed_folder() or here
        if folder is None and asked is None:
            return self._new_folder()
        folder = folder or fresh_folder(str(asked))
        claim(folder)
        if here is not None and self.resumed is None:
            self._refuse_to_rewind(here)
        return folder

    def _new_folder(self) -> Path:
        for folder in unused_folders(self.run_name):
            try:
                claim(folder)
            except RunInUse:
                # another process has just begun there
                continue
            return folder
        raise AssertionError("names do not run out")

    def instantiate_classes(self) -> None:
        """Construct the classes, and show the progress of decoding."""
        from blastogan.utils.terminal import track

        super().instantiate_classes()
        self.datamodule.track = track

    def _refuse_to_rewind(self, folder: Path) -> None:
        """Keep a run that has gone on since the checkpoint was written."""
        assert self.checkpoint is not None
        last = folder / "checkpoints" / "last.ckpt"
        if not last.exists():
            return
        shown = self.checkpoint["blastogan"]["images_shown"]
        newest, damaged = latest_valid_checkpoint(checkpoints_in(last.parent))
        if newest is not None and newest.images_shown > shown:
            raise UserError(
                f"the checkpoint is at {shown / 1000:g} kimg, but its run has gone on to "
                f"{newest.images_shown / 1000:g} kimg, which would be lost: go on with "
                f"{newest.path}, or add --run_dir NEW to branch off into a folder of its own"
            )
        if last in damaged:
            self.restored = Path(self._get(self.config_init, "ckpt_path"))

    def before_fit(self) -> None:
        """Put a whole checkpoint in the place of a damaged ``last.ckpt``, which is set aside.

        To be called when nothing is left that might be refused.
        """
        if self.restored is None or not is_first_process():
            return
        last = Path(self.trainer.default_root_dir) / "checkpoints" / "last.ckpt"
        if last.exists():
            atomic_link(last, last.with_name(f"{last.name}.damaged"))
        atomic_copy(self.restored, last)


def similar(name: str, options: Sequence[str]) -> list[str]:
    """Options that end in what was given, or are spelt nearly like it; none if there are many."""

    def last(option: str) -> str:
        return option.rpartition(".")[2]

    wanted = last(name.replace("-", "_"))
    found = [option for option in options if last(option) == wanted]
    if not found:
        near = get_close_matches(wanted, {last(option) for option in options}, 1, 0.8)
        found = [option for option in options if last(option) in near]
    return found if len(found) <= MAX_SUGGESTIONS else []


def run(command_line: type[RunCLI], args: Sequence[str]) -> int:
    """Run a command line and return its exit code.

    Raises:
        UserError: For wrong use, Lightning's own complaints included.
        OSError: If a file cannot be written, with what is left of the run.
        KeyboardInterrupt: If the run was interrupted; `Requeue` if by a scheduler.
    """
    try:
        with requeued_by_signal():
            command_line(args)  # type: ignore[arg-type]
    except SystemExit as error:
        # Lightning ends an interrupted run with exit code 1, out of the KeyboardInterrupt
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except MisconfigurationException as error:
        raise UserError(str(error)) from error
    except ValueError as error:
        told = _told_by_user_error(error)
        if told is None:
            raise
        raise told from None
    except OSError as error:
        folder = claimed_folder()
        if folder is None:
            raise
        raise OSError(_of_stopped_run(folder, error)) from error
    except RuntimeError as error:
        # torch has no class for it
        folder = claimed_folder()
        if folder is None or not str(error).startswith("DataLoader worker"):
            raise
        raise ChildProcessError(_of_killed_worker(folder, error)) from error
    finally:
        release()
    return 0


def _told_by_user_error(error: BaseException) -> UserError | None:
    """The error that another was raised for: a parser wraps what a class says of its arguments."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, UserError):
        found = found.__cause__ or found.__context__
    return found


def _of_stopped_run(folder: Path, error: OSError) -> str:
    """What a run says that could not write, or read, a file."""
    where = f"{error.filename}: " if error.filename else ""
    remedy = "make room" if error.errno in DISK_FULL else "mend that"
    return (
        f"{where}{error.strerror or error}. {_left_of(folder)}. To go on, {remedy} and add --resume"
    )


def _of_killed_worker(folder: Path, error: RuntimeError) -> str:
    """What a run says one of whose processes for loading images has died."""
    return (
        f"{str(error).splitlines()[0].rstrip('. ')}: perhaps for lack of memory. "
        f"{_left_of(folder)}. To go on, set fewer --data.num_workers and add --resume"
    )


def _left_of(folder: Path) -> str:
    newest, _ = latest_valid_checkpoint(checkpoints_in(folder / "checkpoints"))
    kept = f"its last whole checkpoint is {newest}" if newest else "it has no checkpoint yet"
    return f"The run in {folder} stopped; {kept}"
