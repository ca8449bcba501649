"""Images decoded once, held as uint8 at every resolution: in memory, or mapped from a folder.

A store holds copies of the images, so it is written only where a folder is named for it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from blastogan.data.images.decoding import MAX_BYTES
from blastogan.data.images.framing import Crop
from blastogan.data.store_build import Contents, HashedFile, Plan, decode_to_memory, recovered
from blastogan.data.store_files import (
    UnsoundStore,
    leftovers,
    read_store,
    remove,
    store_key,
    write_store,
    writing,
)
from blastogan.errors import ProblemList, UserError
from blastogan.utils.workers import available_cores

_log = logging.getLogger(__name__)

_READ = 1 << 20
_CENTRE = Crop()


@dataclass(frozen=True)
class ImageStore:
    """Decoded images at every resolution.

    Attributes:
        levels: uint8 ``(M, C, r, r)`` by resolution r in pixels: largest first, halved down to 4.
            They share mapped files where the store lies in a folder. Files of the same content
            share a row.
        rows: int64 ``(N,)``: row of each path asked for; -1 where it cannot be decoded.
        faults: Why a path has no row, with the path and what to do, by its position.
        not_found: Images that show the centre because ``crop: embryo`` found no embryo.
    """

    levels: dict[int, Tensor]
    rows: Tensor
    faults: dict[int, str]
    not_found: int

    def images(self, positions: Tensor | Sequence[int], resolution: int) -> Tensor:
        """Copy images out of the store.

        Args:
            positions: Of paths asked for, ``(B,)``.
            resolution: One of `levels`.

        Returns:
            uint8 ``(B, C, resolution, resolution)``.

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

    @property
    def nbytes(self) -> int:
        """Bytes of all levels."""
        return sum(level.nbytes for level in self.levels.values())


def open_store(
    paths: Sequence[Path],
    resolution: int,
    channels: int,
    crop: Crop = _CENTRE,
    *,
    cache_dir: str | Path | None = None,
    num_workers: int = 0,
    skip_faulty: bool = True,
) -> ImageStore:
    """Decode images, or open them where that was done before.

    Without `cache_dir` they are decoded into memory, and nothing is written. With it, they are
    decoded once, into a folder named after the content of the files, the resolution, the channels
    and the crop: renamed, reordered or regraded files are found again, and a changed one is
    not. A second process waits for the first. A damaged folder is noticed and built anew.

    Args:
        paths: Image files.
        resolution: Side of the largest level in pixels, a power of two.
        channels: 1 (grey) or 3 (RGB).
        crop: Which square of each image is shown; by default the largest in the middle.
        cache_dir: Folder of stores, made as needed.
        num_workers: Processes that decode; 0 decodes in this one.
        skip_faulty: Whether to go on without files that cannot be decoded.

    Returns:
        The store. A file that cannot be decoded is among its `faults`; it is tried again whenever
        the store is opened.

    Raises:
        UserError: If there are no such levels, or `cache_dir` cannot be written to or is too small.
        ProblemList: If files cannot be decoded that may not be skipped; nothing is stored then.
    """
    plan = Plan(resolution, channels, crop)
    digests, files, faults = _digest_all(paths)
    if cache_dir is None:
        if files:
            _log.info("decoding %s, held in memory", _told(len(files), plan))
        contents, levels = decode_to_memory(files, plan, num_workers)
    else:

        def keep(contents: Contents) -> bool:
            # of a set that is refused, no copy is left
            return skip_faulty or not (faults or contents.faults)

        contents, levels = _open_folder(Path(cache_dir), files, plan, num_workers, keep)
    for n, digest in digests.items():
        if digest in contents.faults:
            faults[n] = f"{paths[n]}: {contents.faults[digest]}"
    if faults and not skip_faulty:
        problems = [faults[n] for n in sorted(faults)]
        raise ProblemList("images cannot be decoded", problems, "Mend these or take them out.")
    row_of = {digest: row for row, digest in enumerate(contents.digests)}
    rows = [row_of.get(digests.get(n, ""), -1) for n in range(len(paths))]
    unframed = set(contents.not_found)
    return ImageStore(
        levels=levels,
        rows=torch.tensor(rows, dtype=torch.int64),
        faults=dict(sorted(faults.items())),
        not_found=sum(row in unframed for row in rows),
    )


def _open_folder(
    cache_dir: Path,
    files: Mapping[str, HashedFile],
    plan: Plan,
    num_workers: int,
    keep: Callable[[Contents], bool],
) -> tuple[Contents, dict[int, Tensor]]:
    folder = cache_dir / f"images-{store_key(files.keys(), plan)}"
    try:
        # without the lock, so that a folder that cannot be written to serves as well
        return _read(folder, files, plan)
    except UnsoundStore:
        pass
    with _locked(folder):
        try:
            return _read(folder, files, plan)
        except UnsoundStore as fault:
            if folder.exists():
                _log.warning("%s: %s, so it is built anew", folder, fault)
        _sweep(folder)
        _log.info("storing %s, in %s", _told(len(files), plan), folder)
        return write_store(folder, files, plan, num_workers, keep)


def _read(
    folder: Path, files: Mapping[str, HashedFile], plan: Plan
) -> tuple[Contents, dict[int, Tensor]]:
    contents, levels = read_store(folder, files.keys(), plan)
    # what was wrong may have been the machine, out of memory for instance
    for path in recovered(contents.faults, files, plan):
        raise UnsoundStore(f"{path} is left out, but can be decoded now")
    return contents, levels


def _told(count: int, plan: Plan) -> str:
    sides = f"{plan.resolution} to {plan.smallest} pixels"
    return f"{count:,} images at {sides}: {plan.nbytes(count) / 1e6:,.1f} MB"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a store; the system frees that of a process that dies."""
    lock = _lock_of(folder)
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            _log.info("another process builds %s: waiting for it", folder)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _lock_of(folder: Path) -> FileLock:
    return FileLock(folder.with_name(f"{folder.name}.lock"))


def _sweep(folder: Path) -> None:
    """Remove what builders left that died: of the store whose lock is held, and of idle ones."""
    for left in leftovers(folder):
        remove(left)
    for left in folder.parent.glob("images-*.*"):
        other = left.with_suffix("")
        if other != folder and left in leftovers(other):
            try:
                with _lock_of(other).acquire(timeout=0):
                    remove(left)
            except (Timeout, OSError):
                continue


def _digest_all(
    paths: Sequence[Path],
) -> tuple[dict[int, str], dict[str, HashedFile], dict[int, str]]:
    """Digests by position, a file for each digest, and by position why others cannot be read."""
    digests, files, faults = {}, {}, {}
    with ThreadPoolExecutor(min(available_cores(), 8)) as pool:
        for n, found in enumerate(pool.map(_digest, paths)):
            if isinstance(found, str):
                faults[n] = f"{paths[n]}: {found}"
            else:
                digests[n], files[found[0]] = found
    return digests, files, faults


def _digest(path: Path) -> tuple[str, HashedFile] | str:
    """Digest of a file and the file, or why it has none."""
    digest = hashlib.blake2b(digest_size=16)
    try:
        # a pipe would never end
        if not path.is_file():
            return "no such file: check the path"
        file = HashedFile.now(path)
        if file.size > MAX_BYTES:
            return (
                f"a file of {file.size / 1e6:.0f} MB, expected at most {MAX_BYTES / 1e6:.0f}: save "
                "the image anew, or take it out"
            )
        with path.open("rb") as content:
            while chunk := content.read(_READ):
                digest.update(chunk)
    except OSError as error:
        return f"cannot be read ({error}): check its permissions, or copy it anew"
    return digest.hexdigest(), file
