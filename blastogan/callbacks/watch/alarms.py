"""When a run has gone wrong: decisions from numbers alone, and what to tell of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from blastogan.metrics.augmentation_leaks import KINDS

COLLAPSED, VARIED = 0.25, 0.4
"""Diversity below the first, once it was above the second, is mode collapse."""

NO_DIVERSITY, ENOUGH_KIMG = 0.1, 5.0
"""Diversity below the first is mode collapse without a past, once so many kimg were shown."""

OVERFITTED, FITTED = 0.5, 0.4
"""Ratio r_v above which D overfits: the target of adaptive augmentation (Karras et al. 2020,
"Training generative adversarial networks with limited data", section 3.1); and below which it has
recovered."""

LEAKED, TIGHT = 0.1, 0.05
"""Share of the samples by which, beyond chance, more are turned, shifted or dark than among the
reals: too much, and tight again. Without augmentation, a generator that does not place embryos well
yet came to 0.015 on phantoms."""

EXPLODED, CALM = 100.0, 30.0
"""Largest gradient norm of a tick in units of its running median: too much, and calm again."""

SPANS = 8
"""Ticks that a running median looks back on."""


@dataclass
class Alarm:
    """Rings once when it was bad so many times one after the other; again after it has cleared.

    Attributes:
        patience: Looks one after the other that must be bad.
        seen: Bad looks so far, one after the other.
        ringing: Whether it has rung and not cleared since.
    """

    patience: int
    seen: int = 0
    ringing: bool = False

    def take(self, *, bad: bool, clear: bool) -> bool:
        """Take in a look; between bad and clear, a ringing alarm goes on and another begins anew.

        Returns:
            Whether it begins to ring.
        """
        if self.ringing:
            self.ringing = not clear
            self.seen = self.seen if self.ringing else 0
            return False
        self.seen = self.seen + 1 if bad else 0
        self.ringing = self.seen >= self.patience
        return self.ringing

    @property
    def pending(self) -> bool:
        """Whether all is not well."""
        return self.ringing or self.seen > 0


@dataclass
class Norms:
    """Medians of a gradient's norm in the last ticks."""

    medians: list[float] = field(default_factory=list)
    alarm: Alarm = field(default_factory=lambda: Alarm(patience=1))

    def take(self, largest: float, median: float) -> float | None:
        """Take in a tick; the first only shows what is usual.

        Returns:
            The running median, if the alarm begins to ring; that of the ticks before this one.
        """
        if not self.medians:
            self.medians = [median]
            return None
        usual = statistics.median(self.medians)
        self.medians = [*self.medians, median][-SPANS:]
        bad, clear = largest > EXPLODED * usual, largest < CALM * usual
        return usual if self.alarm.take(bad=bad, clear=clear) else None


NETWORKS = {"grad_norm_d": "discriminator", "grad_norm_g": "generator"}
"""Networks by the name of their gradient's norm among what a step returns."""


@dataclass
class Alarms:
    """All that a run is watched for, as a state that a checkpoint keeps.

    Attributes:
        nan: Of what a step returns, and of a look.
        collapse: Of the diversity of samples.
        overfitting: Of r_v.
        leak: Of augmentations that show in samples.
        norms: Of the gradients, by the name of the norm.
        most_varied: Highest diversity so far.
        good_images: Images shown at the last look at which neither collapse nor gradients were a
            matter of concern; 0 before any.
    """

    nan: Alarm = field(default_factory=lambda: Alarm(patience=1))
    collapse: Alarm = field(default_factory=lambda: Alarm(patience=2))
    overfitting: Alarm = field(default_factory=lambda: Alarm(patience=3))
    leak: Alarm = field(default_factory=lambda: Alarm(patience=3))
    norms: dict[str, Norms] = field(default_factory=lambda: {name: Norms() for name in NETWORKS})
    most_varied: float = 0.0
    good_images: int = 0

    def take_norms(self, row: Mapping[str, float], images_shown: int) -> list[str]:
        """Judge ``grad_norm_d_max`` and ``grad_norm_d_median`` of a tick, likewise for G.

        Returns:
            A message for each gradient that has exploded.
        """
        told = []
        for name, norms in self.norms.items():
            if f"{name}_max" in row:
                largest = row[f"{name}_max"]
                usual = norms.take(largest, row[f"{name}_median"])
                if usual is not None:
                    told.append(of_norms(NETWORKS[name], largest, usual, images_shown))
        return told

    def take_diversity(self, row: Mapping[str, float], images_shown: int) -> str | None:
        """Judge the ``diversity`` of a look, if it has one; gives a message if it collapsed."""
        diversity = row.get("diversity")
        if diversity is None:
            return None
        before, self.most_varied = self.most_varied, max(self.most_varied, diversity)
        lost = diversity < COLLAPSED and before > VARIED
        never = diversity < NO_DIVERSITY and images_shown >= ENOUGH_KIMG * 1000
        if not self.collapse.take(bad=lost or never, clear=diversity > VARIED):
            return None
        return of_collapse(diversity, self.most_varied, images_shown)

    def take_overfitting(self, row: Mapping[str, float], images_shown: int) -> str | None:
        """Judge the ``overfitting`` of a look; gives a message if D overfits.

        A look in which D does not tell samples from training images is none of overfitting.
        """
        ratio = row.get("overfitting", 0.0)
        if not self.overfitting.take(bad=ratio > OVERFITTED, clear=ratio < FITTED):
            return None
        return of_overfitting(row, images_shown)

    def take_leak(self, row: Mapping[str, float], images_shown: int) -> str | None:
        """Judge the ``leak`` of a look, if it has one; gives a message if augmentation leaks."""
        leak = row.get("leak")
        if leak is None or not self.leak.take(bad=leak > LEAKED, clear=leak < TIGHT):
            return None
        return of_leak(row, images_shown)

    def note_good(self, images_shown: int) -> None:
        """Remember a look after which nothing is wrong that going back to it could mend.

        Overfitting and leaks are left out: they come back by themselves, and would hold the place
        for good.
        """
        alarms = [self.collapse, *(norms.alarm for norms in self.norms.values())]
        if not any(alarm.pending for alarm in alarms):
            self.good_images = images_shown

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> Alarms:
        """The alarms of a `state_dict`."""
        norms = {
            name: Norms(list(saved["medians"]), Alarm(**saved["alarm"]))
            for name, saved in state["norms"].items()
        }
        return cls(
            nan=Alarm(**state["nan"]),
            collapse=Alarm(**state["collapse"]),
            overfitting=Alarm(**state["overfitting"]),
            # checkpoints of earlier versions have none
            leak=Alarm(**state["leak"]) if "leak" in state else cls().leak,
            norms=norms,
            most_varied=state["most_varied"],
            good_images=state["good_images"],
        )


# -- what to tell ---------------------------------------------------------------------------------

SMALLER_RATE = (
    "smaller learning rates (--generator_optimizer.init_args.lr, "
    "--discriminator_optimizer.init_args.lr)"
)


def of_nan(values: Mapping[str, float], place: str, folder: Path, kept: str) -> str:
    """Message for what is not finite.

    Args:
        values: All values that were looked at.
        place: Where the run stands.
        folder: Of the checkpoints.
        kept: The file among them that holds the state.
    """
    strange = [
        f"{name} is {'NaN' if math.isnan(value) else 'infinite'}"
        for name, value in values.items()
        if not math.isfinite(value)
    ]
    return (
        f"NaN: training diverged at {place}: "
        f"{', '.join(strange) or 'a value of another process is not finite'}, expected finite "
        f"numbers. Go on from an earlier checkpoint in {folder} (into a new --run_dir, if it is "
        f"not last.ckpt) with a larger --model.init_args.r1_gamma, {SMALLER_RATE}, "
        "--model.init_args.generator_clip and --model.init_args.discriminator_clip, or "
        f"--trainer.precision 32-true. The state is kept in {kept}"
    )


def of_collapse(diversity: float, highest: float, images_shown: int) -> str:
    """Message for mode collapse."""
    return (
        f"mode collapse at {images_shown / 1000:g} kimg: the diversity of the samples is "
        f"{diversity:.2f}, in two looks one after the other, expected above {COLLAPSED:g} (0: one "
        f"sample per grade, 1: as varied as the training images; highest so far {highest:.2f}). "
        "Try, from an earlier checkpoint or from the start, a larger --model.init_args.r1_gamma, "
        f"{SMALLER_RATE}, or more images"
    )


def of_overfitting(row: Mapping[str, float], images_shown: int) -> str:
    """Message for a discriminator that overfits, with the ``logits`` of a look."""
    return (
        f"overfitting of the discriminator at {images_shown / 1000:g} kimg: it tells training "
        f"images from held-out ones, r_v is {row['overfitting']:.2f} and was above "
        f"{OVERFITTED:g} in three looks one after the other (mean logits: training images "
        f"{row['logits_train']:.2f}, held-out images {row['logits_held_out']:.2f}, samples "
        f"{row['logits_generated']:.2f}; expected the first two alike). Try --model.init_args."
        "augment grade-preserving (where that is set, a lower augment_target), more images or a "
        "larger --model.init_args.r1_gamma, or stop here and take an earlier checkpoint, such as "
        "best.ckpt"
    )


def of_leak(row: Mapping[str, float], images_shown: int) -> str:
    """Message for an augmentation that shows in samples, with the shares of a look."""
    shares = "; ".join(
        f"{kind} {row[f'{kind}_generated']:.0%} of the samples and {row[f'{kind}_real']:.0%} of "
        "the training images"
        for kind in KINDS
    )
    return (
        f"augmentation leaks at {images_shown / 1000:g} kimg: samples lie, or are lit, otherwise "
        f"than training images, in three looks one after the other ({shares}; expected alike, got "
        f"{row['leak']:.0%} more of them beyond chance, and at most {LEAKED:.0%} will do; p is "
        f"{row['augment_p']:.2f}). Try, from an earlier checkpoint, a lower --model.init_args."
        "augment_max or a higher --model.init_args.augment_target (a lower --model.init_args."
        "augment_p, if that is set), or --model.init_args.augment with other operations; where "
        "turned images would be as good, --data.augment dihedral makes them usual"
    )


def of_norms(network: str, largest: float, usual: float, images_shown: int) -> str:
    """Message for exploding gradients."""
    return (
        f"exploding gradients at {images_shown / 1000:g} kimg: the norm of the {network}'s "
        f"gradient reached {largest:.3g}, {largest / max(usual, 1e-30):.0f} times its running "
        f"median of {usual:.3g}, expected at most {EXPLODED:g} times. Try --model.init_args."
        f"{network}_clip {10 * usual:.2g}, {SMALLER_RATE}, a larger --model.init_args.r1_gamma, "
        "or --trainer.precision 32-true"
    )
