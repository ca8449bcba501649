"""Real and generated images of a comparison: from their paths to their statistics."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from blastogan.data.image_sets import ImageSet
from blastogan.data.images.colour import ColourRule
from blastogan.data.images.framing import Crop
from blastogan.errors import UserError, check_choice
from blastogan.evaluation.fakes import evaluation_fakes, sample_labels
from blastogan.generators import Generator
from blastogan.generators.files import read_trained
from blastogan.grades import Grade
from blastogan.metrics.cache import load_statistics
from blastogan.metrics.fidelity import FidelityEvaluator
from blastogan.metrics.statistics import SetStatistics
from blastogan.utils.terminal import is_checkpoint, is_statistics, track

_CENTRE = Crop().key()


class GeneratedSet:
    """Fakes of a module, generated batch by batch; used like an `ImageSet`.

    Args:
        module: Generates the samples, enlarged to its final resolution.
        labels: Grades of the samples, int64 ``(N, 2)``.
        seed: Seed of the latents.
        crop: Key of the crop of the module's training images.

    Attributes:
        note: What a reader must know about the module; may be empty.
    """

    groups = None
    lossy = False

    def __init__(self, module: Generator, labels: Tensor, seed: int, crop: str = _CENTRE) -> None:
        self.crop = crop
        self._module, self._labels, self._seed = module, labels, seed
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
        """See `ImageSet.batches`."""
        return evaluation_fakes(self._module, self._labels, seed=self._seed, batch_size=batch_size)


ComparedSet = ImageSet | GeneratedSet | SetStatistics
"""Real or fake images of a comparison; statistics come from a file."""


def open_sets(
    real: str,
    fake: str,
    *,
    resolution: int | None,
    count: int,
    seed: int,
    device: str,
    crop: Crop | None = None,
    colour: ColourRule | None = None,
) -> tuple[ComparedSet, ComparedSet]:
    """Open reals and fakes; no image is decoded yet.

    Fakes of a checkpoint take their class distribution from the reals, or from the training images
    if the reals have no grades; the reals get the checkpoint's resolution and channels.

    Args:
        real: Folder, or file of statistics.
        fake: The same, or a checkpoint of a GAN, or its export as ``.safetensors``.
        resolution: Pixels to which images in folders are resized; ``None`` leaves their size.
        count: Number of images that a checkpoint generates.
        seed: Seed of the generated images.
        device: Device of the generator.
        crop: Square of the reals to use; ``None`` for the one that a checkpoint was trained on,
            else the centre. Fakes are never cropped.
        colour: What becomes of the colours of the reals; ``None`` for what was trained on.

    Raises:
        UserError: If a set cannot be read (every fault of a folder is listed), or the crop of a
            checkpoint is unknown.
    """
    if not is_checkpoint(fake):
        reals = _open(real, resolution, crop=crop, colour=colour or "keep")
        return reals, _open(fake, resolution)
    checkpoint = read_trained(fake)
    trained = trained_crop(checkpoint)
    colour = colour or trained_colour(checkpoint)
    crop = crop or _crop_of(trained)
    module = Generator.from_content(checkpoint, fake).to(device)
    channels = module.generator_ema.img_channels
    reals = _open(real, resolution or module.final_resolution, channels, crop, colour)
    distribution = module.class_weights()
    if reals.labels is not None:
        names = Counter(Grade.from_labels(*pair).name for pair in reals.labels.tolist())
        distribution = {name: float(names[name]) for name in distribution}
    labels = sample_labels(count, distribution, seed)
    return reals, GeneratedSet(module, labels, seed, trained)


def _open(
    path: str,
    resolution: int | None,
    channels: int | None = None,
    crop: Crop | None = None,
    colour: ColourRule = "keep",
) -> ImageSet | SetStatistics:
    if is_statistics(path):
        return load_statistics(path)
    return ImageSet(path, resolution, channels, crop, colour)


def trained_crop(checkpoint: Mapping[str, Any]) -> str:
    """Key of the crop of a checkpoint's training images, see `Crop.key`.

    Checkpoints without one are older than the setting: they were trained on the centre.
    """
    return str(_data_state(checkpoint).get("crop", _CENTRE))


def trained_colour(checkpoint: Mapping[str, Any]) -> ColourRule:
    """What became of the colours of a checkpoint's training images, see `load_image`."""
    found = _data_state(checkpoint).get("colour", "keep")
    check_choice("colour in the checkpoint", found, ColourRule)
    return found  # type: ignore[no-any-return]


def _data_state(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    """State of the data module of a checkpoint; empty without any."""
    for state in checkpoint.values():
        # its key is the name of the module's class, which may be a user's own
        if isinstance(state, Mapping) and {"crop", "fingerprint"} <= state.keys():
            return state
    return {}


def _crop_of(key: str) -> Crop:
    """The crop of a key; the version of the search for embryos is ignored."""
    kind, _, rest = key.partition("-")
    margin = rest.partition("-")[2]
    try:
        return Crop(kind, float(margin)) if rest else Crop(kind)  # type: ignore[arg-type]
    except ValueError as error:
        raise UserError(
            f"the checkpoint was trained with the unknown crop {key!r}: choose the square of the "
            "real images by --crop"
        ) from error


def crop_notes(reals: ComparedSet, fakes: ComparedSet, chosen: bool) -> list[str]:
    """Notes on the crop of the reals, which were gathered, and whether the user chose it."""
    trained = fakes.crop if isinstance(fakes, GeneratedSet) else None
    if not isinstance(reals, ImageSet):
        unknown = f"the model was trained with {_options(trained)}; the crop of a file is unknown"
        return [f"REAL: {unknown}"] if trained not in (None, _CENTRE) else []
    notes, shown = [], reals.crop.key()
    if trained not in (None, shown):
        both = f"{_options(shown)}, the model was trained with {_options(trained)}"
        changed = "the search for embryos has changed since"
        remedy = "omit --crop to use the crop of training" if chosen else changed
        notes.append(f"REAL: {both}: a part of the distances is the crop; {remedy}")
    elif shown != _CENTRE and not chosen:
        notes.append(f"REAL: {_options(shown)}, as the model was trained")
    if reals.not_found:
        count = f"{reals.not_found} of {len(reals)} images"
        notes.append(f"no embryo was found in {count} of REAL: they show the centre")
    return notes


def _options(key: str | None) -> str:
    """Command-line options of the crop of a key."""
    kind, *rest = (key or _CENTRE).split("-", 2)
    return f"--crop {kind} --crop-margin {rest[-1]}" if rest else f"--crop {kind}"


@dataclass(frozen=True)
class Gatherer:
    """Gathers statistics with a progress bar; caches the features of a folder of reals."""

    evaluator: FidelityEvaluator
    batch_size: int
    num_workers: int
    use_cache: bool = True

    def real(self, images: ComparedSet) -> SetStatistics:
        """Statistics of the reals; a cached entry is used until a file or a grade changes."""
        if not isinstance(images, ImageSet) or not self.use_cache:
            return self._gather(images, real=True)
        found = self.evaluator.gather_cached(
            images.fingerprint(), lambda extract: self._gather(images, real=True, extract=extract)
        )
        if images.not_found is None:
            # cached features do not say in how many images an embryo was found: decode once
            for _ in self._batches(images, "real images"):
                pass
        return found

    def fake(self, images: ComparedSet) -> SetStatistics:
        """Statistics of the fakes."""
        return self._gather(images)

    def _gather(
        self, images: ComparedSet, *, real: bool = False, extract: bool = True
    ) -> SetStatistics:
        if isinstance(images, SetStatistics):
            return images
        batches = self._batches(images, "real images" if real else "generated images")
        return self.evaluator.gather(batches, groups=images.groups, real=real, extract=extract)

    def _batches(
        self, images: ImageSet | GeneratedSet, description: str
    ) -> Iterable[dict[str, Any]]:
        total = math.ceil(len(images) / self.batch_size)
        return track(images.batches(self.batch_size, self.num_workers), total, description)
