"""Training images held where the training step is."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

from blastogan.data.stream import ImageBatch, IndexBatch, gather_batch
from blastogan.errors import UserError

_log = logging.getLogger(__name__)

Residence = Literal["host", "device"]
"""Where the training images are held: in the machine's memory, or in that of the device."""

_SHARE = 0.5


class ResidentImages:
    """Gathers batches on the device that holds the images, or on the host if they do not fit.

    Args:
        levels: uint8 ``(M, C, r, r)`` by resolution r, on the host.
        rows: int64 ``(N,)``, row of each training image.
    """

    def __init__(self, levels: Mapping[int, Tensor], rows: Tensor) -> None:
        needed, rows = torch.unique(rows, return_inverse=True)
        self._host = levels
        self._needed = needed
        self._rows = rows
        self._held: tuple[torch.device, dict[int, Tensor], Tensor] | None = None

    def gather(self, batch: IndexBatch, device: torch.device) -> ImageBatch:
        """The batch's images, on the device."""
        if self._held is None or self._held[0] != device:
            self._held = self._hold(device)
        held, levels, rows = self._held
        here = next(iter(levels.values())).device
        moved = IndexBatch(
            labels=batch["labels"].to(here, non_blocking=True),
            index=batch["index"].to(here, non_blocking=True),
            symmetry=batch["symmetry"].to(here, non_blocking=True),
            resolution=batch["resolution"],
        )
        images = gather_batch(levels, rows, moved)
        return ImageBatch(
            image=images["image"].to(held),
            labels=images["labels"].to(held),
            index=images["index"].to(held),
        )

    def _hold(self, device: torch.device) -> tuple[torch.device, dict[int, Tensor], Tensor]:
        size = sum(level[:1].nbytes for level in self._host.values()) * len(self._needed)
        free = _free_bytes(device)
        if free is not None and size > _SHARE * free:
            _log.warning(
                "the training images take %.0f MB, more than half of the %.0f MB that are free on "
                "%s: they stay on the host",
                size / 1e6,
                free / 1e6,
                device,
            )
            rows = self._needed[self._rows]
            return device, dict(self._host), rows
        levels = {side: level[self._needed].to(device) for side, level in self._host.items()}
        return device, levels, self._rows.to(device)


def _free_bytes(device: torch.device) -> int | None:
    """Free memory of a GPU; ``None`` for a device that has none of its own."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None


def check_residence(residence: str, transformed: bool) -> None:
    """Refuse what cannot be.

    Args:
        residence: As asked for.
        transformed: Whether images pass through a pipeline of albumentations.

    Raises:
        UserError: If there is no such residence, or if the pipeline needs the images elsewhere.
    """
    if residence not in get_args(Residence):
        raise UserError(f"residence is {residence!r}: expected {' or '.join(get_args(Residence))}")
    if residence == "device" and transformed:
        raise UserError(
            "pipelines of albumentations run on the host: leave residence at host, or choose "
            "augment none, flip or dihedral"
        )
