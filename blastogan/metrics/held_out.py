"""Fakes against training images and against held-out ones: what memorisation looks like."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from blastogan.metrics.fidelity import FidelityEvaluator
from blastogan.metrics.gap import HeldOutGap
from blastogan.metrics.report import FidelityReport
from blastogan.metrics.statistics import SetStatistics
from blastogan.utils.seeding import derive_seed


@dataclass
class HeldOutReport:
    """What `compare_held_out` found.

    Attributes:
        train: Fakes against the images that were trained on.
        held_out: Fakes against images that were not.
        fid_train_matched: FID to as many training images as are held out, whole embryos: the
            number that the held-out FID may be compared with, since FID falls with the number of
            images. ``None`` without features.
        gap: KID to held-out images less KID to training images, with its chance; ``None``
            without features.
    """

    train: FidelityReport
    held_out: FidelityReport
    fid_train_matched: float | None = None
    gap: HeldOutGap | None = None

    def verdict(self) -> str:
        """The gap in words."""
        if self.gap is None:
            return "no held-out gap: it needs features, and two or more held-out images"
        gap = self.gap
        size = (
            f"KID x 1000 {gap.kid * 1000:+.3g} (p = {gap.kid_p:.3g}); the nearest real image of "
            f"{gap.nearest_train:.1%} of the fakes was trained on, {gap.nearest_expected:.1%} by "
            f"chance (p = {gap.nearest_p:.3g})"
        )
        if gap.suspicious:
            return (
                f"held-out gap: the fakes are nearer to training images than to held-out ones of "
                f"the same law. {size}. The generator reproduces what it was trained on, and its "
                "distance to the training images flatters it"
            )
        return (
            f"held-out gap: within chance. {size}. This is no proof that nothing was memorised: "
            "a few copies among many fakes may not show"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        gap = self.gap
        return {
            "train": self.train.to_json(),
            "held_out": self.held_out.to_json(),
            "fid_train_matched": self.fid_train_matched,
            "gap": None
            if gap is None
            else {**asdict(gap), "kid": gap.kid, "suspicious": gap.suspicious},
            "verdict": self.verdict(),
        }


def compare_held_out(
    evaluator: FidelityEvaluator,
    train: SetStatistics,
    held_out: SetStatistics,
    fake: SetStatistics,
) -> HeldOutReport:
    """Compare fakes with both sides; all gathered by `evaluator`."""
    report = HeldOutReport(evaluator.compare(train, fake), evaluator.compare(held_out, fake))
    if train.features is None or "fid" not in evaluator.metrics or train.count <= held_out.count:
        matched = None
    else:
        matched = _matched(train, held_out.count, evaluator.seed)
        report.fid_train_matched = matched.reference.distance(fake.moments)
    report.gap = evaluator.gap(train, held_out, fake)
    return report


def _matched(statistics: SetStatistics, count: int, seed: int) -> SetStatistics:
    """Features of random embryos, the first `count` of their images."""
    assert statistics.features is not None
    generator = torch.Generator().manual_seed(derive_seed(seed, "matched"))
    groups = statistics.groups or tuple(map(str, range(statistics.count)))
    embryos = list(dict.fromkeys(groups))
    place = {
        embryos[n]: rank
        for rank, n in enumerate(torch.randperm(len(embryos), generator=generator).tolist())
    }
    order = sorted(range(statistics.count), key=lambda n: place[groups[n]])
    return SetStatistics.of_features(statistics.features[order[:count]])
