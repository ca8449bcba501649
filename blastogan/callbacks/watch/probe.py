"""Probes of a run: how D scores training, held-out and generated images; how varied samples are."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor

from blastogan.data import BlastocystDataModule
from blastogan.modules import BaseGANModule
from blastogan.utils.pixels import to_float
from blastogan.utils.seeding import derive_seed

MIN_HELD_OUT = 8
"""Held-out images below which their mean logit means nothing."""


@dataclass(frozen=True)
class ProbeImages:
    """Positions of real images in the training and the validation part.

    They are int64 ``(N,)`` and ``(K,)``, K 0 if there are too few; the first K have equal grades.
    """

    train: Tensor
    held_out: Tensor


def choose_images(
    train: Tensor, held_out: Tensor, count: int, group: int, generator: torch.Generator
) -> ProbeImages:
    """Choose training and held-out images with the same grade at each position.

    Logits depend on the grade and, through the minibatch standard deviation, on the mixture of
    grades in a batch.

    Args:
        train: Labels of the training images, int64 ``(T, 2)``.
        held_out: Labels of the held-out images, int64 ``(V, 2)``.
        count: Maximum number of images per set, which consists of whole groups.
        group: Group size of the minibatch standard deviation.
        generator: Source of randomness.
    """
    train_classes, held_out_classes = (list(map(tuple, x.tolist())) for x in (train, held_out))
    waiting = defaultdict(list)
    for n in torch.randperm(len(train_classes), generator=generator).tolist():
        waiting[train_classes[n]].append(n)
    pairs: list[tuple[int, int]] = []
    for n in torch.randperm(len(held_out_classes), generator=generator).tolist():
        if len(pairs) < count and waiting[held_out_classes[n]]:
            pairs.append((waiting[held_out_classes[n]].pop(), n))
    pairs = pairs[: len(pairs) // group * group] if len(pairs) >= MIN_HELD_OUT else []
    first = [n for n, _ in pairs]
    order = torch.randperm(len(train_classes), generator=generator).tolist()
    chosen = list(dict.fromkeys([*first, *order]))[:count]
    return ProbeImages(
        train=torch.tensor(chosen[: len(chosen) // group * group], dtype=torch.int64),
        held_out=torch.tensor([n for _, n in pairs], dtype=torch.int64),
    )


@torch.no_grad()
def probe_discriminator(
    module: BaseGANModule, data: BlastocystDataModule, *, count: int, batch_size: int, seed: int
) -> dict[str, float]:
    """Score training images, held-out images and samples with D at the module's stage.

    Images are not augmented, unlike those of which adaptive augmentation follows r_t. Weights,
    gradients, modes and the global random state do not change.

    Args:
        module: GAN in any mode.
        data: Its data module, set up.
        count: Maximum number of images per set.
        batch_size: Images per forward pass of D: whole groups, or one smaller group.
        seed: Seed of images and latents.

    Returns:
        ``logits_train``, ``logits_generated`` and ``sign_real``; with held-out images also
        ``logits_held_out``; ``diversity`` and ``overfitting`` where they are defined. Empty if the
        training images are fewer than one group.
    """
    group = min(module.discriminator.stddev_group, batch_size)
    generator = torch.Generator().manual_seed(derive_seed(seed, "sides"))
    chosen = choose_images(data.labels("train"), data.labels("val"), count, group, generator)
    if not len(chosen.train):
        return {}
    labels, matched = data.labels("train")[chosen.train], len(chosen.held_out)
    reals = _reals(module, data.images("train", chosen.train, module.resolution), batch_size)
    fakes = _fakes(module, labels, batch_size, seed)
    train = score(module, reals, labels, batch_size)
    generated = score(module, fakes, labels, batch_size)
    row: dict[str, float | None] = {
        "logits_train": float(train.mean()),
        "logits_generated": float(generated.mean()),
        "sign_real": float(train.sign().mean()),
    }
    if matched:
        others = data.images("val", chosen.held_out, module.resolution)
        others = _reals(module, others, batch_size)
        held_out = score(module, others, labels[:matched], batch_size)
        row["logits_held_out"] = float(held_out.mean())
        row["overfitting"] = overfitting(train[:matched], held_out, generated[:matched])
    row["diversity"] = diversity(fakes, reals, labels if module.conditional else None)
    return {name: value for name, value in row.items() if value is not None}


def _reals(module: BaseGANModule, images: Tensor, batch_size: int) -> Tensor:
    parts = torch.split(images, batch_size)
    return torch.cat([module.prepare_reals(part.to(module.device)).cpu() for part in parts])


def _fakes(module: BaseGANModule, labels: Tensor, batch_size: int, seed: int) -> Tensor:
    parts = torch.split(torch.arange(len(labels)), batch_size)
    drawn = module.drawn_labels(range(len(labels)), labels, seed=seed)
    images = [module.sample(part.tolist(), drawn[part], seed=seed).cpu() for part in parts]
    return to_float(torch.cat(images))


def score(module: BaseGANModule, images: Tensor, labels: Tensor, batch_size: int) -> Tensor:
    """Logits ``(N,)`` of D, on the CPU, for images and their labels ``(N, 2)``; no augmentation."""
    logits = []
    for part in torch.split(torch.arange(len(images)), batch_size):
        given = labels[part].to(module.device)
        logits.append(module.score(images[part].to(module.device), given))
    return torch.cat(logits).float().cpu()


def overfitting(train: Tensor, held_out: Tensor, generated: Tensor) -> float | None:
    """Ratio r_v of logits: 0 if D scores held-out images like training ones, 1 if like samples.

    ``(E D(train) - E D(held out)) / (E D(train) - E D(generated))`` (Karras et al. 2020,
    "Training generative adversarial networks with limited data", equation 1). ``None`` unless D
    scores training images above samples by more than twice the difference's standard error.
    """
    gap = float(train.mean() - generated.mean())
    error = math.sqrt(float(train.var() / len(train) + generated.var() / len(generated)))
    # NaN is not <= anything, so it is returned as NaN
    if gap <= 2 * error:
        return None
    return float(train.mean() - held_out.mean()) / gap


def diversity(samples: Tensor, images: Tensor, labels: Tensor | None) -> float | None:
    """Variation among samples of the same grade, relative to training images of the same grade.

    Root mean square pixel difference between two samples with equal labels, divided by the same
    for training images: 0 if all samples of a grade are equal, 1 if samples are as varied as the
    images. Over all pairs within a label, the mean square is twice the pooled variance.

    Samples and images are ``(N, C, H, W)`` with the same labels ``(N, parts)``; without labels, all
    pairs are compared. ``None`` if no label has two different images.
    """
    grades = torch.zeros(len(samples), 1) if labels is None else labels
    _, classes = torch.unique(grades, dim=0, return_inverse=True)
    within = _variance_within(images, classes)
    return math.sqrt(_variance_within(samples, classes) / within) if within else None


def _variance_within(images: Tensor, classes: Tensor) -> float:
    """Mean squared deviation of pixels from the class mean, summed over images."""
    total = 0.0
    for n in range(int(classes.max()) + 1):
        part = images[classes == n]
        total += float((part - part.mean(dim=0)).square().mean(dim=(1, 2, 3)).sum())
    return total
