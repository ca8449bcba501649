"""Images decoded once, as uint8 at every resolution, and optionally cached in one file.

A cache holds copies of the images, so it is written only to a folder that the user names.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blastogan.data.batches import Track, map_in_processes, no_track
from blastogan.data.images.colour import ColourRule
from blastogan.data.images.decoding import check_shape, content_digest, load_framed, pyramid
from blastogan.data.images.framing import Crop
from blastogan.errors import ProblemList, UserError
from blastogan.growth import is_power_of_two
from blastogan.utils.files import atomic_write, check_archive
from blastogan.utils.workers import available_cores

_log = logging.getLogger(__name__)

SMALLEST = 4
"""Side of the last level in pixels, unless the first is smaller."""

_VERSION = 2
"""Version of the cache file, the decoder and the levels; another version is another file."""

_CENTRE = Crop()


@dataclass(frozen=True)
class DecodedImages:
    """Decoded images at every resolution.

    Attributes:
        levels: uint8 ``(M, C, r, r)`` by resolution r in pixels: largest first, halved down to
            `SMALLEST`; mapped from a cache file if there is one. Files of equal content share a
            row.
        rows: int64 ``(N,)``: row of each path; -1 if the file cannot be decoded.
        faults: Why a path has no row, with the path and what to do, by its position.
        not_found: Images that show the centre because ``crop: embryo`` found no embryo.
    """

    levels: dict[int, Tensor]
    rows: Tensor
    faults: dict[int, str]
    not_found: int

    def images(self, positions: Tensor | Sequence[int], resolution: int) -> Tensor:
        """Copies of images by the positions ``(B,)`` of their paths, uint8 ``(B, C, R, R)``.

        Raises:
            UserError: If one of them could not be decoded, or there is no such level.
        """
        if resolution not in self.levels:
            sides = ", ".join(map(str, self.levels))
            raise UserError(f"no images at {resolution} pixels: expected one of {sides}")
        positions = torch.as_tensor(positions, dtype=torch.int64)
        rows = self.rows[positions]
        if (rows < 0).any():
            raise UserError(self.faults[int(positions[rows < 0][0])])
        return self.levels[resolution].index_select(0, rows)


_Request = tuple[int, int, Crop, ColourRule]  # side of the first level, channels, crop, colour


class _Rows(NamedTuple):
    """Levels, digests of the files of their rows, and the rows in which no embryo was found."""

    levels: dict[int, Tensor]
    digests: list[str]
    not_found: list[int]

    def joined(self, other: _Rows) -> _Rows:
        count = len(self.digests)
        return _Rows(
            {side: torch.cat([level, other.levels[side]]) for side, level in self.levels.items()},
            self.digests + other.digests,
            self.not_found + [count + row for row in other.not_found],
        )


def decode_images(
    paths: Sequence[Path],
    resolution: int,
    channels: int,
    crop: Crop = _CENTRE,
    colour: ColourRule = "keep",
    *,
    cache_dir: str | Path | None = None,
    num_workers: int = 0,
    skip_faulty: bool = True,
    track: Track = no_track,
) -> DecodedImages:
    """Decode images into memory, or map the cache of an earlier call.

    A cache file is named after the content of the image files, the resolution, the channels, the
    crop and the colour rule: it serves renamed, reordered and regraded files, and a changed file
    makes another cache. Damage is noticed. Processes may use one `cache_dir` at once.

    Args:
        paths: Image files.
        resolution: Side of the largest level in pixels, a power of two.
        channels: 1 (grey) or 3 (RGB).
        crop: Square of each image that is shown.
        colour: What becomes of the colours, see `load_image`.
        cache_dir: Folder of cache files, made as needed; ``None`` writes nothing.
        num_workers: Processes that decode; 0 decodes in this one.
        skip_faulty: Leave out files that cannot be decoded; they are tried again at every call.
        track: Shows progress.

    Raises:
        UserError: If `resolution` or `channels` is out of range, or `cache_dir` is no folder.
        ProblemList: Listing all files that cannot be decoded, unless they may be skipped; nothing
            is cached then.
    """
    request = _request(resolution, channels, crop, colour)
    with ThreadPoolExecutor(min(available_cores(), 8)) as pool:
        digests = list(pool.map(_digest, paths))
    files = {key: path for key, path in zip(digests, paths, strict=True) if isinstance(key, str)}
    cache = None if cache_dir is None else _cache_file(Path(cache_dir), request, sorted(files))
    rows = _read(cache) if cache else None
    held = set(rows.digests) if rows else ()
    missing = {key: path for key, path in files.items() if key not in held}
    decoded, why = None, dict[str, str]()
    if missing or rows is None:
        decoded, why = _decode(missing, request, num_workers, track)
        if rows and decoded.digests:
            _log.warning("%s lacks %s: adding it", cache, missing[decoded.digests[0]])
        rows = rows.joined(decoded) if rows else decoded
    faults = {
        n: f"{paths[n]}: {why[digest]}" if isinstance(digest, str) else str(digest)
        for n, digest in enumerate(digests)
        if not isinstance(digest, str) or digest in why
    }
    if faults and not skip_faulty:
        raise ProblemList(
            "images cannot be decoded", [*faults.values()], "Fix these or take them out."
        )
    if cache and decoded and decoded.digests:
        _write(cache, rows)
    return _in_order(rows, digests, faults)


def _request(resolution: int, channels: int, crop: Crop, colour: ColourRule) -> _Request:
    check_shape(resolution, channels)
    if not is_power_of_two(resolution):
        raise UserError(f"got resolution {resolution}: expected a power of two")
    return resolution, channels, crop, colour


def _in_order(
    rows: _Rows, digests: Sequence[str | UserError], faults: dict[int, str]
) -> DecodedImages:
    """Images in the order of the files asked for, of which several may have the same content."""
    unframed = set(rows.not_found)
    row_of: dict[str | UserError, int] = {digest: row for row, digest in enumerate(rows.digests)}
    row_of_path = [row_of.get(digest, -1) for digest in digests]
    return DecodedImages(
        levels=rows.levels,
        rows=torch.tensor(row_of_path, dtype=torch.int64),
        faults=faults,
        not_found=sum(row in unframed for row in row_of_path),
    )


def _decode(
    files: Mapping[str, Path], request: _Request, num_workers: int, track: Track
) -> tuple[_Rows, dict[str, str]]:
    """Decode files by digest; also returns why a digest has no row, without the path."""
    side, channels, *_ = request
    size = len(files) * channels * side**2 * 4 / 3e6
    _log.info("decoding %d images at %d pixels and less: %.1f MB", len(files), side, size)
    images = torch.zeros((len(files), channels, side, side), dtype=torch.uint8)
    digests: list[str] = []
    not_found: list[int] = []
    faults = {}
    items = map_in_processes(partial(_load, request=request), list(files.items()), num_workers)
    for digest, item in zip(files, track(items, len(files), "decoding images"), strict=True):
        if isinstance(item, str):
            faults[digest] = item
            continue
        image, found = item
        images[len(digests)] = torch.from_numpy(image)
        if not found:
            not_found.append(len(digests))
        digests.append(digest)
    levels = pyramid(images[: len(digests)], min(SMALLEST, side))
    return _Rows(levels, digests, not_found), faults


def _load(file: tuple[str, Path], request: _Request) -> tuple[NDArray[np.uint8], bool] | str:
    """The framed image and whether its embryo was found, or the fault without the path."""
    digest, path = file
    try:
        loaded = load_framed(path, *request)
    except UserError as error:
        return str(error).removeprefix(f"{path}: ")
    return loaded if _digest(path) == digest else "changed while it was read: start again"


def _digest(path: Path) -> str | UserError:
    """Digest of the content of a file, or why it cannot be read."""
    try:
        return content_digest(path)
    except UserError as error:
        return error


def _cache_file(folder: Path, request: _Request, digests: list[str]) -> Path:
    """The cache of files of these contents, whatever their names, in a folder that exists."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"images cannot be cached in {folder} ({error}): give --data.cache_dir a folder that "
            "can be written to, or leave it out"
        ) from error
    side, channels, crop, colour = request
    facts: list[object] = [_VERSION, side, channels, crop.key(), digests]
    # caches that are older than the rule hold the colours of the files
    key = json.dumps(facts if colour == "keep" else [*facts, colour]).encode()
    return folder / f"images-{hashlib.blake2b(key, digest_size=16).hexdigest()}.pt"


def _read(path: Path) -> _Rows | None:
    """Map a cache; None if it cannot be used."""
    if not path.exists():
        return None
    try:
        check_archive(path)
        # privately: writing to the tensors changes no file
        found = torch.load(path, mmap=True, weights_only=True)
        if f"images-{found.pop('key')}" != path.stem:
            raise ValueError("it belongs to other images")
        return _Rows(**found)
    # zipfile and torch raise nearly anything on a damaged or foreign file
    except Exception as error:
        _log.warning("%s cannot be used (%s): decoding the images again", path, error)
        return None


def _write(path: Path, rows: _Rows) -> None:
    try:
        with atomic_write(path) as part:
            key = path.stem.removeprefix("images-")
            torch.save({"key": key, **rows._asdict()}, part)
        _log.info("the images are cached in %s", path)
    # torch raises RuntimeError when a disk is full
    except (OSError, RuntimeError) as error:
        _log.warning("the images cannot be cached in %s (%s): they stay in memory", path, error)
