"""Precision of float32 products on CUDA."""

from __future__ import annotations

import logging

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

_log = logging.getLogger(__name__)


class TF32(Callback):
    """Choose whether CUDA computes float32 convolutions and matrix products in TF32.

    By default PyTorch does so for convolutions only. Under bfloat16 autocast, only R1 and the
    gradient penalty remain in float32. The previous settings are restored at the end.

    Args:
        tf32: Use TF32: 10 bits of mantissa instead of 23, on tensor cores.
    """

    def __init__(self, tf32: bool = True) -> None:
        self.tf32 = tf32
        self._before: tuple[bool, bool] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Set both, and log the precision in a fit on CUDA."""
        matrices, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
        if self._before is None:
            self._before = (matrices.allow_tf32, convolutions.allow_tf32)
        matrices.allow_tf32 = convolutions.allow_tf32 = self.tf32
        if stage == "fit" and trainer.strategy.root_device.type == "cuda":
            _log.info("float32 products in %s", "TF32" if self.tf32 else "full precision")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restore the previous settings."""
        if self._before is not None:
            matrices, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
            matrices.allow_tf32, convolutions.allow_tf32 = self._before
            self._before = None
