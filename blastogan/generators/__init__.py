"""Trained generators apart from their runs: loading, export, data sets of generated images.

.. include:: GUIDE.md
"""

from __future__ import annotations
