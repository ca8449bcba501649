"""What ``blastogan fit`` and ``blastogan grade`` share: run folders, loggers, exit codes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Optional

from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

from blastogan.errors import UserError
from blastogan.files import written_whole
from blastogan.loggers import CSVLog, WandbLog
from blastogan.modules.checkpoints import read_checkpoint
from blastogan.run_folder import fresh_folder, run_of_checkpoint, unused_folder


class RunConfig(SaveConfigCallback):
    """Write the whole configuration into the run folder; an older one is kept beside it."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write ``config.yaml``, or ``config-2.yaml`` when resumed with other settings."""
        if stage != "fit" or not trainer.is_global_zero:
            return
        config = self.config.clone()
        for key in ("ckpt_path", "config"):
            config.pop(key, None)
        text = self.parser.dump(config, skip_none=False)
        folder = Path(trainer.default_root_dir)
        number, path = 1, folder / "config.yaml"
        while path.exists() and path.read_text(encoding="utf-8") != text:
            number += 1
            path = folder / f"config-{number}.yaml"
        with written_whole(path) as part:
            part.write_text(text, encoding="utf-8")


class RunCLI(LightningCLI):
    """Lightning's command line in run folders that are new or resumed, never overwritten.

    Attributes:
        run_name: Name of a new folder under ``runs/``.
        checkpoint: What ``--ckpt_path`` holds, read safely; ``None`` without.
    """

    run_name = "run"
    checkpoint: dict[str, Any] | None = None

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add run folder and W&B."""
        parser.add_argument(
            "--run_dir",
            type=Optional[str],  # noqa: UP045
            default=None,
            help="Folder of the run, new or empty; by default a new one under runs/.",
        )
        parser.add_argument(
            "--wandb",
            type=Literal["off", "online", "offline"],
            default="off",
            help="Whether to log to Weights & Biases.",
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse without Lightning's warning, which takes any use of `args` for a mistake."""
        self.config = parser.parse_args(args)
        seed = self.config[self.config.subcommand].seed_everything
        if not 0 <= seed < 2**32:
            raise UserError(f"seed_everything is {seed}: expected 0 to {2**32 - 1}")

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
            return fresh_folder(asked) if asked else unused_folder(f"{here.name}-generated")
        if here is not None and (asked is None or Path(asked).resolve() == here.resolve()):
            if self.subcommand == "fit":
                self._refuse_to_rewind(here)
            return here
        if self.subcommand != "fit":
            return Path(asked or ".")
        return fresh_folder(asked) if asked else unused_folder(self.run_name)

    def _refuse_to_rewind(self, folder: Path) -> None:
        """Keep a run that has gone on since the checkpoint was written."""
        assert self.checkpoint is not None
        last = folder / "checkpoints" / "last.ckpt"
        shown = self.checkpoint["blastogan"]["images_shown"]
        reached = read_checkpoint(last)["blastogan"]["images_shown"] if last.exists() else shown
        if reached > shown:
            raise UserError(
                f"the checkpoint is at {shown / 1000:g} kimg, but its run has gone on to "
                f"{reached / 1000:g} kimg, which would be lost: go on with {last}, or add "
                "--run_dir NEW to branch off into a folder of its own"
            )


def run(command_line: type[RunCLI], args: Sequence[str]) -> int:
    """Run a command line and return its exit code.

    Raises:
        UserError: For wrong use, Lightning's own complaints included.
    """
    try:
        command_line(args)  # type: ignore[arg-type]
    except SystemExit as error:
        # Lightning ends an interrupted run with exit code 1, out of the KeyboardInterrupt
        if isinstance(error.__context__, KeyboardInterrupt):
            return 130
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except MisconfigurationException as error:
        raise UserError(str(error)) from error
    return 0
