"""Configurations that ship with the package, each called by its bare name."""

from __future__ import annotations

import difflib
from pathlib import Path

from blastogan.errors import UserError

FOLDER = Path(__file__).parent


def preset_names() -> list[str]:
    """Names of all presets, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def find_config(name: str) -> Path:
    """File of a configuration: a preset by its bare name, anything else by its path.

    Raises:
        UserError: If there is neither; the nearest preset is suggested.
    """
    path = Path(name)
    if path.is_file():
        return path
    if path.suffix or len(path.parts) > 1:
        raise UserError(f"no configuration at {name}: presets are {', '.join(preset_names())}")
    if name in preset_names():
        return FOLDER / f"{name}.yaml"
    nearest = difflib.get_close_matches(name, preset_names(), n=1, cutoff=0.4)
    hint = f"did you mean {nearest[0]}? " if nearest else ""
    raise UserError(f"no preset {name!r}: {hint}Presets are {', '.join(preset_names())}")
