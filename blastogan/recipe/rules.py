"""The rules of a recipe: a value for each setting, with its reason.

Most are from Karras et al. 2020, "Training generative adversarial networks with limited data" (ADA
below); ours are marked. Change the constants where measurements say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from blastogan.growth import GrowthSchedule, resolutions_between
from blastogan.losses import GAMMA_FACTOR, GAMMA_FLOOR, r1_gamma_rule

EMA_KIMG_PER_IMAGE = 10 / 32
"""Half-life of the averaged generator per image of the batch (ADA, configuration ``auto``)."""

AUGMENT_BELOW = 100_000
"""Images from which augmentation does not help (ADA: on FFHQ it helps at 70,000, not 140,000)."""
AUGMENT_TARGET = 0.6  # ADA, section 3.1
AUGMENT_KIMG = 500.0  # ADA, section 3.1: images over which p may go from 0 to 1
AUGMENT_RISES = 4  # ours: how often p could rise from 0 to 1 in the last phase

BALANCE = "sqrt"
"""Ours: class distribution. With it, samples showed their letters nearly as often as phantoms did,
for classes as rare as in public data (``examples/small_data/grades.py``)."""
RAMP_SHARES = (0.2, 0.5)
"""Ours: fractions of the schedule at which the condition weight leaves 0 and reaches 1."""
RAMP_BELOW = 5_000  # ours: images of the smallest class that need no ramp, as for CIFAR-10 in ADA

KIMG_PER_PIXEL = 24
"""Ours: length of the schedule per pixel of the final side, 6.1 million images at 256."""
FINAL_SHARE = 1 / 2  # ours: fraction of the schedule at the final resolution, including its fade
FADE_SHARE = 1 / 32  # ours: fraction of the schedule for each fade, 192 kimg at 256
HOLD_GROWTH = 1.5  # ours: ratio of each hold to the one before, up to the final resolution
TICKS = 320  # ours: ticks in a schedule
SMALL_BATCHES = {32: 64, 1024: 32}
"""Ours: largest batch that doubling may reach, by the largest resolution it holds for."""

EVALUATE_KIMG = 500.0  # kimg between evaluations, as in a run without a recipe
EVALUATIONS = 8
"""Ours: minimum number of evaluations in the last phase, from which the best is chosen."""

FEW_IMAGES = 1_000
FEW_NOTE = (
    f"fewer than {FEW_IMAGES:,} images: such a set may be at its best early in the schedule "
    "(Karras et al. 2020); follow KID, and take best.ckpt rather than last.ckpt"
)

BATCH = "schedule.batch_size"
MODEL = "model.init_args"
SETTINGS = (
    BATCH,
    "schedule.tick_kimg",
    "schedule.fade_kimg",
    "schedule.hold_kimg",
    f"{MODEL}.r1_gamma",
    f"{MODEL}.ema_kimg",
    f"{MODEL}.augment",
    f"{MODEL}.augment_target",
    f"{MODEL}.augment_kimg",
    f"{MODEL}.ramp_kimg",
    "data.augment",
    "data.balance",
    "fidelity.every_kimg",
)
"""All settings that a recipe may choose."""


@dataclass(frozen=True)
class Choice:
    """A setting, such as ``model.init_args.r1_gamma``, with its value and a sentence of reason."""

    setting: str
    value: Any
    why: str
    by_hand: bool = False


def settle(choice: Choice, given: Mapping[str, Any]) -> Choice:
    """The choice, or the value given by hand instead."""
    if choice.setting not in given:
        return choice
    return replace(choice, value=given[choice.setting], why="given by hand", by_hand=True)


def choose_growth(
    start: int, final: int, batch_size: int, devices: int, given: Mapping[str, Any]
) -> list[Choice]:
    """Batches, the tick, and phases in whole ticks; they follow from what is given by hand."""
    resolutions = resolutions_between(start, final)
    total = KIMG_PER_PIXEL * final
    batches = {r: _batch_at(r, final, batch_size) for r in resolutions}
    why = f"{batch_size} at {final}x{final}, and more where images take less memory (our choice)"
    batch = settle(Choice(BATCH, batches, why), given)
    asked = times(batch.value, devices)

    def tick_images(kimg: float) -> int:
        # the schedule rounds to whole batches
        return GrowthSchedule(start, final, batch_size=asked, tick_kimg=kimg).tick_images

    why = f"about {TICKS} ticks in all, of whole batches (our choice)"
    tick = settle(Choice("schedule.tick_kimg", tick_images(total / TICKS) / 1000, why), given)
    images = tick_images(tick.value)
    hold = Choice(
        "schedule.hold_kimg",
        {r: _in_ticks(kimg, images) for r, kimg in _holds(resolutions, total).items()},
        f"{KIMG_PER_PIXEL} kimg of schedule to a pixel of the side, half of it at {final}x{final}; "
        "with augmentation, few images are shown as long as many (our choice)",
    )
    fade = Choice(
        "schedule.fade_kimg",
        _in_ticks(total * FADE_SHARE, images),
        f"1/{1 / FADE_SHARE:g} of the schedule for each resolution to be faded in (our choice)",
    )
    fades = [fade] if len(resolutions) > 1 else []
    return [batch, tick, *(settle(choice, given) for choice in (*fades, hold))]


def _batch_at(resolution: int, final: int, batch_size: int) -> int:
    """Batch of a resolution: at most doubled for each halving of the side, up to a limit."""
    limit = next(size for upto, size in SMALL_BATCHES.items() if resolution <= upto)
    for _ in range((final // resolution).bit_length() - 1):
        batch_size = batch_size * 2 if batch_size * 2 <= limit else batch_size
    return batch_size


def times(batch: int | Mapping[int, int], devices: int) -> int | dict[int, int]:
    """Batches of all devices together."""
    if isinstance(batch, Mapping):
        return {resolution: size * devices for resolution, size in batch.items()}
    return batch * devices


def _holds(resolutions: tuple[int, ...], total: float) -> dict[int, float]:
    """Kimg of each hold, before rounding."""
    *before, final = resolutions
    if not before:
        return {final: total}
    weights = {r: HOLD_GROWTH**n for n, r in enumerate(before)}
    # the fades before the final resolution take their part of the rest
    left = total * (1 - FINAL_SHARE - FADE_SHARE * (len(before) - 1))
    holds = {r: left * weight / sum(weights.values()) for r, weight in weights.items()}
    return {**holds, final: total * (FINAL_SHARE - FADE_SHARE)}


def _in_ticks(kimg: float, tick_images: int) -> float:
    return max(1, round(kimg * 1000 / tick_images)) * tick_images / 1000


def choose_gamma(resolution: int, batch: int) -> Choice:
    """Weight of R1, by the rule for the final resolution."""
    rule = GAMMA_FACTOR * resolution**2 / batch
    formula = f"{GAMMA_FACTOR:g} x {resolution}^2 / {batch}"
    why = f"weight of R1: {formula} (Karras et al. 2020); try a quarter and four times of it first"
    if rule < GAMMA_FLOOR:
        why = (
            f"weight of R1: not the {rule:.2g} of {formula} (Karras et al. 2020): with "
            f"{GAMMA_FLOOR:g} samples of a grade stayed varied, with 0.1 and less they did not "
            "(our observation, phantoms at 32x32)"
        )
    return Choice(f"{MODEL}.r1_gamma", float(f"{r1_gamma_rule(resolution, batch):.3g}"), why)


def choose_ema(batch: int) -> Choice:
    """Half-life of the averaged generator."""
    why = f"half-life of the averaged generator: {batch} x 10/32 kimg (Karras et al. 2020)"
    return Choice(f"{MODEL}.ema_kimg", batch * EMA_KIMG_PER_IMAGE, why)


def choose_augmentation(
    num_images: int,
    img_channels: int,
    conditional: bool,
    loss: str,
    last_kimg: float,
    given: Mapping[str, Any],
) -> list[Choice]:
    """Augmentation of what D sees, with a probability p that adapts within the last phase."""
    if loss == "wgan" or num_images >= AUGMENT_BELOW:
        why = f"{AUGMENT_BELOW:,} images or more: nothing is gained by it (Karras et al. 2020)"
        if loss == "wgan":
            why = "p would follow the signs of D's scores, without a zero with wgan (our choice)"
        return [Choice(f"{MODEL}.augment", "none", why)]
    name, spares = "bgc", "the set of the paper"
    if conditional:
        name, spares = "grade-preserving", "nothing that makes or unmakes a grade"
    if img_channels == 1:
        spares += ", for grey images without colours"
    # p must be able to move in a short hold, too
    kimg = min(AUGMENT_KIMG, last_kimg / AUGMENT_RISES)
    speed = f"p may rise from 0 to 1 within {AUGMENT_KIMG:g} kimg (Karras et al. 2020)"
    if kimg < AUGMENT_KIMG:
        speed += f"; here within 1/{AUGMENT_RISES} of the last phase, which is short (our choice)"
    few = f"fewer than {AUGMENT_BELOW:,} images, which D learns by heart (Karras et al. 2020)"
    chosen = Choice(f"{MODEL}.augment", name, f"{few}; {spares}")
    if given.get(f"{MODEL}.augment", name) in ("none", "diffaugment"):
        return [chosen]
    why = "more augmentation while the mean sign of D for reals is above it (Karras et al. 2020)"
    return [
        chosen,
        Choice(f"{MODEL}.augment_target", AUGMENT_TARGET, why),
        Choice(f"{MODEL}.augment_kimg", kimg, speed),
    ]


def choose_data(conditional: bool) -> tuple[Choice, Choice]:
    """Symmetries of the training images, and their class distribution."""
    turned = (
        "an embryo has no orientation: an image stands for eight, turned and mirrored (our choice)"
    )
    balance, why = "none", "images as they are: the model gets no grades (our choice)"
    if conditional:
        balance = BALANCE
        why = "rare grades are shown more often, by the root of their number (our choice)"
    return Choice("data.augment", "dihedral", turned), Choice("data.balance", balance, why)


def choose_evaluations(last_kimg: float) -> Choice:
    """Interval of evaluations, by the length of the last phase."""
    kimg = min(EVALUATE_KIMG, last_kimg / EVALUATIONS)
    why = f"{EVALUATIONS} times or more in the last phase, for best.ckpt (our choice)"
    return Choice("fidelity.every_kimg", kimg, why)


def choose_ramp(
    conditional: bool, smallest_class: int | None, loss: str, schedule: GrowthSchedule
) -> Choice:
    """Kimg over which the condition weight rises from 0 to 1."""
    ramp = None
    if not conditional:
        why = "no ramp: the model gets no grades"
    elif loss == "wgan":
        why = "no ramp: wgan cannot tell a score with the grade from one without (our choice)"
    elif smallest_class is not None and smallest_class >= RAMP_BELOW:
        why = f"no ramp: each grade has {RAMP_BELOW:,} images or more (as CIFAR-10, our choice)"
    else:
        ramp = [round(share * schedule.total_images) / 1000 for share in RAMP_SHARES]
        shares = " to ".join(f"{share:.0%}" for share in RAMP_SHARES)
        why = (
            "grades come in slowly, since a conditional GAN collapses on few images (Shahbazi et "
            f"al. 2022): from {shares} of the schedule (our choice)"
        )
        if smallest_class is not None:
            why += f"; the rarest grade has {smallest_class}"
    return Choice(f"{MODEL}.ramp_kimg", ramp, why)
