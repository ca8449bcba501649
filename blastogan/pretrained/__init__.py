"""Weights that ship in the package: ``NAME.safetensors``, each with its card ``NAME.json``."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from blastogan.errors import UserError

FOLDER = Path(__file__).parent
"""Folder of the files."""


def pretrained_names() -> list[str]:
    """Names of all weights that ship, in alphabetical order."""
    return sorted(path.stem for path in FOLDER.glob("*.safetensors"))


def pretrained_file(name: str) -> Path:
    """The weights of a name.

    Raises:
        UserError: If there are none; suggests the nearest name.
    """
    names = pretrained_names()
    if name in names:
        return FOLDER / f"{name}.safetensors"
    near = get_close_matches(name, names, n=1, cutoff=0.0)
    hint = f"did you mean {near[0]}? Names are {', '.join(names)}" if near else "none are installed"
    raise UserError(
        f"no file and no pretrained weights {name!r}: {hint}. Give such a name, or the path of a "
        "checkpoint or an export"
    )
