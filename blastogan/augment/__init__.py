"""Differentiable augmentation of everything a discriminator sees, on the device.

.. include:: GUIDE.md
"""

from __future__ import annotations

from blastogan.augment.adaptive import AdaptiveAugmentation, AugmentationSettings
from blastogan.augment.diff import DIFFAUGMENT, diff_augment
from blastogan.augment.pipeline import OPERATIONS, SETS, augment_images

__all__ = [
    "DIFFAUGMENT",
    "OPERATIONS",
    "SETS",
    "AdaptiveAugmentation",
    "AugmentationSettings",
    "augment_images",
    "diff_augment",
]
