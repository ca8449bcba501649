"""Generated images as a data set, without files."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from blastogan.errors import UserError, check_ranges
from blastogan.generators.latents import grade_labels
from blastogan.generators.sampling import Sampler
from blastogan.grades import MAX_COUNT, Grade, parse_grade_counts

MEGABYTE = 2**20


class SyntheticDataset(Dataset[dict[str, Any]]):
    """Generated images with their grades, for a `DataLoader`.

    Image n is that of ``generator.generate(...)`` with the same arguments, in any order and in any
    worker. Images are generated `batch_size` at a time and kept as far as `cache_mb` goes: a set
    that fits is generated once; a larger one is best read in order.

    Workers of a `DataLoader` each have a copy of the generator, on the CPU, and a cache of their
    own; on another device, use ``num_workers=0``.

    An item is a mapping of

    - ``image``: uint8 ``(C, R, R)``, or what `transform` makes of it,
    - ``labels``: int64 ``(2,)``, indices of the ICM and the TE letter, 0 (A) to 3 (D),
    - ``grade``: index of the class in `blastogan.grades.CLASSES`, 0 to 9.

    Without grades, an item has the image alone.

    Args:
        generator: See `blastogan.load_generator`; a `BaseGANModule` will do.
        count: Number of images; or the numbers by grade, such as ``{"AA": 20, "CC": 5}`` or
            ``"AA:20,CC:5"``, of which ``Ax`` and ``xB`` leave the other letter to the class
            distribution of the training data. These come in the order of the classes.
        grade: Grades of the images if `count` is a number, as in `Sampler.generate`.
        seed: Seed of latents and grades.
        transform: Called with the image, uint8 ``(C, R, R)``.
        truncation_psi: 1 for none, towards 0 for less variety (StyleGAN only).
        batch_size: Images per forward pass.
        cache_mb: Largest size of the images kept, in MiB.

    Attributes:
        labels: int64 ``(count, 2)``.

    Raises:
        UserError: If a grade is unknown, a number is out of range, or grades are asked of a
            generator that was trained without.
    """

    def __init__(
        self,
        generator: Sampler,
        count: int | str | Mapping[str, int],
        grade: str | Grade | Sequence[str | Grade] | None = None,
        *,
        seed: int = 0,
        transform: Callable[[Tensor], Any] | None = None,
        truncation_psi: float = 1.0,
        batch_size: int = 32,
        cache_mb: float = 256.0,
    ) -> None:
        asked = grade is not None or not isinstance(count, int)
        if asked and not generator.conditional:
            raise UserError("this generator was trained without grades: give a number alone")
        if grade is not None and not isinstance(count, int):
            raise UserError("grades are given twice: give numbers by grade, or a number and grade")
        weights = generator.class_weights()
        if isinstance(count, Mapping):
            count = ",".join(f"{name}:{number}" for name, number in count.items())
        if isinstance(count, str):
            counts = parse_grade_counts(count, None, weights)
            grade = [name for name, number in counts.items() for _ in range(number)]
            count = len(grade)
        check_ranges({"count": count, "batch_size": batch_size}, 1, MAX_COUNT)
        check_ranges({"cache_mb": cache_mb}, 0, MAX_COUNT)
        self.generator = generator
        self.labels = grade_labels(count, grade, seed, weights)
        self.seed = seed
        self.transform = transform
        self.truncation_psi = truncation_psi
        self.batch_size = batch_size
        self.cache_mb = cache_mb
        self._kept: OrderedDict[int, Tensor] = OrderedDict()

    def __repr__(self) -> str:
        names = ("seed", "truncation_psi", "batch_size")
        settings = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__name__}({len(self)} images, {settings})"

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Item of an image; negative numbers count from the end.

        Raises:
            IndexError: If there is no such image.
            UserError: In a worker process, if the generator is not on the CPU.
        """
        number = index + len(self) if index < 0 else index
        if not 0 <= number < len(self):
            raise IndexError(f"no image {index}: there are {len(self)}")
        batch, place = divmod(number, self.batch_size)
        image = self._images(batch)[place].clone()
        item = {"image": image if self.transform is None else self.transform(image)}
        if not self.generator.conditional:
            return item
        labels = self.labels[number]
        return {**item, "labels": labels, "grade": Grade.from_labels(*labels.tolist()).index}

    def _images(self, batch: int) -> Tensor:
        """Images of a batch, from those kept or generated."""
        if batch in self._kept:
            self._kept.move_to_end(batch)
            return self._kept[batch]
        device = self.generator.grade_counts.device
        if device.type != "cpu" and get_worker_info() is not None:
            raise UserError(
                f"the generator is on {device}, which worker processes cannot use: give the "
                "DataLoader num_workers=0, or move the generator to the CPU"
            )
        numbers = range(len(self))[batch * self.batch_size : (batch + 1) * self.batch_size]
        images = self.generator.sample(
            numbers,
            self.labels[numbers.start : numbers.stop],
            seed=self.seed,
            truncation_psi=self.truncation_psi,
        ).cpu()
        self._kept[batch] = images
        # the newest is kept whatever its size
        while len(self._kept) > 1 and self._size > self.cache_mb * MEGABYTE:
            self._kept.popitem(last=False)
        return images

    @property
    def _size(self) -> int:
        return sum(images.numel() for images in self._kept.values())

    def __getstate__(self) -> dict[str, Any]:
        # workers that are not forked begin without images
        return {**self.__dict__, "_kept": OrderedDict()}
