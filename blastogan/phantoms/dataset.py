"""Phantoms as a data set, each drawn on access."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from blastogan.errors import ProblemList, UserError
from blastogan.grades import Grade
from blastogan.phantoms.plan import PhantomClinic, PhantomPlan, PhantomStyle, phantom_problems
from blastogan.phantoms.rendering import check_framing, checked_resolution, render_phantom
from blastogan.phantoms.truth import MASKS, phantom_truth
from blastogan.phantoms.view import Framing
from blastogan.utils.workers import ignore_interrupt

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
        count, counts: See `PhantomPlan`.
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
        problems: list[str] = []
        with _collected(problems):
            self.views = PhantomPlan(count, seed, counts, planes, style, clinic)
        with _collected(problems):
            self.resolution = checked_resolution(resolution)
        with _collected(problems):
            check_framing(framing)
        if problems:
            raise phantom_problems(problems)
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

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.settings().items())
        return f"{type(self).__name__}({settings})"

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
    pictures: DataLoader[Any] = DataLoader(
        range(len(phantoms)),  # type: ignore[arg-type]
        batch_size=None,
        num_workers=num_workers if len(phantoms) > FEW else 0,
        # arrays go through a pipe; tensors need shared memory, which is scarce in containers
        collate_fn=phantoms.picture,  # type: ignore[arg-type]
        worker_init_fn=ignore_interrupt,
        # without its own generator, the loader draws its seed from the global one
        generator=torch.Generator(),
    )
    grey = torch.from_numpy(np.stack(list(pictures)))
    return grey[:, None].expand(-1, channels, -1, -1).contiguous()


@contextmanager
def _collected(problems: list[str]) -> Iterator[None]:
    """Collect the problems that are raised within."""
    try:
        yield
    except ProblemList as error:
        problems += error.problems
    except UserError as error:
        problems.append(str(error))
