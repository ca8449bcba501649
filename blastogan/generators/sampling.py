"""Samples of a trained generator, in a training run and out of one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from blastogan.errors import UserError
from blastogan.generators.latents import grade_labels, labels_between, numbered_latents
from blastogan.grades import CLASSES, Grade
from blastogan.networks.layers import upsample
from blastogan.networks.progressive import ProgressiveGenerator
from blastogan.utils.pixels import to_uint8


class Sampler:
    """What a module in training and a `Generator` share: an averaged generator and its samples.

    Attributes:
        generator_ema: Moving average of the generator.
        grade_counts: int64 ``(4, 4)``, number of reals seen by ICM and TE letter.
        images_shown: Images trained on so far, summed over devices.
        resolution: Resolution of samples in pixels.
        alpha: Weight of the newest resolution, 0 to 1.
        ramp_kimg: Thousands of images at which the grade begins to count and counts in full;
            ``None`` if it always counts in full.
    """

    generator_ema: ProgressiveGenerator
    grade_counts: Tensor
    images_shown: int
    resolution: int
    alpha: float
    ramp_kimg: Sequence[float] | None

    def extra_repr(self) -> str:
        """State of growth, in the first line that a module prints."""
        return (
            f"resolution={self.resolution} of {self.final_resolution}, alpha={self.alpha:g}, "
            f"images_shown={self.images_shown}"
        )

    @property
    def final_resolution(self) -> int:
        """Highest resolution of the networks in pixels."""
        return self.generator_ema.resolution

    @property
    def latent_dim(self) -> int:
        """Size of the latent z."""
        return self.generator_ema.latent_dim

    @property
    def conditional(self) -> bool:
        """Whether the networks are conditioned on the grade."""
        return bool(self.generator_ema.label_sizes)

    @property
    def condition_weight(self) -> float:
        """Weight of the grade after the images shown, 0 to 1."""
        return self.condition_weight_at(self.images_shown)

    def condition_weight_at(self, images_shown: int) -> float:
        """Weight of the grade after so many images, 0 to 1."""
        if self.ramp_kimg is None:
            return 1.0
        begin, end = (1000 * kimg for kimg in self.ramp_kimg)
        if images_shown >= end:
            return 1.0
        return max((images_shown - begin) / (end - begin), 0.0)

    @torch.no_grad()
    def sample(
        self, indices: Sequence[int], labels: Tensor, *, seed: int, truncation_psi: float = 1.0
    ) -> Tensor:
        """Images of the averaged generator at the current resolution.

        Args:
            indices: Numbers of the B samples.
            labels: int64 ``(B, 2)``, or weights of each pair of letters, float ``(B, 16)``;
                ignored by an unconditional module.
            seed: Seed of the latents.
            truncation_psi: 1 for none; other values only if the architecture has truncation.

        Returns:
            uint8 ``(B, C, resolution, resolution)`` on the module's device; sample n of a seed and
            label is the same in every batch, its noise included.

        Raises:
            UserError: If truncation is asked of an architecture without.
        """
        device = self.grade_counts.device
        z, generators = numbered_latents(indices, seed, self.latent_dim)
        noise = [
            torch.stack([torch.randn(1, *shape, generator=g) for g in generators]).to(device)
            for shape in self.generator_ema.noise_shapes(self.resolution)
        ]
        images = self.generator_ema.render(
            z.to(device),
            labels.to(device) if self.conditional else None,
            noise,
            resolution=self.resolution,
            alpha=self.alpha,
            condition=self.condition_weight,
            truncation_psi=truncation_psi,
        )
        return to_uint8(images)

    def sample_enlarged(self, indices: Sequence[int], labels: Tensor, *, seed: int) -> Tensor:
        """`sample`, enlarged to the final resolution, so that stages can be compared."""
        images = self.sample(indices, labels, seed=seed)
        while images.shape[-1] < self.final_resolution:
            images = upsample(images)
        return images

    def generate(
        self,
        count: int,
        grade: str | Grade | Sequence[str | Grade] | None = None,
        *,
        truncation_psi: float = 1.0,
        seed: int = 0,
        batch_size: int = 32,
    ) -> Tensor:
        """Synthetic images; sample n of a seed and grade is the same whatever `count`.

        With another `batch_size` or device, rounding may move a pixel to the next grey level.

        Args:
            count: Number of images.
            grade: One grade for all, such as ``AB``, or a sequence with one per image. A letter
                such as ``Ax`` (ICM A) or ``xB`` (TE B) draws from the classes that have it, and
                ``None`` from all, by the class distribution of the training data.
            truncation_psi: 1 for none, towards 0 for less variety (StyleGAN only).
            seed: Seed of latents and grades.
            batch_size: Images per forward pass.

        Returns:
            uint8 ``(count, C, resolution, resolution)`` on the CPU.

        Raises:
            UserError: If the number of grades is not `count`, or a grade is unknown.
        """
        if min(count, batch_size) < 1:
            raise UserError(f"cannot generate {count} images in batches of {batch_size}")
        labels = grade_labels(count, grade, seed, self.class_weights())
        parts = [
            self.sample(
                range(start, min(start + batch_size, count)),
                labels[start : start + batch_size],
                seed=seed,
                truncation_psi=truncation_psi,
            ).cpu()
            for start in range(0, count, batch_size)
        ]
        return torch.cat(parts)

    def interpolate(
        self,
        start: str | Grade,
        end: str | Grade,
        *,
        steps: int = 7,
        count: int = 1,
        truncation_psi: float = 1.0,
        seed: int = 0,
    ) -> Tensor:
        """Synthetic images between two grades, from latents that stay the same.

        Args:
            start: Grade of the first step.
            end: Grade of the last step.
            steps: Number of steps, both ends included.
            count: Number of latents.
            truncation_psi: As in `generate`.
            seed: Seed of the latents.

        Returns:
            uint8 ``(count, steps, C, resolution, resolution)``; the ends equal those of `generate`.

        Raises:
            UserError: If the module was trained without grades, or an argument is invalid.
        """
        if not self.conditional:
            raise UserError(
                "cannot interpolate between grades: this model was trained without them"
            )
        if count < 1:
            raise UserError(f"cannot interpolate {count} latents: expected 1 or more")
        labels = labels_between(start, end, steps)
        parts = [
            self.sample([n] * steps, labels, seed=seed, truncation_psi=truncation_psi).cpu()
            for n in range(count)
        ]
        return torch.stack(parts)

    def class_weights(self) -> dict[str, float]:
        """Number of reals of each class seen in training; equal weights before any training."""
        counts = {name: float(self.grade_counts[Grade.parse(name).labels]) for name in CLASSES}
        return counts if sum(counts.values()) else dict.fromkeys(CLASSES, 1.0)
