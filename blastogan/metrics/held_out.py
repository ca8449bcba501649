"""Comparison of fakes with training and with held-out images, which shows memorisation."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from blastogan.metrics.fidelity import FidelityEvaluator
from blastogan.metrics.gap import HeldOutGap
from blastogan.metrics.report import FidelityReport
from blastogan.metrics.sample import number_groups
from blastogan.metrics.statistics import SetStatistics
from blastogan.utils.seeding import derive_seed


@dataclass
class HeldOutReport:
    """What `compare_held_out` found.

    Attributes:
        fid_train_matched: FID to as many training images, of whole embryos, as are held out:
            comparable with the held-out FID, since FID falls with the number of images. ``None``
            without features.
        gap: Test of the difference between both; ``None`` without features.
    """

    train: FidelityReport
    held_out: FidelityReport
    fid_train_matched: float | None = None
    gap: HeldOutGap | None = None

    def verdict(self) -> str:
        """The gap in words."""
        if self.gap is None:
            return f"no held-out gap: {self._lacking()}"
        gap = self.gap
        size = (
            f"KID x 1000 {gap.kid * 1000:+.3g} (p = {gap.kid_p:.3g}); the nearest real image of "
            f"{gap.nearest_train:.1%} of the fakes was trained on, {gap.nearest_expected:.1%} by "
            f"chance (p = {gap.nearest_p:.3g})"
        )
        if gap.suspicious:
            return (
                "held-out gap: the fakes are nearer to training images than to held-out ones. "
                f"{size}. The generator reproduces training images, and its distance to them is "
                "too good"
            )
        return (
            f"held-out gap: within chance. {size}. This does not prove that nothing was memorised: "
            "a few copies among many fakes may not show"
        )

    def _lacking(self) -> str:
        if self.held_out.extractor == "none":
            return "it needs an extractor of features, see fidelity.extractor"
        if self.held_out.n_real < 2:
            return f"it needs two or more held-out images, got {self.held_out.n_real}"
        return "it needs the features of all images, which metrics such as kid gather"

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        gap = self.gap
        derived = {"kid": gap.kid, "suspicious": gap.suspicious} if gap else {}
        return {
            "train": self.train.to_json(),
            "held_out": self.held_out.to_json(),
            "fid_train_matched": self.fid_train_matched,
            "gap": {**asdict(gap), **derived} if gap else None,
            "verdict": self.verdict(),
        }


def compare_held_out(
    evaluator: FidelityEvaluator,
    train: SetStatistics,
    held_out: SetStatistics,
    fake: SetStatistics,
) -> HeldOutReport:
    """Compare fakes with both sets of reals; `evaluator` has gathered all three."""
    report = HeldOutReport(evaluator.compare(train, fake), evaluator.compare(held_out, fake))
    if train.features is not None and "fid" in evaluator.metrics and train.count > held_out.count:
        matched = _matched(train, held_out.count, evaluator.seed)
        report.fid_train_matched = matched.reference.distance(fake.moments)
    report.gap = evaluator.gap(train, held_out, fake)
    return report


def _matched(statistics: SetStatistics, count: int, seed: int) -> SetStatistics:
    """The first `count` images of the embryos in random order."""
    assert statistics.features is not None
    generator = torch.Generator().manual_seed(derive_seed(seed, "matched"))
    owner = number_groups(statistics.groups or [str(n) for n in range(statistics.count)])
    place = torch.randperm(int(owner.max()) + 1, generator=generator).argsort()
    order = place[owner].argsort(stable=True)
    return SetStatistics.of_features(statistics.features[order[:count]])
