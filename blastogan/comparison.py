"""The two sides of a comparison: from paths to the statistics that metrics are computed of."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from blastogan.data.framing import Crop
from blastogan.data.image_sets import ImageSet
from blastogan.grades import Grade
from blastogan.metrics.cache import load_statistics
from blastogan.metrics.fidelity import FidelityEvaluator
from blastogan.metrics.statistics import SetStatistics
from blastogan.modules import BaseGANModule, load_module
from blastogan.modules.sampling import evaluation_fakes, labels_by_law
from blastogan.terminal import is_checkpoint, is_statistics, track


class GeneratedSet:
    """Fakes of a module as one side of a comparison, made when they are looked at.

    Args:
        module: Gives the samples, at its final resolution.
        labels: Grades to ask for, int64 ``(N, 2)``.
        seed: Seed of the latents.

    Attributes:
        groups: ``None``: fakes are nobody's.
        lossy: ``False``: fakes come as they were made.
        note: What is special about the module, else empty.
    """

    def __init__(self, module: BaseGANModule, labels: Tensor, seed: int) -> None:
        self.groups = None
        self.lossy = False
        self._module = module
        self._labels = labels
        self._seed = seed
        notes = []
        if module.resolution < module.final_resolution:
            sides = f"{module.resolution} pixels, enlarged to {module.final_resolution}"
            notes.append(f"the model is still growing: it generates {sides}")
        if not module.conditional:
            notes.append("the model was trained without grades: no metrics by class")
        self.note = "; ".join(notes)

    def __len__(self) -> int:
        return len(self._labels)

    def batches(self, batch_size: int, num_workers: int = 0) -> Iterator[dict[str, Any]]:
        """As `ImageSet.batches`."""
        return evaluation_fakes(self._module, self._labels, seed=self._seed, batch_size=batch_size)


Side = ImageSet | GeneratedSet | SetStatistics
"""One side of a comparison; statistics come from a file."""


def open_sides(
    real: str,
    fake: str,
    *,
    resolution: int | None,
    count: int,
    seed: int,
    device: str,
    crop: Crop | None = None,
) -> tuple[Side, Side]:
    """Open both sides; no image is decoded yet.

    Fakes of a checkpoint have the grades of the reals, or where these have none, of what the
    module was trained on; reals then get its resolution and channels.

    Args:
        real: Folder, or file of statistics.
        fake: The same, or a checkpoint of a GAN.
        resolution: Side in pixels to which images in folders are resized; ``None`` for as they are.
        count: Images that a checkpoint generates.
        seed: Seed of what it generates.
        device: Where it runs.
        crop: Which square of the reals is shown, as in training; fakes are shown whole.

    Raises:
        UserError: If a side cannot be read; every fault of a folder is listed.
    """
    if not is_checkpoint(fake):
        return _open(real, resolution, None, crop), _open(fake, resolution, None)
    # networks are built with random weights before they get their own
    with torch.random.fork_rng(devices=[]):
        module = load_module(fake).to(device)
    channels = int(module.hparams["img_channels"])
    reals = _open(real, resolution or module.final_resolution, channels, crop)
    law = module.class_weights()
    if reals.labels is not None:
        names = Counter(Grade.from_labels(*pair).name for pair in reals.labels.tolist())
        law = {name: float(names[name]) for name in law}
    return reals, GeneratedSet(module, labels_by_law(count, law, seed), seed)


def _open(
    path: str, resolution: int | None, channels: int | None, crop: Crop | None = None
) -> ImageSet | SetStatistics:
    if is_statistics(path):
        return load_statistics(path)
    return ImageSet(path, resolution, channels, crop)


@dataclass(frozen=True)
class Gatherer:
    """Look at the images of a side, with a bar on a terminal.

    Attributes:
        evaluator: What for.
        batch_size: Images at a time.
        num_workers: Processes that decode.
        use_cache: Whether features of a folder of reals are taken from the cache, and put there.
    """

    evaluator: FidelityEvaluator
    batch_size: int
    num_workers: int
    use_cache: bool = True

    def real(self, side: Side) -> SetStatistics:
        """Statistics of the real side; from the cache only while no file and no grade changed."""
        if not isinstance(side, ImageSet) or not self.use_cache:
            return self._look(side, real=True)
        return self.evaluator.gather_cached(
            side.fingerprint(), lambda extract: self._look(side, real=True, extract=extract)
        )

    def fake(self, side: Side) -> SetStatistics:
        """Statistics of the side of the fakes."""
        return self._look(side)

    def _look(self, side: Side, *, real: bool = False, extract: bool = True) -> SetStatistics:
        if isinstance(side, SetStatistics):
            return side
        total = math.ceil(len(side) / self.batch_size)
        batches = side.batches(self.batch_size, self.num_workers)
        shown = track(batches, total, "real images" if real else "generated images")
        return self.evaluator.gather(shown, groups=side.groups, real=real, extract=extract)
