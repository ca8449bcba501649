"""Measures FID, KID and related metrics during a fit and in a test."""

from blastogan.callbacks.fidelity.callback import FidelityCallback

__all__ = ["FidelityCallback"]
