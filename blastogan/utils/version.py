"""Version and git commit of this package, for the files that it writes."""

from __future__ import annotations

import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[2]

try:
    __version__ = version("blastogan")
except PackageNotFoundError:
    __version__ = "unknown"


@cache
def provenance() -> dict[str, str | None]:
    """``version`` and ``commit`` of this package; the commit is ``None`` outside a checkout.

    The commit has 12 digits, and ends in ``-dirty`` if files of the checkout differ from it.
    """
    return {"version": __version__, "commit": _commit()}


def describe_version() -> str:
    """Version and commit in words."""
    found = provenance()
    commit = f", commit {found['commit']}" if found["commit"] else ""
    return f"blastogan {found['version']}{commit}"


def _commit() -> str | None:
    # an environment may lie within a repository of the user's
    if not (_CHECKOUT / ".git").exists():
        return None
    # without optional locks, so that nothing is written
    command = ["git", "--no-optional-locks", "-C", str(_CHECKOUT), "describe", "--always"]
    try:
        done = subprocess.run(
            [*command, "--dirty", "--abbrev=12", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
