"""Images per second that reach a training step, from the image cache and from ImageFolder.

    python examples/benchmarks/loader.py [--count 3800] [--channels 3] [--crop embryo]
                                         [--folder CLASS_FOLDERS]

Without --folder, draws 200 phantoms of 500x500 pixels and makes --count JPEG files of them, which
differ by noise. Decodes all files into a cache, with all cores; then shuffled uint8 batches of 32
are delivered by one core without workers: from the cache by the project's own loader, and from the
files by ImageFolder with torchvision's v2 transforms. Prints seconds, images/s and their ratio.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterable, Iterator
from itertools import chain, repeat
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from blastogan import GrowthSchedule
from blastogan.data import Crop
from blastogan.data.cache import DecodedImages, decode_images
from blastogan.data.stream import ImageOrder, PositionedBatchSampler, StreamedImages
from blastogan.phantoms import PhantomDataset
from blastogan.utils.workers import available_cores, unchanged

BATCH = 32
SIDE = 500
DRAWN = 200


def write_files(folder: Path, count: int, channels: int) -> None:
    rng = np.random.default_rng(0)
    drawn = list(PhantomDataset(min(count, DRAWN), resolution=SIDE).pictures())
    folder.mkdir(parents=True)
    for n in range(count):
        noise = rng.integers(-8, 9, (SIDE, SIDE), dtype=np.int16)
        grey = np.clip(drawn[n % len(drawn)] + noise, 0, 255).astype(np.uint8)
        pixels = grey if channels == 1 else np.stack([grey] * 3, axis=-1)
        Image.fromarray(pixels).save(folder / f"{n:05d}.jpg", quality=90)


def from_cache(decoded: DecodedImages, resolution: int) -> Iterator[Tensor]:
    """Endless batches, as the data module delivers them while training."""
    count, shown = len(decoded.rows), 0
    schedule = GrowthSchedule(
        resolution, resolution, hold_kimg=1e6, batch_size=BATCH, tick_kimg=count / 1000
    )
    sampler = PositionedBatchSampler(ImageOrder([0] * count, seed=0), schedule, lambda: shown)
    labels = torch.zeros(count, 2, dtype=torch.int64)
    images = StreamedImages(decoded.levels, decoded.rows, labels)
    loader = DataLoader(
        images, batch_sampler=sampler, collate_fn=unchanged, generator=torch.Generator()
    )
    while True:
        for batch in loader:
            shown += len(batch["image"])
            yield batch["image"]


def from_files(root: Path, resolution: int, channels: int) -> Iterator[Tensor]:
    """Endless batches, decoded every time."""
    steps = [v2.Resize(resolution, antialias=True), v2.CenterCrop(resolution), v2.PILToTensor()]
    grey = [v2.Grayscale()] if channels == 1 else []
    loader = DataLoader(
        ImageFolder(root, v2.Compose(grey + steps)),
        batch_size=BATCH,
        shuffle=True,
        generator=torch.Generator().manual_seed(0),
    )
    for images, _ in chain.from_iterable(repeat(loader)):
        yield images


def images_per_second(batches: Iterable[Tensor], seconds: float) -> float:
    """Rate over some seconds, after a first batch that warms up."""
    batches = iter(batches)
    next(batches)
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        count += len(next(batches))
    return count / (time.perf_counter() - began)


def measure(root: Path, cache: Path, channels: int, crop: Crop, seconds: float) -> None:
    paths = [Path(path) for path, _ in ImageFolder(root).samples]
    cores = available_cores()
    for action in ("decode and cache", "open the cache  "):
        began = time.perf_counter()
        decoded = decode_images(paths, 256, channels, crop, cache_dir=cache, num_workers=cores)
        took = time.perf_counter() - began
        print(f"{action}  {took:8.1f} s  ({len(paths):,} images, {cores} cores)")
    size = sum(level.nbytes for level in decoded.levels.values())
    print(f"its size          {size / 1e6:8.0f} MB")
    torch.set_num_threads(1)
    for resolution in (64, 256):
        ours = images_per_second(from_cache(decoded, resolution), seconds)
        theirs = images_per_second(from_files(root, resolution, channels), seconds)
        print(
            f"{resolution:3d} x {resolution:<3d}  cache {ours:9,.0f} images/s"
            f"  ImageFolder {theirs:6,.0f} images/s  ratio {ours / theirs:6.0f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3800)
    parser.add_argument("--channels", type=int, choices=(1, 3), default=3)
    parser.add_argument("--crop", choices=("centre", "embryo"), default="centre")
    parser.add_argument("--folder", type=Path, help="your images, one folder per class")
    parser.add_argument("--seconds", type=float, default=10.0, help="seconds per measurement")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = options.folder or Path(temporary) / "set"
        if options.folder is None:
            write_files(root / "phantoms", options.count, options.channels)
        measure(
            root, Path(temporary) / "cache", options.channels, Crop(options.crop), options.seconds
        )


if __name__ == "__main__":
    main()
