"""The two sides of a comparison: from paths to the statistics that metrics are computed of."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from blastogan.data.image_sets import ImageSet
from blastogan.data.images.framing import Crop
from blastogan.errors import UserError
from blastogan.evaluation.fakes import evaluation_fakes, sample_labels
from blastogan.grades import Grade
from blastogan.metrics.cache import load_statistics
from blastogan.metrics.fidelity import FidelityEvaluator
from blastogan.metrics.statistics import SetStatistics
from blastogan.modules import BaseGANModule, load_module
from blastogan.runs.checkpoint_files import read_checkpoint
from blastogan.utils.terminal import is_checkpoint, is_statistics, track

_CENTRE = Crop().key()


class GeneratedSet:
    """Fakes of a module as one side of a comparison, made when they are looked at.

    Args:
        module: Gives the samples, at its final resolution.
        labels: Grades to ask for, int64 ``(N, 2)``.
        seed: Seed of the latents.
        crop: Key of the crop of what the module was trained on.

    Attributes:
        groups: ``None``: fakes are nobody's.
        lossy: ``False``: fakes come as they were made.
        crop: As given.
        note: What is special about the module, else empty.
    """

    def __init__(
        self, module: BaseGANModule, labels: Tensor, seed: int, crop: str = _CENTRE
    ) -> None:
        self.groups = None
        self.lossy = False
        self.crop = crop
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
        crop: Which square of the reals is shown; ``None`` for that which a checkpoint was trained
            on, else the centre. Fakes are shown whole.

    Raises:
        UserError: If a side cannot be read, every fault of a folder being listed; or if the crop
            of a checkpoint is none that is known here.
    """
    if not is_checkpoint(fake):
        return _open(real, resolution, None, crop), _open(fake, resolution, None)
    trained = trained_crop(read_checkpoint(fake))
    crop = crop or _crop_of(trained)
    # networks are built with random weights before they get their own
    with torch.random.fork_rng(devices=[]):
        module = load_module(fake).to(device)
    channels = int(module.hparams["img_channels"])
    reals = _open(real, resolution or module.final_resolution, channels, crop)
    law = module.class_weights()
    if reals.labels is not None:
        names = Counter(Grade.from_labels(*pair).name for pair in reals.labels.tolist())
        law = {name: float(names[name]) for name in law}
    return reals, GeneratedSet(module, sample_labels(count, law, seed), seed, trained)


def _open(
    path: str, resolution: int | None, channels: int | None, crop: Crop | None = None
) -> ImageSet | SetStatistics:
    if is_statistics(path):
        return load_statistics(path)
    return ImageSet(path, resolution, channels, crop)


def trained_crop(checkpoint: Mapping[str, Any]) -> str:
    """Key of the crop of the images that a checkpoint was trained on, see `Crop.key`.

    Checkpoints that were written before this was a setting were trained on the centre.
    """
    for state in checkpoint.values():
        # the state of the data module lies under the name of its class, which may be a user's own
        if isinstance(state, Mapping) and {"crop", "fingerprint"} <= state.keys():
            return str(state["crop"])
    return _CENTRE


def _crop_of(key: str) -> Crop:
    """The crop of a key; one found by another version of the search is taken for ours."""
    kind, _, rest = key.partition("-")
    margin = rest.partition("-")[2]
    try:
        return Crop(kind, float(margin)) if rest else Crop(kind)  # type: ignore[arg-type]
    except ValueError as error:
        raise UserError(
            f"the checkpoint was trained with the crop {key!r}, which is not known here: say by "
            "--crop which square of the real images is shown"
        ) from error


def crop_notes(sides: Sequence[Side], chosen: bool) -> list[str]:
    """What is to be told of the crop of the reals, a sentence each, once they were looked at.

    Args:
        sides: As `open_sides` gave them.
        chosen: Whether the user chose the crop.
    """
    reals, fakes = sides
    trained = fakes.crop if isinstance(fakes, GeneratedSet) else None
    if not isinstance(reals, ImageSet):
        unknown = f"the model was trained with {_options(trained)}; a file does not tell its crop"
        return [f"REAL: {unknown}"] if trained not in (None, _CENTRE) else []
    notes, shown = [], reals.crop.key()
    if trained not in (None, shown):
        both = f"{_options(shown)}, the model was trained with {_options(trained)}"
        remedy = "the search for embryos has changed since"
        if chosen:
            remedy = "leave --crop out for that of training"
        notes.append(f"REAL: {both}: a part of the distances is the crop; {remedy}")
    elif shown != _CENTRE and not chosen:
        notes.append(f"REAL: {_options(shown)}, as the model was trained")
    if reals.not_found:
        count = f"{reals.not_found} of {len(reals)} images"
        notes.append(f"no embryo was found in {count} of REAL: they show the centre")
    return notes


def _options(key: str | None) -> str:
    """How the command line asks for the crop of a key."""
    kind, *rest = (key or _CENTRE).split("-", 2)
    return f"--crop {kind} --crop-margin {rest[-1]}" if rest else f"--crop {kind}"


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
        found = self.evaluator.gather_cached(
            side.fingerprint(), lambda extract: self._look(side, real=True, extract=extract)
        )
        if side.not_found is None:
            # the cache knows features alone, and what they are of is to be told
            for _ in self._batches(side, "real images"):
                pass
        return found

    def fake(self, side: Side) -> SetStatistics:
        """Statistics of the side of the fakes."""
        return self._look(side)

    def _look(self, side: Side, *, real: bool = False, extract: bool = True) -> SetStatistics:
        if isinstance(side, SetStatistics):
            return side
        shown = self._batches(side, "real images" if real else "generated images")
        return self.evaluator.gather(shown, groups=side.groups, real=real, extract=extract)

    def _batches(self, side: ImageSet | GeneratedSet, description: str) -> Iterable[dict[str, Any]]:
        total = math.ceil(len(side) / self.batch_size)
        return track(side.batches(self.batch_size, self.num_workers), total, description)
