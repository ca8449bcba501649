"""Which configurations in run folders this user's own runs have written.

Each is remembered by a file that is named by its content, in ``$XDG_STATE_HOME/blastogan`` or
``~/.local/state/blastogan``. One that was changed, or was written by anybody else, is unknown.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path


def _record(config: Path) -> Path:
    home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    digest = hashlib.blake2b(config.read_bytes(), digest_size=20).hexdigest()
    return Path(home).expanduser() / "blastogan" / "configurations" / digest


def remember(config: Path) -> None:
    """Remember a configuration that a run of this user has written, if the home allows it."""
    with suppress(OSError, RuntimeError):
        record = _record(config)
        record.parent.mkdir(parents=True, exist_ok=True)
        record.touch()


def is_own(config: Path) -> bool:
    """Whether a run of this user has written exactly this configuration."""
    try:
        return _record(config).is_file()
    except (OSError, RuntimeError):
        return False
