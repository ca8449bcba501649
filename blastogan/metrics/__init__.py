"""Metrics of image sets, independent of any model. `blastogan.metrics.specs` lists them.

.. include:: GUIDE.md
"""
