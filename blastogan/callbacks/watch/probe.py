"""What a look at a run measures: how D scores three sides of images, and how varied samples are."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor

from blastogan.data import BlastocystDataModule
from blastogan.data.stream import apply_symmetry
from blastogan.data.transforms import plan_augmentation
from blastogan.grades import LETTERS
from blastogan.metrics import to_float
from blastogan.metrics.augmentation_leaks import GRID, LeakDetector, to_grid
from blastogan.modules import BaseGANModule
from blastogan.utils.seeding import derive_seed

MIN_HELD_OUT = 8
"""With fewer held-out images their mean logit says nothing."""

REALS_OF_LEAKS = 1000
"""Most training images with which samples are compared for leaks of the augmentation."""

FEWEST_OF_LEAKS = 64
"""With fewer embryos among them there is no telling what is usual."""

Detectors = dict[int, LeakDetector]
"""Detectors of leaks by resolution in pixels, kept from look to look."""


@dataclass(frozen=True)
class Sides:
    """Positions of the images of a look.

    Attributes:
        train: int64 ``(N,)``, in the training part; the first K have the grades of `held_out`.
        held_out: int64 ``(K,)``, in the validation part; empty if there are too few.
    """

    train: Tensor
    held_out: Tensor


def draw_sides(
    train: Tensor, held_out: Tensor, count: int, group: int, generator: torch.Generator
) -> Sides:
    """Choose images such that nothing but their side distinguishes the sides.

    Logits depend on the grade, and through the minibatch standard deviation on the mixture of a
    batch: position by position, all sides have the same grades.

    Args:
        train: Labels int64 ``(T, 2)`` of the training images.
        held_out: Labels of the held-out ones.
        count: Most images to a side.
        group: Images to a group of the minibatch standard deviation; sides have whole groups.
        generator: Source of randomness.
    """
    of_train, of_held_out = _classes(train), _classes(held_out)
    waiting = defaultdict(list)
    for n in torch.randperm(len(of_train), generator=generator).tolist():
        waiting[of_train[n]].append(n)
    pairs: list[tuple[int, int]] = []
    for n in torch.randperm(len(of_held_out), generator=generator).tolist():
        if len(pairs) < count and waiting[of_held_out[n]]:
            pairs.append((waiting[of_held_out[n]].pop(), n))
    if len(pairs) < MIN_HELD_OUT:
        pairs = []
    pairs = pairs[: len(pairs) // group * group]
    first = [n for n, _ in pairs]
    taken = set(first)
    order = torch.randperm(len(of_train), generator=generator).tolist()
    chosen = [*first, *(n for n in order if n not in taken)][:count]
    return Sides(
        train=torch.tensor(chosen[: len(chosen) // group * group], dtype=torch.int64),
        held_out=torch.tensor([n for _, n in pairs], dtype=torch.int64),
    )


def _classes(labels: Tensor) -> list[int]:
    classes: list[int] = (labels[:, 0] * len(LETTERS) + labels[:, 1]).tolist()
    return classes


@torch.no_grad()
def probe_discriminator(
    module: BaseGANModule,
    data: BlastocystDataModule,
    *,
    count: int,
    batch_size: int,
    seed: int,
    detectors: Detectors | None = None,
) -> dict[str, float]:
    """Score training images, held-out ones and samples by D, at the module's stage.

    They are not augmented: ``sign_real`` is r_t of images as they are, where adaptive augmentation
    follows that of the augmented ones.

    Weights, gradients, modes and the global random state are left as they are.

    Args:
        module: In training or not.
        data: Its data, set up.
        count: Images to a side, if there are as many.
        batch_size: Images to a pass of D, as in a step: whole groups, or one group.
        seed: Seed of images and latents.
        detectors: Those of earlier looks, to which new ones are added; they follow from the data.

    Returns:
        ``logits_train``, ``logits_generated`` and ``sign_real``; ``diversity``, unless there is
        nothing to compare with; with held-out images ``logits_held_out`` and ``overfitting``, the
        latter unless D does not tell samples from training images. Where D sees augmented images,
        ``augment_p`` and what `find_leaks` finds.
    """
    group = min(module.discriminator.stddev_group, batch_size)
    generator = torch.Generator().manual_seed(derive_seed(seed, "sides"))
    sides = draw_sides(data.labels("train"), data.labels("val"), count, group, generator)
    if not len(sides.train):
        return {}
    labels, matched = data.labels("train")[sides.train], len(sides.held_out)
    reals = _reals(module, data.images("train", sides.train, module.resolution), batch_size)
    fakes = _fakes(module, labels, batch_size, seed)
    train = score(module, reals, labels, batch_size)
    generated = score(module, fakes, labels, batch_size)
    row: dict[str, float | None] = {
        "logits_train": float(train.mean()),
        "logits_generated": float(generated.mean()),
        "sign_real": float(train.sign().mean()),
    }
    if matched:
        images = data.images("val", sides.held_out, module.resolution)
        others = _reals(module, images, batch_size)
        held_out = score(module, others, labels[:matched], batch_size)
        row["logits_held_out"] = float(held_out.mean())
        row["overfitting"] = overfitting(train[:matched], held_out, generated[:matched])
    row["diversity"] = diversity(fakes, reals, labels if module.conditional else None)
    if module.augmentation is not None:
        row["augment_p"] = module.augment_probability()
        row |= find_leaks(data, fakes, {} if detectors is None else detectors)
    return {name: value for name, value in row.items() if value is not None}


def find_leaks(data: BlastocystDataModule, fakes: Tensor, detectors: Detectors) -> dict[str, float]:
    """Shares of turned, shifted and dark images among samples and among what training shows.

    Args:
        data: Its data, set up.
        fakes: Samples, floats in [-1, 1], ``(N, C, R, R)``.
        detectors: See `probe_discriminator`.

    Returns:
        As `LeakDetector.compare`; nothing below 16 pixels, or with few embryos to train on.
    """
    resolution = fakes.shape[-1]
    if resolution < GRID:
        return {}
    if resolution not in detectors:
        train = data.split["train"]
        generator = torch.Generator().manual_seed(derive_seed(data.seed, "leaks"))
        chosen = torch.randperm(len(train), generator=generator)[:REALS_OF_LEAKS]
        embryos = [data.records[train[n]].embryo for n in chosen.tolist()]
        if len(set(embryos)) < FEWEST_OF_LEAKS:
            return {}
        grids = grids_as_shown(data, chosen, resolution)
        detectors[resolution] = LeakDetector(grids, embryos)
    return detectors[resolution].compare(to_grid(fakes))


def grids_as_shown(data: BlastocystDataModule, index: Tensor, resolution: int) -> Tensor:
    """Grids of training images under the augmentation of the data, whose turns are no leak.

    Args:
        data: Set up.
        index: Positions in the training part, int64 ``(N,)``; the n-th is shown as the stream might
            show it as its n-th image.
        resolution: In pixels.
    """
    symmetries, transform = plan_augmentation(
        data.augment, data.seed, data.img_channels, (resolution,)
    )
    generator = torch.Generator().manual_seed(derive_seed(data.seed, "leaks", "symmetries"))
    drawn = torch.randint(symmetries, (len(index),), generator=generator).tolist()
    grids = []
    for part in torch.split(torch.arange(len(index)), 64):
        images = data.images("train", index[part], resolution)
        for place, n in enumerate(part.tolist()):
            images[place] = apply_symmetry(images[place], drawn[n])
            if transform is not None:
                images[place] = transform(images[place], n)
        grids.append(to_grid(to_float(images)))
    return torch.cat(grids)


def _reals(module: BaseGANModule, images: Tensor, batch_size: int) -> Tensor:
    parts = torch.split(images, batch_size)
    return torch.cat([module.prepare_reals(part.to(module.device)).cpu() for part in parts])


def _fakes(module: BaseGANModule, labels: Tensor, batch_size: int, seed: int) -> Tensor:
    parts = torch.split(torch.arange(len(labels)), batch_size)
    return to_float(
        torch.cat([module.sample(part.tolist(), labels[part], seed=seed).cpu() for part in parts])
    )


def score(module: BaseGANModule, images: Tensor, labels: Tensor, batch_size: int) -> Tensor:
    """Logits ``(N,)`` by D, on the CPU, of images and their labels ``(N, 2)``; not augmented."""
    logits = []
    for part in torch.split(torch.arange(len(images)), batch_size):
        given = labels[part].to(module.device)
        logits.append(module.score(images[part].to(module.device), given))
    return torch.cat(logits).float().cpu()


def overfitting(train: Tensor, held_out: Tensor, generated: Tensor) -> float | None:
    """How far D takes held-out images for generated ones: ``r_v``.

    ``(E D(train) - E D(held out)) / (E D(train) - E D(generated))``: 0 where D scores held-out
    images as those that it is trained on, 1 where it scores them as samples (Karras et al. 2020,
    "Training generative adversarial networks with limited data", equation 1).

    Args:
        train: Logits of training images.
        held_out: Logits of held-out images.
        generated: Logits of samples.

    Returns:
        The ratio; ``None`` unless D scores training images above samples by more than twice the
        standard error of the difference.
    """
    gap = float(train.mean() - generated.mean())
    error = math.sqrt(float(train.var() / len(train) + generated.var() / len(generated)))
    # a NaN stays one
    if gap <= 2 * error:
        return None
    return float(train.mean() - held_out.mean()) / gap


def diversity(samples: Tensor, images: Tensor, labels: Tensor | None) -> float | None:
    """How much samples of a grade differ, in units of how much training images of a grade do.

    Root mean square difference between the pixels of two samples of the same label, over that of
    two images: 0 where a grade has one sample only, 1 where samples are as varied as images. All
    pairs within a label count, such that the mean square is twice the pooled variance.

    Args:
        samples: ``(N, C, H, W)``.
        images: Training images of the same labels, ``(N, C, H, W)``.
        labels: ``(N, parts)``; ``None`` where they do not matter, and any pair counts.

    Returns:
        The ratio; ``None`` if no label has two images that differ.
    """
    classes = torch.zeros(len(samples), 1) if labels is None else labels
    _, of_class = torch.unique(classes, dim=0, return_inverse=True)
    within = _variance_within(images, of_class)
    return math.sqrt(_variance_within(samples, of_class) / within) if within else None


def _variance_within(images: Tensor, classes: Tensor) -> float:
    """Mean square deviation of pixels from the mean image of the class, summed over images."""
    total = 0.0
    for n in range(int(classes.max()) + 1):
        part = images[classes == n]
        total += float((part - part.mean(dim=0)).square().mean(dim=(1, 2, 3)).sum())
    return total
