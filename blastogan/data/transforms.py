"""Random transforms of training images, each a pure function of the seed and the position.

Pipelines of albumentations are named in the configuration, class by class. albumentations is
imported only when a pipeline is built: that takes seconds, and would look for updates online.
"""

from __future__ import annotations

import difflib
import inspect
import os
import random
import re
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info

from blastogan.errors import ProblemList, UserError
from blastogan.utils.seeding import derive_seed

# given dict[str, Any], the command line would construct any class that an inner class_path names
Augment = Literal["none", "flip", "dihedral", "grade-preserving"] | list[dict]  # type: ignore[type-arg]
"""A ready-made augmentation, or the entries of an albumentations pipeline, see `Transform`."""

SYMMETRIES = {"none": 1, "flip": 2, "dihedral": 8, "grade-preserving": 8}
"""Number of symmetries of the square from which each ready-made augmentation draws."""

GRADE_PRESERVING: list[dict[str, Any]] = [
    {
        "class_path": "albumentations.Affine",
        "init_args": {
            "rotate": (-15, 15),
            "scale": (0.97, 1.02),
            "keep_ratio": True,
            "translate_percent": (-0.02, 0.02),
            "interpolation": 2,  # cubic, which softens least
            "border_mode": 4,  # reflection about the outermost pixels
            "p": 0.5,
        },
    },
    {
        "class_path": "albumentations.RandomBrightnessContrast",
        "init_args": {
            "brightness_limit": (-0.06, 0.06),
            "contrast_limit": (-0.1, 0.1),
            "ensure_safe_range": True,
            "p": 0.5,
        },
    },
    {
        "class_path": "albumentations.RandomGamma",
        "init_args": {"gamma_limit": (88, 114), "p": 0.5},
    },
]
"""Changes that keep the grade: the pose of the embryo, and the light.

A grade depends on the number, size and cohesion of cells, so there is no blur, noise, elastic
deformation, erasing or crop, which add or remove cells, and no change of aspect ratio. The embryo
stays complete: it is shifted and enlarged by at most 2 %. Beyond the eight exact symmetries, which
the stream applies, it rotates by up to 15 degrees: from about 20 on, the reflection that fills the
corners would show the rim of an embryo that fills the frame. Each step leaves half of the images
untouched, so that their texture stays as recorded.
"""

_COMPOSITIONS = {
    **{name: {"transforms", "p"} for name in ("Compose", "OneOf", "Sequential")},
    **{name: {"transforms", "n", "replace", "p"} for name in ("RandomOrder", "SomeOf")},
}
"""Allowed compositions, with their arguments."""

_ENTRY_KEYS = {"class_path", "init_args"}


class Transform:
    """A pipeline of albumentations that is a pure function of the image, the seed and a position.

    An entry is ``{"class_path": "albumentations.Rotate", "init_args": {"limit": 10, "p": 0.5}}``;
    the class name alone is enough. Compositions (OneOf, SomeOf, Sequential, ...) have further
    entries under ``transforms``. Only transforms of albumentations that take neither code nor
    files are allowed, and each must keep the shape and type of an image.

    All random choices come from two generators of the pipeline, never from the global ones of
    random, numpy or torch. Some noises draw from OpenCV's generator, which albumentations seeds
    each time; its state cannot be read, so it is not restored.

    Args:
        entries: The pipeline.
        seed: Seed of all random choices.
        channels: 1 (grey) or 3 (RGB).
        resolutions: Sides in pixels of the images on which every transform is tested.

    Raises:
        ProblemList: Listing every entry that cannot be used.
    """

    def __init__(
        self,
        entries: Sequence[dict[str, Any]],
        seed: int,
        channels: int,
        resolutions: Sequence[int] = (4, 16, 64),
    ) -> None:
        self._pipeline = _Pipelines(channels, resolutions).build(entries)
        self._seed = seed
        self._single_threaded = False

    def __call__(self, image: Tensor, position: int) -> Tensor:
        """Transform an image uint8 ``(C, H, W)`` at a position of the stream into a new one."""
        if not self._single_threaded and get_worker_info() is not None:
            import cv2

            cv2.setNumThreads(0)  # workers share the cores
            self._single_threaded = True
        _reseed(self._pipeline, derive_seed(self._seed, "augment", position))
        values = np.array(image.numpy().transpose(1, 2, 0), order="C")
        changed = self._pipeline(image=values)["image"]
        return torch.from_numpy(np.ascontiguousarray(changed.transpose(2, 0, 1)))


def check_augment(augment: Augment) -> None:
    """Raise a `UserError` for unknown names of augmentations; `Transform` checks lists."""
    if not isinstance(augment, list) and augment not in SYMMETRIES:
        raise UserError(
            f"augment is {augment!r}: expected one of {', '.join(SYMMETRIES)}, or a list of "
            "transforms of albumentations"
        )


def plan_augmentation(
    augment: Augment, seed: int, channels: int, resolutions: Sequence[int] = (4, 16, 64)
) -> tuple[int, Transform | None]:
    """Number of symmetries for the stream to draw from, and the transform that follows, if any.

    ``grade-preserving`` adds `GRADE_PRESERVING` to the `SYMMETRIES`; a list of entries is a custom
    pipeline, without symmetries. The other arguments are those of `Transform`.

    Raises:
        UserError: If the augmentation is unknown, or its entries cannot be used.
    """
    check_augment(augment)
    if isinstance(augment, list):
        return 1, Transform(augment, seed, channels, resolutions)
    preserving = augment == "grade-preserving"
    transform = Transform(GRADE_PRESERVING, seed, channels, resolutions) if preserving else None
    return SYMMETRIES[augment], transform


def _reseed(transform: Any, seed: int) -> None:
    # all transforms in it share one generator: set_random_seed would seed each alike, so that those
    # that are applied half of the time would all be applied to the same images
    transform.set_random_state(np.random.default_rng(seed), random.Random(seed))


class _Pipelines:
    """Builder of pipelines that lists every fault of their entries."""

    def __init__(self, channels: int, resolutions: Sequence[int]) -> None:
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
        import albumentations  # type: ignore[import-untyped]

        self._library: Any = albumentations
        self._kinds = _usable(albumentations)
        noise = np.random.default_rng(0)
        self._images = [
            noise.integers(0, 256, (side, side, channels), dtype=np.uint8) for side in resolutions
        ]
        self._problems: list[str] = []

    def build(self, entries: Sequence[dict[str, Any]]) -> Any:
        """The tested pipeline of these entries."""
        built = self._transforms(entries, "augment")
        if self._problems:
            raise ProblemList(
                "augment cannot be used as it is",
                self._problems,
                "Each entry has a class_path, a transform of albumentations such as "
                "albumentations.Rotate, and may have init_args. It must keep the shape and "
                "the type uint8 of images of every resolution.",
            )
        return self._library.Compose(built, is_check_shapes=False)

    def _transforms(self, entries: Any, where: str) -> list[Any]:
        if not isinstance(entries, list | tuple) or not entries:
            self._problems.append(f"{where}: expected a list of one transform or more")
            return []
        built = [self._transform(entry, f"{where}[{n}]") for n, entry in enumerate(entries)]
        return [transform for transform in built if transform is not None]

    def _transform(self, entry: Any, where: str) -> Any:
        """The tested transform of one entry; None if it cannot be used, which adds a problem."""
        if not isinstance(entry, dict) or not {"class_path"} <= set(entry) <= _ENTRY_KEYS:
            self._problems.append(f"{where}: expected class_path and init_args, got {entry!r:.80}")
            return None
        path, arguments = str(entry["class_path"]), entry.get("init_args") or {}
        name = path.removeprefix("albumentations.")
        where = f"{where} ({name})"
        faults = len(self._problems)
        if name not in self._kinds:
            self._problems.append(f"{where}: {self._reason(name)}")
        elif not isinstance(arguments, dict):
            self._problems.append(f"{where}: init_args are {arguments!r:.80}, expected a mapping")
        else:
            arguments = self._arguments(name, arguments, where)
        if len(self._problems) > faults:
            return None
        # whatever albumentations, pydantic, numpy or OpenCV raises is a fault of the entry
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)
                transform = self._kinds[name](**arguments)
                for image in self._images:
                    _test(transform, image)
        except Exception as error:
            self._problems.append(f"{where}: {_brief(error)}")
            return None
        return transform

    def _reason(self, name: str) -> str:
        if inspect.isclass(getattr(self._library, name, None)):
            return "cannot be used: it takes code or files, or is no transform of uint8 images"
        close = difflib.get_close_matches(name, self._kinds)
        near = f"; did you mean {' or '.join(close)}?" if close else ""
        return f"albumentations has no such transform{near}"

    def _arguments(self, name: str, given: dict[str, Any], where: str) -> dict[str, Any]:
        """Arguments of one entry, with inner entries replaced by their transforms."""
        kind = self._kinds[name]
        known = _COMPOSITIONS.get(name) or set(inspect.signature(kind).parameters) - _unsafe(kind)
        unknown = [argument for argument in given if argument not in known]
        if unknown:
            self._problems.append(
                f"{where}: no argument {', '.join(map(str, unknown))}: expected some of "
                f"{', '.join(sorted(known))}"
            )
        if name not in _COMPOSITIONS:
            return given
        share = given.get("p", 1)
        if not isinstance(share, int | float) or not 0 <= share <= 1:
            self._problems.append(f"{where}: p is {share!r}, expected a number from 0 to 1")
        inner = self._transforms(given.get("transforms"), f"{where}.transforms")
        return {**given, "transforms": inner}


def _usable(library: Any) -> dict[str, Any]:
    """Allowed transforms and compositions: of images, without code and files."""
    kinds = {name: getattr(library, name) for name in _COMPOSITIONS if hasattr(library, name)}
    for name, kind in vars(library).items():
        if (
            inspect.isclass(kind)
            and issubclass(kind, library.BasicTransform)
            and not issubclass(kind, library.Transform3D)
            and kind.__module__.startswith("albumentations.augmentations.")
            and not _unsafe(kind) - {"mask"}  # Equalize can do without
        ):
            kinds[name] = kind
    return kinds


def _unsafe(kind: Any) -> set[str]:
    """Arguments of a transform that take code or files."""
    parameters = inspect.signature(kind).parameters.values()
    return {p.name for p in parameters if re.search(r"Callable|Path", str(p.annotation))}


def _test(transform: Any, image: NDArray[np.uint8]) -> None:
    """Raise unless a transform keeps the shape and type of an image, in several draws."""
    for draw in range(4):
        _reseed(transform, draw)
        changed = transform(image=image.copy(), force_apply=True)["image"]
        if changed.shape != image.shape or changed.dtype != image.dtype:
            raise UserError(
                f"returns {changed.dtype} {tuple(changed.shape)} for an image "
                f"{image.dtype} {image.shape}"
            )


def _brief(error: Exception) -> str:
    """First 200 characters of a message, without the references that pydantic adds."""
    lines = [line.split("[type=")[0].strip() for line in str(error).splitlines()]
    kept = [line for line in lines if line and not line.startswith("For further information")]
    return " ".join(kept)[:200] or type(error).__name__
