"""What libraries say that nobody can act on."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

LOGGERS = ("pytorch_lightning.utilities.rank_zero", "lightning_fabric.utilities.seed")
TEXTS = ("LeafSpec", "does not have many workers", "but have no logger configured")

# Lightning uses names of jsonargparse that are deprecated
_DEPRECATIONS = "JSONARGPARSE_DEPRECATION_WARNINGS"


def hide_noise() -> None:
    """Hide it for the rest of the process."""
    os.environ.setdefault(_DEPRECATIONS, "off")
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    for text in TEXTS:
        warnings.filterwarnings("ignore", message=f".*{text}.*")


@contextmanager
def noise_hidden() -> Iterator[None]:
    """Hide it within a block; afterwards all settings are as before."""
    asked = os.environ.get(_DEPRECATIONS)
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    try:
        with warnings.catch_warnings():
            hide_noise()
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        if asked is None:
            os.environ.pop(_DEPRECATIONS, None)
