"""What makes the runs of tests cheaper, and is no matter of what they test."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from PIL import Image
from torch import Tensor

from blastogan.callbacks.fidelity import callback as fidelity
from blastogan.data import sources
from blastogan.metrics import sets
from blastogan.metrics.similarity import pairwise_ms_ssim
from blastogan.phantoms.dataset import PhantomDataset, render_phantoms

_drawn: dict[tuple[str, int], Tensor] = {}


def draw_once(phantoms: PhantomDataset, channels: int, num_workers: int) -> Tensor:
    """Draw a set of phantoms the first time, and copy it from then on: sixty take half a second."""
    key = repr(phantoms), channels
    if key not in _drawn:
        _drawn[key] = render_phantoms(phantoms, channels, num_workers)
    return _drawn[key].clone()


def draw_no_plot(*args: Any) -> Image.Image:
    """A blank ``fidelity.png``: three plots take a second, as the training does."""
    return Image.new("L", (9, 9))


def make_runs_cheaper(patch: Callable[[Any, str, Any], None]) -> None:
    """Draw each set of phantoms once and no plots, and compare fewer pairs in validations.

    A thousand pairs take a third of the time of a tiny run.
    """
    patch(sources, "render_phantoms", draw_once)
    patch(fidelity, "plot_curves", draw_no_plot)
    patch(sets, "pairwise_ms_ssim", partial(pairwise_ms_ssim, pairs=32))
