"""Phantoms drawn per second on one core: `python examples/benchmarks/phantoms.py`."""

from __future__ import annotations

import time

from blastogan.phantoms import PhantomPlan, render_phantom
from blastogan.utils.allocator import keep_freed_memory

KINDS = 60
"""Number of different embryos, drawn in turn."""


def images_per_second(resolution: int, style: str, seconds: float = 5.0) -> float:
    """Draw different phantoms for some seconds; the first is a warm-up and not counted."""
    views = PhantomPlan(KINDS, counts="balanced", style=style)  # type: ignore[arg-type]
    render_phantom(0, views[0], resolution)
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        count += 1
        render_phantom(0, views[count % KINDS], resolution)
    return count / (time.perf_counter() - began)


if __name__ == "__main__":
    # as the commands do
    keep_freed_memory()
    for resolution in (32, 64, 128, 256, 512):
        rates = (f"{images_per_second(resolution, style):7.1f}" for style in ("hoffman", "dic"))
        print(f"{resolution:4d} x {resolution:<4d} {' '.join(rates)} images/s (hoffman, dic)")
