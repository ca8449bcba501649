"""The subcommands of ``blastogan``.

A new tool is a file in this folder, with a function of the tool's name that takes the arguments and
returns the exit code, and an entry in `TOOLS`.

.. include:: GUIDE.md
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import NamedTuple

from blastogan.errors import UserError


class Tool(NamedTuple):
    """A subcommand.

    Attributes:
        module: File of this package with a function of the subcommand's name.
        summary: What it does, for the list of subcommands.
    """

    module: str
    summary: str


LIGHTNING = {
    "fit": Tool("gan", "train a ProGAN or a StyleGAN, for instance: blastogan fit --config demo"),
    "validate": Tool("gan", "metrics of a checkpoint on the validation images"),
    "test": Tool("gan", "metrics of a checkpoint on the test images"),
    "predict": Tool("gan", "generate images, on any number of devices"),
    "grade": Tool("grade", "grade classifier: blastogan grade fit, grade validate, grade test"),
}
"""Subcommands that train and evaluate, by Lightning's command line."""

TOOLS = {
    "audit": Tool("audit", "look a set of graded images over before training"),
    "phantom": Tool("phantom", "draw phantoms, procedural blastocysts, into a folder"),
    "recipe": Tool(
        "recipe",
        "settings of a run that follow from the number of images, their size and the batch",
    ),
    "generate": Tool("generate", "generate images from a checkpoint into a folder"),
    "evaluate": Tool("evaluate", "FID, KID and more between real images and generated ones"),
}
"""The other subcommands."""


def load_tool(name: str) -> Callable[[Sequence[str]], int]:
    """The function of a subcommand, imported now.

    Raises:
        UserError: If there is no such subcommand.
    """
    tool = (LIGHTNING | TOOLS).get(name)
    if tool is None:
        raise UserError(f"no command {name!r}: see blastogan --help")
    run: Callable[[Sequence[str]], int] = getattr(
        import_module(f"{__package__}.{tool.module}"), name
    )
    return run


def list_tools(tools: Mapping[str, Tool]) -> str:
    """A line of help for each subcommand."""
    return "\n".join(f"  {name:<10}  {tool.summary}" for name, tool in tools.items())
