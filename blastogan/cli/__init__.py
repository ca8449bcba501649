"""The subcommands of ``blastogan``.

A new tool is a file in this folder, with a function of the tool's name that takes the arguments and
returns the exit code, and an entry in `TOOLS`.

.. include:: GUIDE.md
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module

from blastogan.errors import UserError

LIGHTNING = {
    "fit": ("gan", "train a ProGAN or a StyleGAN, for instance: blastogan fit --config demo"),
    "validate": ("gan", "metrics of a checkpoint on the validation images"),
    "test": ("gan", "metrics of a checkpoint on the test images"),
    "predict": ("gan", "generate images, on any number of devices"),
    "grade": ("grade", "grade classifier: blastogan grade fit, grade validate, grade test"),
}
"""Module and summary of the subcommands of Lightning's command line."""

TOOLS = {
    "audit": ("audit", "check a set of graded images before training"),
    "phantom": ("phantom", "draw phantoms, procedural blastocysts, into a folder"),
    "recipe": ("recipe", "choose settings from the number of images, their size and the batch"),
    "generate": ("generate", "generate images with a checkpoint or a shipped generator"),
    "export": ("export", "write a generator with its card, for use without its run, or as ONNX"),
    "folds": ("folds", "compare the folds of a cross-validation"),
    "evaluate": ("evaluate", "FID, KID and more between real images and generated ones"),
}
"""Module and summary of the other subcommands."""


def load_tool(name: str) -> Callable[[Sequence[str]], int]:
    """Import the function of a subcommand.

    Raises:
        UserError: If the subcommand is unknown.
    """
    module, _ = (LIGHTNING | TOOLS).get(name, (None, None))
    if module is None:
        raise UserError(f"no command {name!r}: see blastogan --help")
    tool: Callable[[Sequence[str]], int] = getattr(import_module(f"{__package__}.{module}"), name)
    return tool


def list_tools(tools: Mapping[str, tuple[str, str]]) -> str:
    """A line of help for each subcommand."""
    return "\n".join(f"  {name:<10}  {summary}" for name, (_, summary) in tools.items())
