"""Alarms: decide from logged numbers whether a run has gone wrong, and word the message."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

COLLAPSED, VARIED = 0.25, 0.4
"""Diversity below the first, once it has been above the second, is mode collapse."""

NO_DIVERSITY, ENOUGH_KIMG = 0.1, 5.0
"""Diversity below the first after so many kimg is mode collapse, whatever it was before."""

OVERFITTED, FITTED = 0.5, 0.4
"""Ratio r_v above which D overfits and below which it has recovered; the first is the target of
adaptive augmentation (Karras et al. 2020, "Training generative adversarial networks with limited
data", section 3.1)."""

EXPLODED, CALM = 100.0, 30.0
"""Largest gradient norm of a tick, in units of its running median: exploded above the first,
recovered below the second."""

SPANS = 8
"""Ticks in the running median."""


@dataclass
class Alarm:
    """Rings once after `patience` bad values in a row, and again only after it has cleared."""

    patience: int
    seen: int = 0  # consecutive bad values so far
    ringing: bool = False

    def update(self, *, bad: bool, clear: bool) -> bool:
        """Take the next value, which may be neither bad nor clear; True if it starts to ring."""
        if self.ringing:
            self.ringing = not clear
            self.seen = self.seen if self.ringing else 0
            return False
        self.seen = self.seen + 1 if bad else 0
        self.ringing = self.seen >= self.patience
        return self.ringing


@dataclass
class Norms:
    """Medians of a gradient norm in the last ticks, and the alarm that compares with them."""

    medians: list[float] = field(default_factory=list)
    alarm: Alarm = field(default_factory=lambda: Alarm(patience=1))

    def update(self, largest: float, median: float) -> float | None:
        """Take the norms of a tick; return the running median if the alarm starts to ring."""
        if not self.medians:  # the first tick only sets the scale
            self.medians = [median]
            return None
        usual = statistics.median(self.medians)
        self.medians = [*self.medians, median][-SPANS:]
        bad, clear = largest > EXPLODED * usual, largest < CALM * usual
        return usual if self.alarm.update(bad=bad, clear=clear) else None


NETWORKS = {"grad_norm_d": "discriminator", "grad_norm_g": "generator"}
"""Networks by the output of a step that has their gradient norm."""


@dataclass
class Alarms:
    """All alarms of a run; checkpoints keep their state.

    Attributes:
        most_varied: Highest diversity so far.
        good_images: Images shown at the last probe with no sign of collapse or exploding gradients.
    """

    nan: Alarm = field(default_factory=lambda: Alarm(patience=1))
    collapse: Alarm = field(default_factory=lambda: Alarm(patience=2))
    overfitting: Alarm = field(default_factory=lambda: Alarm(patience=3))
    norms: dict[str, Norms] = field(default_factory=lambda: {name: Norms() for name in NETWORKS})
    most_varied: float = 0.0
    good_images: int = 0

    def update_norms(self, row: Mapping[str, float], images_shown: int) -> list[str]:
        """Judge ``grad_norm_*_max`` and ``_median`` of a tick; a message per exploded gradient."""
        messages = []
        for name, norms in self.norms.items():
            if f"{name}_max" in row:
                largest = row[f"{name}_max"]
                usual = norms.update(largest, row[f"{name}_median"])
                if usual is not None:
                    messages.append(norms_message(NETWORKS[name], largest, usual, images_shown))
        return messages

    def update_diversity(self, row: Mapping[str, float], images_shown: int) -> bool:
        """Judge the ``diversity`` of a probe, if it has one; True if the generator collapsed."""
        diversity = row.get("diversity")
        if diversity is None:
            return False
        before, self.most_varied = self.most_varied, max(self.most_varied, diversity)
        lost = diversity < COLLAPSED and before > VARIED
        never = diversity < NO_DIVERSITY and images_shown >= ENOUGH_KIMG * 1000
        return self.collapse.update(bad=lost or never, clear=diversity > VARIED)

    def update_overfitting(self, row: Mapping[str, float]) -> bool:
        """Judge the ``overfitting`` of a probe; True if D overfits."""
        # without the ratio, D cannot separate samples from training images
        ratio = row.get("overfitting", 0.0)
        return self.overfitting.update(bad=ratio > OVERFITTED, clear=ratio < FITTED)

    def record_good(self, images_shown: int) -> None:
        """Record a probe without any sign of collapse or exploding gradients."""
        alarms = [self.collapse, *(norms.alarm for norms in self.norms.values())]
        if not any(alarm.ringing or alarm.seen for alarm in alarms):
            self.good_images = images_shown

    def state_dict(self) -> dict[str, Any]:
        """The state as plain values."""
        return asdict(self)

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> Alarms:
        """Restore alarms from a `state_dict`; alarms that no longer exist are ignored."""
        norms = {
            name: Norms(list(saved["medians"]), Alarm(**saved["alarm"]))
            for name, saved in state["norms"].items()
        }
        nan, collapse = Alarm(**state["nan"]), Alarm(**state["collapse"])
        overfitting = Alarm(**state["overfitting"])
        return cls(nan, collapse, overfitting, norms, state["most_varied"], state["good_images"])


LOWER_RATE = (
    "lower learning rates (--generator_optimizer.init_args.lr, "
    "--discriminator_optimizer.init_args.lr)"
)


def _resume_from(folder: Path, good_images: int) -> str:
    which = f"one at or before {good_images / 1000:g} kimg" if good_images else "an earlier one"
    return (
        f"Resume from a checkpoint in {folder} (--ckpt_path; {which}; into a new --run_dir unless "
        "it is last.ckpt) with"
    )


def nan_message(values: Mapping[str, float], place: str, diverged: Path, good_images: int) -> str:
    """Message for values that are not finite, with the checkpoint of the diverged state."""
    found = [
        f"{name} is {'NaN' if math.isnan(value) else 'infinite'}"
        for name, value in values.items()
        if not math.isfinite(value)
    ]
    return (
        f"NaN: training diverged at {place}: "
        f"{', '.join(found) or 'a value of another process is not finite'}, expected finite "
        f"numbers. The diverged state is in {diverged.name}. "
        f"{_resume_from(diverged.parent, good_images)} a larger --model.init_args.r1_gamma, "
        f"{LOWER_RATE}, --model.init_args.generator_clip and "
        "--model.init_args.discriminator_clip, or --trainer.precision 32-true"
    )


def collapse_message(
    diversity: float, highest: float, images_shown: int, folder: Path, good_images: int
) -> str:
    """Message for mode collapse, with the diversity and its highest value so far."""
    return (
        f"mode collapse at {images_shown / 1000:g} kimg: the diversity of the samples is "
        f"{diversity:.2f}, low in two consecutive probes, expected above {COLLAPSED:g} (0: one "
        "sample per grade, 1: as varied as the training images; highest so far "
        f"{highest:.2f}). {_resume_from(folder, good_images)} a larger "
        f"--model.init_args.r1_gamma, {LOWER_RATE}, or more images"
    )


def overfitting_message(row: Mapping[str, float], images_shown: int) -> str:
    """Message for an overfitting discriminator, with the logits of a probe."""
    return (
        f"overfitting of the discriminator at {images_shown / 1000:g} kimg: it separates training "
        f"images from held-out ones, r_v is {row['overfitting']:.2f} and was above "
        f"{OVERFITTED:g} in three consecutive probes (mean logits: training images "
        f"{row['logits_train']:.2f}, held-out images {row['logits_held_out']:.2f}, samples "
        f"{row['logits_generated']:.2f}; expected the first two to be similar). Try "
        "--model.init_args.augment grade-preserving (if it is set, a lower augment_target), more "
        "images or a larger --model.init_args.r1_gamma, or stop here and use an earlier "
        "checkpoint, such as best.ckpt"
    )


def norms_message(network: str, largest: float, usual: float, images_shown: int) -> str:
    """Message for exploding gradients."""
    return (
        f"exploding gradients at {images_shown / 1000:g} kimg: the {network}'s gradient norm "
        f"reached {largest:.3g}, {largest / max(usual, 1e-30):.0f} times its running median of "
        f"{usual:.3g}, expected at most {EXPLODED:g} times. Try --model.init_args."
        f"{network}_clip {10 * usual:.2g}, {LOWER_RATE}, a larger --model.init_args.r1_gamma, "
        "or --trainer.precision 32-true"
    )
