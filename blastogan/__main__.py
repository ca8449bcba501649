"""The ``blastogan`` command."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper

from blastogan.cli import LIGHTNING, TOOLS, list_tools, load_tool
from blastogan.cli.help import show_help
from blastogan.errors import DivergenceError, Requeue, UserError, printable
from blastogan.presets import preset_names
from blastogan.runs.lock import is_first_process
from blastogan.utils.allocator import keep_freed_memory
from blastogan.utils.quiet import hide_noise
from blastogan.utils.terminal import write_stdout
from blastogan.utils.version import describe_version

USAGE = """\
usage: blastogan COMMAND [OPTIONS]

Progressively grown GANs for blastocyst images.

train and evaluate (options: blastogan fit --help, then blastogan fit --help all):
{lightning}

tools:
{tools}

presets for --config: {presets}

exit codes: 0 done, 1 failure, 2 wrong use, 75 stopped before the end, by a scheduler (SIGTERM,
SIGUSR1) or max_time: start the same command again with --resume, 130 interrupted
"""


def main(args: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; `USAGE` lists the codes."""
    name, *rest = list(sys.argv[1:] if args is None else args) or [""]
    if name in ("", "-h", "--help"):
        lists = {"lightning": list_tools(LIGHTNING), "tools": list_tools(TOOLS)}
        write_stdout(USAGE.format(presets=", ".join(preset_names()), **lists))
        return 0 if name else 2
    if name == "--version":
        write_stdout(f"{describe_version()}\n")
        return 0
    _configure_messages()
    keep_freed_memory()
    try:
        if name in LIGHTNING and show_help(name, rest):
            return 0
        return load_tool(name)(rest)
    except (UserError, DivergenceError, OSError) as error:
        sys.stderr.write(f"blastogan: {printable(str(error))}\n")
        return 2 if isinstance(error, UserError) else 1
    except KeyboardInterrupt as error:
        requeued = isinstance(error, Requeue)
        if is_first_process():
            cause = str(error) or "stopped by a scheduler" if requeued else "interrupted"
            sys.stderr.write(f"blastogan: {cause}\n")
        return 75 if requeued else 130


class _Printable(logging.Formatter):
    """A formatter that escapes control codes, which names of files may hold."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def _configure_messages() -> None:
    """Show our own messages, and those of the libraries that a user can act on."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    # commands draw with Agg alone; the backend of a notebook may not be installed here
    os.environ["MPLBACKEND"] = "agg"
    # what libraries print must not fail on a console that lacks a character
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    handler = logging.StreamHandler()
    handler.setFormatter(_Printable("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    # of several processes the first one reports
    level = logging.INFO if is_first_process() else logging.ERROR
    logging.getLogger("blastogan").setLevel(level)
    hide_noise()


if __name__ == "__main__":
    sys.exit(main())
