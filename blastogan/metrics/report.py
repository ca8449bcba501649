"""The outcome of a comparison: every number, how sure it is, and what has to be said with it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

TITLES = {
    "fid": "FID",
    "kid": "KID x 1000",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "swd": "SWD x 1000",
    "ms_ssim": "MS-SSIM",
    "ms_ssim_real": "  of the real images",
}
"""Names of the metrics for people, in the order of a table."""

_THOUSANDTHS = {"kid"}


@dataclass
class FidelityReport:
    """What `FidelityEvaluator.compare` found.

    Attributes:
        values: Metric by name, in plain units (KID is not multiplied, SWD is times 1000 as its
            authors have it), with deviations under ``<name>_std``.
        extractor: Label of the extractor; ``none`` without.
        n_real: Real images.
        n_fake: Fakes.
        shape: ``(C, H, W)`` of the fakes.
        floor: ``fid`` and ``kid`` between two halves of the reals, with their sizes ``n``: what a
            perfect generator would score at that number of images.
        classes: By class, then by letter (``ICM A``, ``TE B``): ``n_real``, ``n_fake``, and where
            both have enough images ``kid`` with its 95 % interval ``low`` and ``high``.
        notes: What a reader of the numbers has to know, a sentence each.
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
        """Plain values for a JSON file; a metric that was not measured is null."""
        names = [*TITLES, *(f"{name}_std" for name in TITLES)]
        rest = [name for name in self.values if name not in names]
        values = {name: _plain(self.values.get(name)) for name in [*names, *rest]}
        return {
            **values,
            "n_real": self.n_real,
            "n_fake": self.n_fake,
            "extractor": self.extractor,
            "shape": list(self.shape),
            "floor": self.floor,
            "classes": self.classes,
            "notes": self.notes,
        }

    def lines(self) -> list[tuple[str, str, str]]:
        """Rows for people: metric, value with its deviation, floor."""
        rows = []
        for name, title in TITLES.items():
            if name not in self.values:
                continue
            unit = 1000.0 if name in _THOUSANDTHS else 1.0
            deviation = self.values.get(f"{name}_std", math.nan) * unit
            text = f"{self.values[name] * unit:.4g}"
            if not math.isnan(deviation):
                text += f" ± {deviation:.2g}"
            floor = (self.floor or {}).get(name)
            rows.append((title, text, "" if floor is None else f"{floor * unit:.4g}"))
        return rows

    def class_text(self, name: str) -> str:
        """KID x 1000 of a class or letter with its interval, or why there is none."""
        row = self.classes.get(name)
        if row is None:
            return "no image"
        kid, low, high = (row[key] for key in ("kid", "low", "high"))
        if kid is None or low is None or high is None:
            return "too few images"
        return f"{kid * 1000:.4g} ({low * 1000:.3g} to {high * 1000:.3g})"

    def class_texts(self) -> dict[str, str]:
        """`class_text` of all classes and letters."""
        return {name: self.class_text(name) for name in self.classes}


def _plain(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value
