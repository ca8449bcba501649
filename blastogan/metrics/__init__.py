"""Metrics of image sets; they know no model."""

from blastogan.metrics.images import to_float, to_uint8
from blastogan.metrics.sets import ImageSetMetrics
from blastogan.metrics.similarity import pairwise_ms_ssim
from blastogan.metrics.sliced_wasserstein import image_swd

__all__ = ["ImageSetMetrics", "image_swd", "pairwise_ms_ssim", "to_float", "to_uint8"]
