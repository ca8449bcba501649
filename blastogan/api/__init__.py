"""Training in one call, and runs in Python.

.. include:: GUIDE.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blastogan.utils.lazy import lazy_names

if TYPE_CHECKING:
    from blastogan.api.run import Run, open_run
    from blastogan.api.table import MetricsTable
    from blastogan.api.training import train

__all__ = ["MetricsTable", "Run", "open_run", "train"]

_HOMES = {
    "MetricsTable": ".table",
    "Run": ".run",
    "open_run": ".run",
    "train": ".training",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
