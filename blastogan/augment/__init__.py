"""Augmentation of what a discriminator sees, on the device and differentiable."""

from __future__ import annotations

from blastogan.augment.adaptive import INTERVAL, AdaptiveAugmentation, check_augmentation
from blastogan.augment.diff import DIFFAUGMENT, diff_augment
from blastogan.augment.pipeline import OPERATIONS, SETS, augment_images

__all__ = [
    "DIFFAUGMENT",
    "INTERVAL",
    "OPERATIONS",
    "SETS",
    "AdaptiveAugmentation",
    "augment_images",
    "check_augmentation",
    "diff_augment",
]
