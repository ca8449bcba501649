"""The result of a comparison: values, their deviations, and notes for the reader."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from blastogan.metrics.specs import TABLE


@dataclass
class FidelityReport:
    """The result of `FidelityEvaluator.compare`.

    Attributes:
        values: Metric by name, unscaled (SWD is times 1000 as in its paper), with deviations under
            ``<name>_std``.
        extractor: Label of the extractor, or ``none``.
        shape: ``(C, H, W)`` of the fakes.
        floor: ``fid`` and ``kid`` between two halves of the reals, whose sizes are ``n``: the score
            of a perfect generator at that number of images.
        classes: By class, then by letter (``ICM A``, ``TE B``): ``n_real``, ``n_fake``, and where
            both have enough images ``kid`` with its 95 % interval ``low`` and ``high``.
        notes: What a reader must know about the numbers, a sentence each.
    """

    values: dict[str, float]
    extractor: str
    n_real: int
    n_fake: int
    shape: tuple[int, ...] = ()
    floor: dict[str, Any] | None = None
    classes: dict[str, dict[str, float | None]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file; missing metrics are null."""
        empty = dict.fromkeys([*TABLE, *(f"{name}_std" for name in TABLE)])
        values: dict[str, float | None] = {**empty, **self.values}
        return {
            **{name: _plain(value) for name, value in values.items()},
            "n_real": self.n_real,
            "n_fake": self.n_fake,
            "extractor": self.extractor,
            "shape": list(self.shape),
            "floor": self.floor,
            "classes": self.classes,
            "notes": self.notes,
        }

    def lines(self) -> list[tuple[str, str, str]]:
        """Rows of a table: metric, value with its deviation, floor."""
        rows = []
        for name, spec in TABLE.items():
            if name not in self.values:
                continue
            deviation = self.values.get(f"{name}_std", math.nan) * spec.scale
            text = f"{self.values[name] * spec.scale:.4g}"
            if not math.isnan(deviation):
                text += f" ± {deviation:.2g}"
            floor = (self.floor or {}).get(name)
            rows.append((spec.title, text, "" if floor is None else f"{floor * spec.scale:.4g}"))
        return rows

    def class_text(self, name: str) -> str:
        """KID x 1000 of a class or letter with its interval, or why it is missing."""
        if name not in self.classes:
            return "no image"
        kid, low, high = (self.classes[name][key] for key in ("kid", "low", "high"))
        if kid is None or low is None or high is None:
            return "too few images"
        return f"{kid * 1000:.4g} ({low * 1000:.3g} to {high * 1000:.3g})"


def _plain(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value
