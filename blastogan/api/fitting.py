"""``blastogan fit`` within a process of the user's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from blastogan.cli import base
from blastogan.cli.gan import BlastoganCLI
from blastogan.errors import Requeue


def fit(args: Sequence[str]) -> Path:
    """Train as the command does, and return the run folder.

    Args:
        args: Arguments of the command, without its name.

    Raises:
        KeyboardInterrupt: If the run was interrupted; `Requeue` if by a scheduler.
        UserError: For wrong use.
    """
    folders: list[Path] = []

    class Command(BlastoganCLI):
        def before_fit(self) -> None:
            super().before_fit()
            folders.append(Path(self.trainer.default_root_dir))

    def command(args: Sequence[str]) -> BlastoganCLI:
        return Command(args, parser_kwargs={"exit_on_error": False})

    try:
        code = base.run(command, ["fit", *args])
    except Requeue as stop:
        # a time limit or a callback, which is no interruption; a signal has no message
        if not (folders and str(stop)):
            raise
        code = 0
    if code or not folders:
        raise RuntimeError(f"the training has ended with exit code {code}")
    return folders[0]
