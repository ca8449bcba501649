"""Progress bars, tables and arguments of the command-line tools."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from blastogan.errors import UserError, printable
from blastogan.grades import MAX_COUNT

if TYPE_CHECKING:
    from rich.console import Console

Item = TypeVar("Item")

_log = logging.getLogger(__name__)


def write_stdout(text: str) -> None:
    """Write to stdout. That nobody reads it, or that it cannot be written, is no error.

    Characters that the console does not have are replaced.
    """
    stream = sys.stdout
    encoding = stream.encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        plain = text.replace("\u00b1", "+-")
        text = plain.encode(encoding, "backslashreplace").decode(encoding)
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        # the rest of the buffer would fail again when Python ends
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
        if not isinstance(error, BrokenPipeError):
            _log.warning("cannot print: %s", error.strerror or error)


@contextmanager
def report_console() -> Iterator[Console]:
    """A console for a report, which goes to stdout as a whole by `write_stdout`."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=100)
    with console.capture() as capture:
        yield console
    write_stdout(capture.get())


def track(items: Iterable[Item], total: int, description: str) -> Iterable[Item]:
    """Show a progress bar on a terminal, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import track as tracked

    console = Console(stderr=True)
    shown = console.is_terminal
    return tracked(items, description, total=total, console=console, disable=not shown)


Table = tuple[Sequence[str], Sequence[Sequence[str]]]
"""Headers of columns, and rows."""


def show_tables(title: str, tables: Iterable[Table], notes: Iterable[str]) -> None:
    """Print a title, tables with the first column aligned left, and a line per note on stdout."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    with report_console() as console:
        # as Text, so that brackets in paths and names are no markup
        console.print(Text(printable(title)), soft_wrap=True)
        for columns, rows in tables:
            table = RichTable(box=box.SIMPLE, pad_edge=False)
            for number, column in enumerate(columns):
                table.add_column(Text(column), justify="right" if number else "left")
            for row in rows:
                table.add_row(*(Text(printable(cell)) for cell in row))
            console.print(table)
        for note in notes:
            console.print(Text(printable(f"note: {note}")), soft_wrap=True)


def is_statistics(path: str) -> bool:
    """Whether a path names a file of statistics, ``.npz``."""
    return Path(path).suffix.lower() == ".npz" and not Path(path).is_dir()


def is_checkpoint(path: str) -> bool:
    """Whether a path names a checkpoint, ``.ckpt``, or its export, ``.safetensors``."""
    return Path(path).suffix.lower() in (".ckpt", ".safetensors") and not Path(path).is_dir()


def check_outputs(outputs: Mapping[str, str | None]) -> None:
    """Check the paths of outputs, by option, before any work.

    Raises:
        UserError: If a file exists, its folder is missing, or two paths are the same.
    """
    named: dict[Path, str] = {}
    for option, text in outputs.items():
        if not text:
            continue
        path = Path(text)
        if path.exists():
            raise UserError(f"{path} exists; nothing is overwritten: choose another name")
        if not path.parent.is_dir():
            raise UserError(f"no folder {path.parent} for {path.name}: make it first")
        other = named.setdefault(path.resolve(), option)
        if other != option:
            raise UserError(f"{other} and {option} name the same file: choose another name")


def positive(text: str) -> int:
    """Type of an argument: an integer of 1 or more."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected 1 or more")
    if number > MAX_COUNT:
        raise argparse.ArgumentTypeError(f"{text}: expected at most {MAX_COUNT}")
    return number


def add_crop(add: Callable[..., Any], what: str) -> None:
    """Add the options of `blastogan.data.images.framing.Crop` to a parser.

    Args:
        add: ``add_argument`` of the parser.
        what: Help on the square that is cropped.
    """
    add("--crop", choices=("centre", "embryo"), default="centre", help=f"{what} (default: centre)")
    add(
        "--crop-margin",
        type=float,
        default=0.1,
        metavar="M",
        help="room around the embryo, in units of its radius (default: 0.1)",
    )


def choose_device(name: str) -> str:
    """Device for a name; ``auto`` is CUDA where available.

    Raises:
        UserError: If the device is not available.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {name!r} cannot be used: {error}") from error
    return name
