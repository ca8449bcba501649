"""Audit of a set of graded images: its contents, and faults that would spoil training.

Names are imported on first use, as an audit of labels alone needs no torch.

.. include:: GUIDE.md
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blastogan.audit.collect import audit_images
    from blastogan.audit.contents import Audit, Finding

__all__ = ["Audit", "Finding", "audit_images"]

_HOMES = {"Audit": "contents", "Finding": "contents", "audit_images": "collect"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
