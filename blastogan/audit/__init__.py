"""Audit of a set of graded images: its contents, and faults that would spoil training.

Names are imported on first use, as an audit of labels alone needs no torch.

.. include:: GUIDE.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blastogan.utils.lazy import lazy_names

if TYPE_CHECKING:
    from blastogan.audit.collect import audit_images
    from blastogan.audit.contents import Audit, Finding

__all__ = ["Audit", "Finding", "audit_images"]

_HOMES = {
    "Audit": ".contents",
    "Finding": ".contents",
    "audit_images": ".collect",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
