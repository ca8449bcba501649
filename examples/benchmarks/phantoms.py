"""Phantoms drawn per second on one core: ``python examples/benchmarks/phantoms.py``."""

from __future__ import annotations

import time

from blastogan.data import render_phantom


def images_per_second(resolution: int, seconds: float = 5.0) -> float:
    """Draw different phantoms for some seconds; the first, which warms up, is not counted."""
    render_phantom(0, 0, resolution)
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        count += 1
        render_phantom(0, count, resolution)
    return count / (time.perf_counter() - began)


if __name__ == "__main__":
    for resolution in (32, 64, 128, 256, 512):
        print(f"{resolution:4d} x {resolution:<4d} {images_per_second(resolution):7.1f} images/s")
