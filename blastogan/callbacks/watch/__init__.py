"""Watches a fit for divergence, mode collapse and overfitting."""
