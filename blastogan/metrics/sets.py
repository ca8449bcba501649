"""Metrics between a set of real and a set of generated images, gathered batch by batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from blastogan.errors import UserError
from blastogan.metrics.similarity import pairwise_ms_ssim
from blastogan.metrics.sliced_wasserstein import COARSEST, image_swd


class ImageSetMetrics(Metric):
    """Sliced Wasserstein distance and MS-SSIM of fakes against reals; no weights needed.

    Images are gathered as uint8 on the CPU. `compute` gives ``swd`` (mean over levels, times
    1000), ``swd_<resolution>`` per level, ``ms_ssim`` of the fakes and ``ms_ssim_real``.

    Args:
        seed: Seed of patches, directions and pairs: equal sets give equal values.
        swd_images: Most images of each set that the distance looks at; memory grows with it.
    """

    full_state_update = False
    is_differentiable = False
    reals: list[Tensor]
    fakes: list[Tensor]

    def __init__(self, seed: int = 0, swd_images: int = 2000) -> None:
        # every process sees the whole set
        super().__init__(compute_on_cpu=True, sync_on_compute=False)
        self.seed = seed
        self.swd_images = swd_images
        self.add_state("reals", default=[], dist_reduce_fx=None)
        self.add_state("fakes", default=[], dist_reduce_fx=None)

    def update(self, reals: Tensor, fakes: Tensor) -> None:
        """Add uint8 images, both ``(B, C, R, R)``.

        Raises:
            UserError: If shape or dtype differ.
        """
        if reals.shape != fakes.shape or {reals.dtype, fakes.dtype} != {torch.uint8}:
            raise UserError(
                f"reals are {tuple(reals.shape)} {reals.dtype}, fakes {tuple(fakes.shape)} "
                f"{fakes.dtype}: expected the same shape and torch.uint8"
            )
        self.reals.append(reals.cpu())
        self.fakes.append(fakes.cpu())

    def compute(self) -> dict[str, Tensor]:
        """All metrics by name as scalars; empty below 16 pixels, where none is defined."""
        reals, fakes = dim_zero_cat(self.reals), dim_zero_cat(self.fakes)
        if reals.shape[-1] < COARSEST or len(reals) < 2:
            return {}
        levels = image_swd(reals[: self.swd_images], fakes[: self.swd_images], seed=self.seed)
        values = {"swd": sum(levels.values()) / len(levels)}
        values |= {f"swd_{resolution}": value for resolution, value in levels.items()}
        values["ms_ssim"] = pairwise_ms_ssim(fakes, seed=self.seed)
        values["ms_ssim_real"] = pairwise_ms_ssim(reals, seed=self.seed)
        return {name: torch.tensor(value) for name, value in values.items()}
