"""ProGAN: Karras et al., "Progressive Growing of GANs" (2018)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from blastogan.errors import UserError
from blastogan.growth import resolutions_between
from blastogan.networks.conditioning import LabelEmbedding, check_labels
from blastogan.networks.layers import EqualizedConv2d, PixelNorm, activation
from blastogan.networks.progressive import (
    BASE_RESOLUTION,
    ProgressiveDiscriminator,
    ProgressiveGenerator,
    ToRGB,
    Widths,
)


class GeneratorInput(nn.Module):
    """The 4x4 block: a linear layer from the latent, then a 3x3 convolution (table 2)."""

    def __init__(self, in_features: int, channels: int) -> None:
        super().__init__()
        # A linear layer to 4x4 is a transposed convolution: one bias per channel. As in the
        # authors' code, the gain is a quarter of He's.
        gain = math.sqrt(2.0) / 4
        self.weight = nn.Parameter(torch.randn(channels * BASE_RESOLUTION**2, in_features))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.scale = gain / math.sqrt(in_features)
        self.conv = EqualizedConv2d(channels, channels, 3)
        self.norm = PixelNorm()

    def forward(self, latent: Tensor) -> Tensor:
        """Map ``(B, in_features)`` to ``(B, channels, 4, 4)``."""
        features = nn.functional.linear(latent, self.weight * self.scale)
        features = features.view(latent.shape[0], -1, BASE_RESOLUTION, BASE_RESOLUTION)
        features = self.norm(activation(features + self.bias.view(1, -1, 1, 1)))
        normed: Tensor = self.norm(activation(self.conv(features)))
        return normed


class GeneratorBlock(nn.Module):
    """Two 3x3 convolutions; the first doubles the resolution (table 2)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv_up = EqualizedConv2d(in_channels, out_channels, 3, resample="up")
        self.conv = EqualizedConv2d(out_channels, out_channels, 3)
        self.norm = PixelNorm()

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(B, in_channels, H, W)`` to ``(B, out_channels, 2H, 2W)``."""
        features = self.norm(activation(self.conv_up(features)))
        normed: Tensor = self.norm(activation(self.conv(features)))
        return normed


class ProGANGenerator(ProgressiveGenerator):
    """Generator of ProGAN (Karras et al. 2018, section 2 and table 2).

    Label embeddings are concatenated to the latent.

    Args:
        resolution: Highest resolution in pixels.
        start_resolution: Lowest resolution of images in pixels.
        img_channels: 1 (grey) or 3 (RGB).
        label_sizes: Number of values of each part of the label, ``(4, 4)`` for grades; empty for
            an unconditional network.
        factorised: Whether each part of the label has an embedding, or each combination.
        latent_dim: Size of the latent.
        channel_base: Base of the channel rule.
        channel_cap: Cap of the channel rule.
    """

    def __init__(
        self,
        resolution: int = 1024,
        *,
        start_resolution: int = BASE_RESOLUTION,
        img_channels: int = 3,
        label_sizes: Sequence[int] = (),
        factorised: bool = True,
        latent_dim: int = 512,
        channel_base: int = 8192,
        channel_cap: int = 512,
    ) -> None:
        super().__init__(resolution, start_resolution, img_channels, label_sizes)
        if latent_dim < 1:
            raise UserError(f"latent_dim is {latent_dim}: expected 1 or more")
        self.latent_dim = latent_dim
        widths = Widths(channel_base, channel_cap)
        self.norm = PixelNorm()
        self.embedding = LabelEmbedding.build(self.label_sizes, latent_dim, factorised)
        in_features = latent_dim * (2 if self.label_sizes else 1)
        self.input = GeneratorInput(in_features, widths(BASE_RESOLUTION))
        self.blocks = nn.ModuleDict(
            {str(r): GeneratorBlock(widths(r // 2), widths(r)) for r in self.block_resolutions}
        )
        self.to_rgb = ToRGB(self.image_resolutions, widths, img_channels)

    def forward(
        self,
        z: Tensor,
        labels: Tensor | None = None,
        *,
        resolution: int | None = None,
        alpha: float = 1.0,
        condition: Tensor | float = 1.0,
    ) -> Tensor:
        """Generate images.

        Args:
            z: Latents ``(B, latent_dim)``, standard normal; they are normalised.
            labels: int64 ``(B, parts)`` or soft, see
                `blastogan.networks.conditioning.soft_labels`; ``None`` if unconditional.
            resolution: Resolution in pixels; ``None`` for the highest.
            alpha: Weight of the newest resolution, 0 to 1; at 0 the image of half the resolution
                is enlarged.
            condition: Condition weight, 0 to 1; at 0 the label has no effect.

        Returns:
            Images ``(B, img_channels, resolution, resolution)``, not clipped to [-1, 1].

        Raises:
            UserError: If an argument does not fit the network.
        """
        resolution = self.check_growth(resolution, alpha)
        check_labels(labels, self.label_sizes, z.shape[0])
        latent = self.norm(z)
        if self.embedding is not None:
            latent = torch.cat([latent, self.norm(self.embedding(labels)) * condition], dim=1)
        features = self.input(latent)
        previous = features
        for r in resolutions_between(2 * BASE_RESOLUTION, resolution):
            previous, features = features, self.blocks[str(r)](features)
        images: Tensor = self.to_rgb(features, previous, resolution, alpha)
        return images


class ProGANDiscriminator(ProgressiveDiscriminator):
    """Discriminator of ProGAN: `ProgressiveDiscriminator` without blur."""
