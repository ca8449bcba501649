"""Watches a fit for divergence, mode collapse and overfitting."""

from blastogan.callbacks.watch.callback import DivergenceWatch

__all__ = ["DivergenceWatch"]
