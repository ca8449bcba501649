"""The ``blastogan`` command."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence

from blastogan.errors import DivergenceError, Requeue, UserError, printable
from blastogan.runs.lock import is_first_process
from blastogan.utils.allocator import keep_freed_memory

USAGE = """\
usage: blastogan COMMAND [OPTIONS]

Progressively grown GANs for blastocyst images.

train and evaluate (Lightning CLI; `blastogan fit --help` lists every option):
  fit         train a ProGAN or a StyleGAN, for instance: blastogan fit --config demo
  validate    metrics of a checkpoint on the validation images
  test        metrics of a checkpoint on the test images
  predict     generate images, on any number of devices
  grade       grade classifier: blastogan grade fit, grade validate, grade test

tools:
  audit       look a set of graded images over before training
  phantom     draw phantoms, procedural blastocysts, into a folder
  recipe      settings of a run that follow from the number of images, their size and the batch
  generate    generate images from a checkpoint into a folder
  evaluate    FID, KID and more between real images and generated ones

presets for --config: {presets}

exit codes: 0 done, 1 failure, 2 wrong use, 75 stopped by a scheduler (SIGTERM, SIGUSR1): start the
same command again with --resume, 130 interrupted
"""


def main(args: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        Exit code: 0 done, 1 failure, 2 wrong use, 75 to be started again with ``--resume``, 130
        interrupted.
    """
    args = list(sys.argv[1:] if args is None else args)
    if not args or args[0] in ("-h", "--help"):
        from blastogan.presets import preset_names

        sys.stdout.write(USAGE.format(presets=", ".join(preset_names())))
        return 0 if args else 2
    if args[0] == "--version":
        from importlib.metadata import version

        sys.stdout.write(f"blastogan {version('blastogan')}\n")
        return 0
    _be_quiet()
    keep_freed_memory()
    try:
        return _command(args[0])(args)
    except (UserError, DivergenceError) as error:
        sys.stderr.write(f"blastogan: {printable(str(error))}\n")
        return 2 if isinstance(error, UserError) else 1
    except OSError as error:
        sys.stderr.write(f"blastogan: {printable(str(error))}\n")
        return 1
    except KeyboardInterrupt as error:
        requeued = isinstance(error, Requeue)
        if is_first_process():
            told = "stopped by a scheduler" if requeued else "interrupted"
            sys.stderr.write(f"blastogan: {told}\n")
        return 75 if requeued else 130


def _command(name: str) -> Callable[[Sequence[str]], int]:
    if name == "phantom":
        from blastogan.cli.phantom import phantom

        return lambda args: phantom(args[1:])
    if name == "generate":
        from blastogan.cli.generate import generate

        return lambda args: generate(args[1:])
    if name in ("fit", "validate", "test", "predict"):
        from blastogan.cli import gan as cli

        return cli.run
    if name == "grade":
        from blastogan.cli import grade as grade_cli

        return lambda args: grade_cli.run(args[1:])
    if name == "evaluate":
        from blastogan.cli.evaluate import evaluate

        return lambda args: evaluate(args[1:])
    if name == "recipe":
        from blastogan.cli.recipe import recipe

        return lambda args: recipe(args[1:])
    if name == "audit":
        from blastogan.cli.audit import audit

        return lambda args: audit(args[1:])
    raise UserError(f"no command {name!r}: see blastogan --help")


class _Printable(logging.Formatter):
    """Messages may hold names of files."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def _be_quiet() -> None:
    """Show our own messages, and of the libraries' only what a user can act on."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    # Lightning calls jsonargparse by names that are on their way out
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    handler = logging.StreamHandler()
    handler.setFormatter(_Printable("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    # of several processes the first speaks for all
    level = logging.INFO if is_first_process() else logging.ERROR
    logging.getLogger("blastogan").setLevel(level)
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=r".*LeafSpec.*")
    warnings.filterwarnings("ignore", message=r".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=r".*but have no logger configured.*")


if __name__ == "__main__":
    sys.exit(main())
