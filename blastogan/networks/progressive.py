"""Common parts of progressively grown networks: widths, growth and the discriminator.

Karras et al., "Progressive Growing of GANs" (2018), section 2 and table 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from blastogan.errors import UserError
from blastogan.growth import check_resolution, resolutions_between
from blastogan.networks.conditioning import LabelEmbedding, check_labels
from blastogan.networks.layers import (
    EqualizedConv2d,
    EqualizedLinear,
    MinibatchStdDev,
    activation,
    downsample,
    fade,
    full_precision,
    upsample,
    without_autocast,
)

BASE_RESOLUTION = 4
"""Resolution of the innermost layers of every network, in pixels."""


@dataclass(frozen=True)
class Widths:
    """Number of feature channels by resolution (Karras et al. 2018, table 2).

    Attributes:
        base: Channels at 2x2 before the cap; they halve with each doubling of the resolution.
        cap: Largest number of channels at any resolution.
    """

    base: int = 8192
    cap: int = 512

    def __call__(self, resolution: int) -> int:
        """``min(base / 2^(log2(resolution) - 1), cap)``, at least 1."""
        return max(1, min(self.base * 2 // resolution, self.cap))


class ProgressiveNetwork(nn.Module):
    """A network with the layers of all its resolutions, and without a state of growth.

    Args:
        resolution: Highest resolution in pixels, a power of two up to 1024.
        start_resolution: Lowest resolution of images in pixels.
        img_channels: 1 (grey) or 3 (RGB).
        label_sizes: Number of values of each part of the label; empty for no conditioning.

    Raises:
        UserError: If an argument is out of range.
    """

    def __init__(
        self, resolution: int, start_resolution: int, img_channels: int, label_sizes: Sequence[int]
    ) -> None:
        super().__init__()
        check_resolution("resolution", resolution)
        check_resolution("start_resolution", start_resolution)
        if start_resolution > resolution:
            raise UserError(f"start_resolution {start_resolution} is above {resolution}")
        if img_channels not in (1, 3):
            raise UserError(f"img_channels is {img_channels}: expected 1 (grey) or 3 (RGB)")
        self.resolution = resolution
        self.start_resolution = start_resolution
        self.img_channels = img_channels
        self.label_sizes = tuple(label_sizes)

    @property
    def block_resolutions(self) -> tuple[int, ...]:
        """Resolutions of the blocks in pixels: 8, 16, ..."""
        return resolutions_between(2 * BASE_RESOLUTION, self.resolution)

    @property
    def image_resolutions(self) -> tuple[int, ...]:
        """Resolutions that images can have, in pixels."""
        return resolutions_between(self.start_resolution, self.resolution)

    def check_growth(self, resolution: int | None, alpha: float) -> int:
        """Check resolution and alpha; returns the resolution, the highest for ``None``.

        Raises:
            UserError: If the network has no such resolution, or alpha is not in 0 to 1.
        """
        resolution = self.resolution if resolution is None else resolution
        if resolution not in self.image_resolutions:
            raise UserError(
                f"resolution is {resolution}: this network has "
                f"{', '.join(map(str, self.image_resolutions))}"
            )
        if not 0.0 <= alpha <= 1.0:
            raise UserError(f"alpha is {alpha}: expected a number from 0 to 1")
        return resolution

    def use_channels_last(self) -> None:
        """Use the channels-last memory format for weights and features."""
        self.to(memory_format=torch.channels_last)

    def extra_repr(self) -> str:
        """Settings shown by `print`."""
        return (
            f"resolution={self.resolution}, start_resolution={self.start_resolution}, "
            f"img_channels={self.img_channels}, label_sizes={self.label_sizes}"
        )


class ProgressiveGenerator(ProgressiveNetwork):
    """A generator whose images follow from latents, labels and noise.

    Attributes:
        OPTIONS: Its arguments besides those that all generators take.
        latent_dim: Size of the latent z.
    """

    OPTIONS: ClassVar[tuple[str, ...]] = ()

    latent_dim: int

    def noise_shapes(self, resolution: int | None = None) -> list[tuple[int, int]]:
        """Height and width of the noise of each layer up to a resolution; none by default."""
        self.check_growth(resolution, 1.0)
        return []

    def render(
        self,
        z: Tensor,
        labels: Tensor | None,
        noise: Sequence[Tensor],
        *,
        resolution: int,
        alpha: float,
        condition: float,
        truncation_psi: float = 1.0,
    ) -> Tensor:
        """Images without random draws, float ``(B, C, resolution, resolution)``, not clipped.

        Args:
            z: Latents ``(B, latent_dim)``.
            labels: int64 ``(B, parts)`` or soft; ``None`` if unconditional.
            noise: One ``(B, 1, H, W)`` per layer, see `noise_shapes`.
            resolution: Resolution in pixels.
            alpha: Weight of the newest resolution, 0 to 1.
            condition: Condition weight, 0 to 1.
            truncation_psi: 1 for none; other values only if the network has truncation.

        Raises:
            UserError: If truncation is asked of a network without.
        """
        if truncation_psi != 1.0:
            name = type(self).__name__
            raise UserError(f"truncation_psi is {truncation_psi}: {name} has no truncation, use 1")
        images: Tensor = self(z, labels, resolution=resolution, alpha=alpha, condition=condition)
        return images


class ToRGB(nn.ModuleDict):
    """The 1x1 convolutions to images, one per resolution, and the fade between them.

    Karras et al. 2018, figure 2 and table 2.

    Args:
        resolutions: Resolutions of images in pixels, ascending.
        widths: Feature channels by resolution.
        img_channels: 1 (grey) or 3 (RGB).
    """

    def __init__(self, resolutions: Sequence[int], widths: Widths, img_channels: int) -> None:
        super().__init__(
            {str(r): EqualizedConv2d(widths(r), img_channels, 1, gain=1.0) for r in resolutions}
        )
        self.start_resolution = resolutions[0]

    def forward(
        self, features: Tensor, previous: Tensor | None, resolution: int, alpha: float
    ) -> Tensor:
        """Images ``(B, img_channels, resolution, resolution)``, in float32 under autocast too.

        Args:
            features: Output of the last block, ``(B, C, resolution, resolution)``.
            previous: Output of the block before, at half the resolution; ``None`` for none.
            resolution: Resolution in pixels.
            alpha: Weight of the last block; at 0 the image of the block before is enlarged.
        """
        images = self._convert(features, resolution)
        if previous is None or alpha == 1.0 or resolution == self.start_resolution:
            return images
        return fade(upsample(self._convert(previous, resolution // 2)), images, alpha)

    def _convert(self, features: Tensor, resolution: int) -> Tensor:
        # near white, bfloat16 has fewer levels than 8-bit images
        with without_autocast(features.device):
            images: Tensor = self[str(resolution)](features.to(full_precision(features)))
        return images


class DiscriminatorBlock(nn.Module):
    """Two 3x3 convolutions; the second halves the resolution, after a blur if any (table 2)."""

    def __init__(self, in_channels: int, out_channels: int, *, blur: bool) -> None:
        super().__init__()
        self.conv = EqualizedConv2d(in_channels, in_channels, 3)
        self.conv_down = EqualizedConv2d(in_channels, out_channels, 3, resample="down", blur=blur)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(B, in_channels, H, W)`` to ``(B, out_channels, H / 2, W / 2)``."""
        return activation(self.conv_down(activation(self.conv(features))))


class DiscriminatorHead(nn.Module):
    """The 4x4 block: minibatch statistics, then a feature vector (table 2)."""

    def __init__(self, channels: int, group_size: int) -> None:
        super().__init__()
        self.minibatch_stddev = MinibatchStdDev(group_size)
        self.conv = EqualizedConv2d(channels + 1, channels, 3)
        self.conv_4x4 = EqualizedConv2d(channels, channels, BASE_RESOLUTION)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(B, channels, 4, 4)`` to ``(B, channels)``."""
        features = activation(self.conv(self.minibatch_stddev(features)))
        return activation(self.conv_4x4(features)).flatten(1)


class ProgressiveDiscriminator(ProgressiveNetwork):
    """Discriminator for images of all its resolutions (Karras et al. 2018, section 2, table 2).

    Labels enter by projection: the inner product of the feature vector with the label's embedding
    is added to the score (Miyato and Koyama 2018, section 3).

    Args:
        resolution: Highest resolution in pixels.
        start_resolution: Lowest resolution of images in pixels.
        img_channels: 1 (grey) or 3 (RGB).
        label_sizes: Number of values of each part of the label, ``(4, 4)`` for grades; empty for
            an unconditional network.
        factorised: Whether each part of the label has an embedding, or each combination.
        unconditional_head: Whether a second head on the same features scores images without
            their labels (Shahbazi et al. 2022, figure 3).
        channel_base: Base of the channel rule.
        channel_cap: Cap of the channel rule.
        stddev_group: Images per group of the minibatch standard deviation.
        blur: Whether to low-pass filter before each halving.
    """

    def __init__(
        self,
        resolution: int = 1024,
        *,
        start_resolution: int = BASE_RESOLUTION,
        img_channels: int = 3,
        label_sizes: Sequence[int] = (),
        factorised: bool = True,
        unconditional_head: bool = False,
        channel_base: int = 8192,
        channel_cap: int = 512,
        stddev_group: int = 4,
        blur: bool = False,
    ) -> None:
        super().__init__(resolution, start_resolution, img_channels, label_sizes)
        if unconditional_head and not label_sizes:
            raise UserError(
                "unconditional_head needs label_sizes: the other head scores images with labels"
            )
        self.stddev_group = stddev_group
        widths = Widths(channel_base, channel_cap)
        self.from_rgb = nn.ModuleDict(
            {str(r): EqualizedConv2d(img_channels, widths(r), 1) for r in self.image_resolutions}
        )
        self.blocks = nn.ModuleDict(
            {
                str(r): DiscriminatorBlock(widths(r), widths(r // 2), blur=blur)
                for r in self.block_resolutions
            }
        )
        features = widths(BASE_RESOLUTION)
        self.head = DiscriminatorHead(features, stddev_group)
        self.score = EqualizedLinear(features, 1, gain=1.0)
        self.embedding = LabelEmbedding.build(self.label_sizes, features, factorised)
        self.score_unconditional = (
            EqualizedLinear(features, 1, gain=1.0) if unconditional_head else None
        )

    def forward(
        self,
        images: Tensor,
        labels: Tensor | None = None,
        *,
        known: Tensor | None = None,
        resolution: int | None = None,
        alpha: float = 1.0,
    ) -> Tensor:
        """Score images.

        Args:
            images: ``(B, img_channels, resolution, resolution)``, values in [-1, 1].
            labels: int64 ``(B, parts)`` or soft, see
                `blastogan.networks.conditioning.soft_labels`; ``None`` if unconditional.
            known: bool ``(B, parts)``, parts of the labels that are scored; ``None`` for all.
            resolution: Resolution in pixels; ``None`` for the highest.
            alpha: Weight of the newest resolution, 0 to 1; at 0 only the halved images count.

        Returns:
            Logits ``(B,)``, in float32 under autocast too; higher means more likely real. With an
            unconditional head ``(B, 2)``, unconditional logits first.

        Raises:
            UserError: If an argument does not fit the network.
        """
        resolution = self.check_growth(resolution, alpha)
        expected = (self.img_channels, resolution, resolution)
        if tuple(images.shape[1:]) != expected:
            raise UserError(f"images have shape {tuple(images.shape)}: expected (B, *{expected})")
        check_labels(labels, self.label_sizes, images.shape[0])
        features = activation(self.from_rgb[str(resolution)](images))
        for r in reversed(resolutions_between(2 * BASE_RESOLUTION, resolution)):
            features = self.blocks[str(r)](features)
            if r == resolution and alpha < 1.0 and r > self.start_resolution:
                old = activation(self.from_rgb[str(r // 2)](downsample(images)))
                features = fade(old, features, alpha)
        features = self.head(features)
        with without_autocast(features.device):
            return self._logits(features.to(full_precision(features)), labels, known)

    def _logits(self, features: Tensor, labels: Tensor | None, known: Tensor | None) -> Tensor:
        logits: Tensor = self.score(features).squeeze(1)
        if self.embedding is not None:
            scale = 1.0 / math.sqrt(features.shape[1])
            logits = logits + (self.embedding(labels, known) * features).sum(dim=1) * scale
        if self.score_unconditional is not None:
            return torch.cat([self.score_unconditional(features), logits[:, None]], dim=1)
        return logits
