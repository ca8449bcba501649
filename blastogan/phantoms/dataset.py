"""Phantoms as a data set, each drawn on access."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from blastogan.errors import ProblemList, UserError
from blastogan.grades import Grade
from blastogan.phantoms.plan import (
    PhantomClinic,
    PhantomPlan,
    PhantomStyle,
    phantom_problems,
)
from blastogan.phantoms.rendering import check_framing, checked_resolution, render_phantom
from blastogan.phantoms.truth import MASKS, phantom_truth
from blastogan.phantoms.view import Framing
from blastogan.utils.workers import ignore_interrupt, unchanged

FEW = 200
"""Sets of at most so many pictures are drawn faster than worker processes start."""


class PhantomDataset(Dataset[dict[str, Any]]):
    """Phantoms for a `DataLoader`, without files.

    Picture n is a pure function of the settings and n, and with ``study`` and ``balanced``
    independent of `count`; see `PhantomPlan` for its contents.

    An item is a mapping of

    - ``image``: uint8 ``(1, R, R)``,
    - ``labels``: int64 ``(2,)``, indices of the ICM and the TE letter, 0 (A) to 3 (D),
    - ``embryo``: number of the embryo,
    - ``plane``: number of the focal plane, lowest first,
    - ``clinic``: name of the clinic, one of `CLINICS`,
    - ``masks`` if asked for: uint8 ``(4, R, R)``, 0 or 255, in the order of `MASKS`.

    Args:
        count: See `PhantomPlan`.
        counts: See `PhantomPlan`.
        seed: Seed of the set.
        resolution: Side of the pictures in pixels, 16 to 512.
        planes: Focal planes of a shot, 1 to 7.
        style: Optics of the microscope.
        clinic: The clinic whose microscope is drawn.
        framing: ``embryo`` centres the embryo, ``well`` shows the well.
        masks: Whether items have masks.

    Attributes:
        views: The `PhantomPlan`.

    Raises:
        ProblemList: If settings are invalid; lists all problems.
    """

    def __init__(
        self,
        count: int | None = None,
        counts: str = "study",
        seed: int = 0,
        resolution: int = 64,
        planes: int = 1,
        style: PhantomStyle = "hoffman",
        clinic: PhantomClinic = "1",
        framing: Framing = "embryo",
        masks: bool = False,
    ) -> None:
        problems = [
            *_problems(lambda: PhantomPlan(count, seed, counts, planes, style, clinic)),
            *_problems(lambda: checked_resolution(resolution)),
            *_problems(lambda: check_framing(framing)),
        ]
        if problems:
            raise phantom_problems(problems)
        self.views = PhantomPlan(count, seed, counts, planes, style, clinic)
        self.resolution = checked_resolution(resolution)
        self.framing: Framing = framing
        self.masks = masks

    @property
    def seed(self) -> int:
        """Seed of the set."""
        return self.views.seed

    def settings(self) -> dict[str, Any]:
        """Arguments that give an equal set, as plain values."""
        own = {name: getattr(self, name) for name in ("resolution", "framing", "masks")}
        return {**self.views.settings(), **own}

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Item of a picture; negative numbers count from the end.

        Raises:
            IndexError: If there is no such picture.
        """
        view = self.views[index]
        item = {
            "image": torch.tensor(self.picture(index))[None],
            "labels": torch.tensor(view.grade.labels),
            "embryo": view.embryo,
            "plane": view.plane,
            "clinic": view.clinic,
        }
        if self.masks:
            item["masks"] = torch.from_numpy(np.stack(list(self.mask_pictures(index).values())))
        return item

    def picture(self, index: int) -> NDArray[np.uint8]:
        """Grey picture ``(R, R)``, 0 to 255."""
        return render_phantom(self.seed, self.views[index], self.resolution, self.framing)

    def pictures(self) -> Iterator[NDArray[np.uint8]]:
        """All pictures in order."""
        return map(self.picture, range(len(self)))

    def mask_pictures(self, index: int) -> dict[str, NDArray[np.uint8]]:
        """Masks ``(R, R)`` of a picture, 0 or 255, by the names of `MASKS`."""
        truth = phantom_truth(self.seed, self.views[index], self.resolution, self.framing)
        return {name: truth.masks[name] for name in MASKS}

    def grade(self, index: int) -> Grade:
        """Grade of a picture, with the expansion."""
        return self.views[index].grade


def picture_name(number: int) -> str:
    """Name of picture `number` of a set."""
    return f"phantom-{number:06d}"


def embryo_name(number: int) -> str:
    """Name of embryo `number` of a set."""
    return f"phantom-embryo-{number:05d}"


def render_phantoms(phantoms: PhantomDataset, channels: int, num_workers: int) -> Tensor:
    """Draw all phantoms of a set, with worker processes if there are many.

    Returns:
        uint8 ``(N, channels, R, R)``, the same for any number of processes.
    """
    pictures = loader_of(_Pictures(phantoms), num_workers if len(phantoms) > FEW else 0)
    grey = torch.from_numpy(np.stack(list(pictures)))
    return grey[:, None].expand(-1, channels, -1, -1).contiguous()


def loader_of(items: Dataset[Any], num_workers: int) -> DataLoader[Any]:
    """Items one by one, in order and as they are."""
    return DataLoader(
        items,
        batch_size=None,
        num_workers=num_workers,
        # arrays go through a pipe; tensors need shared memory, which is scarce in containers
        collate_fn=unchanged,
        worker_init_fn=ignore_interrupt,
        # without its own generator, the loader draws its seed from the global one
        generator=torch.Generator(),
    )


class _Pictures(Dataset[NDArray[np.uint8]]):
    """The pictures of a set without labels."""

    def __init__(self, phantoms: PhantomDataset) -> None:
        self._phantoms = phantoms

    def __len__(self) -> int:
        return len(self._phantoms)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        return self._phantoms.picture(index)


def _problems(attempt: Callable[[], object]) -> list[str]:
    """Problems that an attempt raises."""
    try:
        attempt()
    except ProblemList as error:
        return error.problems
    except UserError as error:
        return [str(error)]
    return []
