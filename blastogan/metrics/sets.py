"""Metrics between real and generated images, gathered batch by batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from blastogan.errors import UserError
from blastogan.metrics.similarity import pairwise_ms_ssim
from blastogan.metrics.sliced_wasserstein import COARSEST, image_swd


class ImageSetMetrics(Metric):
    """Sliced Wasserstein distance and MS-SSIM of fakes against reals; no weights needed.

    Images are gathered as uint8 on the CPU, in any order and from any number of processes (see
    `merge`), and sorted by their index. `compute` gives ``swd`` (mean over levels,
    times 1000), ``swd_<resolution>`` per level, ``ms_ssim`` of the fakes and ``ms_ssim_real``.

    Args:
        seed: Seed of patches, directions and pairs: equal sets give equal values.
        swd_images: Largest number of reals, and of fakes, for the distance; memory grows with it.
    """

    full_state_update = False
    is_differentiable = False
    reals: list[Tensor]
    fakes: list[Tensor]
    index: list[Tensor]

    def __init__(self, seed: int = 0, swd_images: int = 2000) -> None:
        # the caller merges the processes' parts
        super().__init__(compute_on_cpu=True, sync_on_compute=False)
        self.seed, self.swd_images = seed, swd_images
        for name in ("reals", "fakes", "index"):
            self.add_state(name, default=[], dist_reduce_fx=None)

    def update(self, reals: Tensor, fakes: Tensor, index: Tensor | None = None) -> None:
        """Add uint8 images, both ``(B, C, R, R)``, and their positions, by default in order.

        Raises:
            UserError: If shapes or dtypes differ.
        """
        if reals.shape != fakes.shape or {reals.dtype, fakes.dtype} != {torch.uint8}:
            raise UserError(
                f"reals are {tuple(reals.shape)} {reals.dtype}, fakes {tuple(fakes.shape)} "
                f"{fakes.dtype}: expected the same shape and torch.uint8"
            )
        if index is None:
            index = torch.arange(len(reals)) + sum(map(len, self.index))
        self.reals.append(reals.cpu())
        self.fakes.append(fakes.cpu())
        self.index.append(index.cpu())

    def rank_part(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """Reals, fakes and index of this process; ``None`` without images."""
        if not self.reals:
            return None
        return dim_zero_cat(self.reals), dim_zero_cat(self.fakes), dim_zero_cat(self.index)

    def merge(self, parts: Sequence[tuple[Tensor, Tensor, Tensor] | None]) -> None:
        """Replace the images by those of all processes, see `rank_part`."""
        self.reset()
        for part in parts:
            if part is not None:
                self.update(*part)

    def compute(self) -> dict[str, Tensor]:
        """All metrics by name, as scalars; empty below 16 pixels, where none is defined."""
        reals, fakes, index = (dim_zero_cat(each) for each in (self.reals, self.fakes, self.index))
        order = index.argsort(stable=True)
        # with fewer images than processes, several have the same image
        order = order[index[order].diff(prepend=torch.tensor([-1])) > 0]
        reals, fakes = reals[order], fakes[order]
        if reals.shape[-1] < COARSEST or len(reals) < 2:
            return {}
        levels = image_swd(reals[: self.swd_images], fakes[: self.swd_images], seed=self.seed)
        values = {"swd": sum(levels.values()) / len(levels)}
        values |= {f"swd_{resolution}": value for resolution, value in levels.items()}
        values["ms_ssim"] = pairwise_ms_ssim(fakes, seed=self.seed)
        values["ms_ssim_real"] = pairwise_ms_ssim(reals, seed=self.seed)
        return {name: torch.tensor(value) for name, value in values.items()}
