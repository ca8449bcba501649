"""Files of the statistics of an image set, and a cache of those of the reals.

Files hold moments, features and labels but no image, so that a cache folder shows nobody's embryo.
They are NumPy archives, and reading them runs no code.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from blastogan.errors import UserError
from blastogan.grades import LETTERS, UNKNOWN_LABEL
from blastogan.metrics.frechet import Moments
from blastogan.metrics.statistics import SetStatistics
from blastogan.utils.files import atomic_write, check_archive

_log = logging.getLogger(__name__)

VERSION = 1
"""Version of the file format and of the features; other versions are ignored."""


def cache_folder() -> Path:
    """Cache folder: ``$BLASTOGAN_CACHE``, else ``blastogan`` in the user's cache folder."""
    if given := os.environ.get("BLASTOGAN_CACHE"):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "blastogan"


def statistics_key(
    images: Iterable[Tensor], labels: Tensor | None = None, groups: Sequence[str] = ()
) -> str:
    """Hex digits that change with any pixel, label or embryo of a set.

    Images are uint8 ``(B, C, H, W)``, all in one or in any batches, labels int64 ``(N, 2)``.
    """
    digest = hashlib.blake2b(digest_size=16)
    count, shape = 0, tuple[int, ...]()
    for batch in [images] if isinstance(images, Tensor) else images:
        digest.update(batch.contiguous().numpy().data)
        count, shape = count + len(batch), tuple(batch.shape[1:])
    digest.update(repr((count, *shape)).encode())
    if labels is not None:
        digest.update(labels.contiguous().numpy().data)
    digest.update("\n".join(groups).encode(errors="surrogatepass"))
    return digest.hexdigest()


def save_statistics(statistics: SetStatistics, path: str | Path) -> Path:
    """Write statistics without their images, atomically.

    Raises:
        UserError: If there are no features.
    """
    path = Path(path)
    if statistics.halves is None:
        raise UserError("these statistics have no features to save: gather them with an extractor")
    arrays: dict[str, Any] = {
        "version": VERSION,
        "extractor": statistics.extractor,
        "extractor_key": statistics.extractor_key,
        "shape": np.array(statistics.shape, dtype=np.int64),
        "groups": np.array(statistics.groups or [], dtype=np.str_),
        "index": statistics.index.numpy(),
    }
    for name in ("features", "labels", "half"):
        value = getattr(statistics, name)
        if value is not None:
            arrays[name] = value.numpy()
    for number, half in enumerate(statistics.halves):
        arrays[f"count_{number}"] = half.count
        arrays[f"mean_{number}"] = half.mean.numpy()
        arrays[f"scatter_{number}"] = half.scatter.numpy()
    with atomic_write(path) as part, part.open("wb") as file:
        np.savez(file, **arrays)
    return path


def load_statistics(path: str | Path) -> SetStatistics:
    """Read what `save_statistics` wrote.

    Raises:
        UserError: If the file is missing, damaged, or of another version.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"no statistics at {path}: give a file that --save-real or --save-fake wrote"
        )
    try:
        check_archive(path)
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return _statistics(arrays)
    # a foreign file fails in as many ways as there are arrays
    except Exception as error:
        raise UserError(
            f"cannot read the statistics in {path} ({error}): the file is damaged, old, or another "
            "program's; gather them again into another file"
        ) from error


def _statistics(arrays: dict[str, Any]) -> SetStatistics:
    if int(arrays["version"]) != VERSION:
        raise ValueError(f"version {int(arrays['version'])}, expected {VERSION}")
    halves = []
    for number in (0, 1):
        mean = _tensor(arrays, f"mean_{number}", torch.float64, (None,))
        half = Moments(len(mean))
        half.count, half.mean = int(arrays[f"count_{number}"]), mean
        half.scatter = _tensor(arrays, f"scatter_{number}", torch.float64, (len(mean),) * 2)
        halves.append(half)
    index = _tensor(arrays, "index", torch.int64, (None,))
    count, dim = len(index), len(halves[0].mean)
    counts = [half.count for half in halves]
    if sum(counts) != count or min(counts) < 0 or len(halves[1].mean) != dim:
        raise ValueError("moments and index do not match")
    if count == 0 or not bool((index.diff() >= 0).all()):
        raise ValueError("the index does not ascend")
    optional = {
        "features": (torch.float32, (count, dim)),
        "labels": (torch.int64, (count, 2)),
        "half": (torch.int64, (count,)),
    }
    found: dict[str, Any] = {
        name: _tensor(arrays, name, *form) for name, form in optional.items() if name in arrays
    }
    for name, low, high in (("labels", UNKNOWN_LABEL, len(LETTERS) - 1), ("half", 0, 1)):
        if name in found and not bool(((found[name] >= low) & (found[name] <= high)).all()):
            raise ValueError(f"{name} are not from {low} to {high}")
    if len(arrays["groups"]) not in (0, count):
        raise ValueError("groups and index do not match")
    return SetStatistics(
        index,
        str(arrays["extractor"]),
        str(arrays["extractor_key"]),
        (halves[0], halves[1]),
        groups=tuple(map(str, arrays["groups"])) or None,
        shape=tuple(map(int, arrays["shape"])),
        **found,
    )


def _tensor(
    arrays: Mapping[str, Any], name: str, dtype: torch.dtype, shape: tuple[int | None, ...]
) -> Tensor:
    """An array of a file, checked to be finite and of this type and shape; ``None`` is any size."""
    tensor = torch.from_numpy(arrays[name])
    fits = len(shape) == tensor.dim() and all(
        size in (None, got) for size, got in zip(shape, tensor.shape, strict=True)
    )
    if not fits or tensor.dtype != dtype or not tensor.isfinite().all():
        raise ValueError(f"{name} is {tuple(tensor.shape)} {tensor.dtype}, or not finite")
    return tensor


def cached(
    key: Sequence[str | int],
    needs_features: bool,
    gather: Callable[[], SetStatistics],
    folder: Path | None = None,
) -> SetStatistics:
    """Statistics from the cache; gathered and stored if they are missing.

    Args:
        key: Everything that they depend on: key of the set, extractor, seed.
        needs_features: Whether an entry without features counts as missing.
        gather: Gathers the statistics.
        folder: Cache folder, by default `cache_folder`.
    """
    name = hashlib.blake2b(repr((VERSION, *key)).encode(), digest_size=16).hexdigest()
    path = (folder or cache_folder()) / f"{name}.npz"
    if path.is_file():
        try:
            found = load_statistics(path)
            if found.features is not None or not needs_features:
                return found
        except UserError as error:
            _log.warning("%s; gathering again", error)
    statistics = gather()
    try:
        save_statistics(statistics, path)
    except OSError as error:
        _log.warning("cannot write the cache %s (%s): continuing without it", path, error)
    return statistics
