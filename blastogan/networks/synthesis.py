"""Synthesis network of StyleGAN: styles in, images out.

Karras et al., "A Style-Based Generator Architecture for GANs" (2019), section 2 and figure 1b.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blastogan.errors import UserError
from blastogan.growth import resolutions_between
from blastogan.networks.layers import EqualizedConv2d, EqualizedLinear, activation
from blastogan.networks.progressive import BASE_RESOLUTION, ProgressiveNetwork, ToRGB, Widths


class AdaIN(nn.Module):
    """Adaptive instance normalisation (equation 1).

    Each channel of each image is normalised, then scaled and shifted by a learned affine of w.
    """

    EPS = 1e-8

    def __init__(self, channels: int, w_dim: int) -> None:
        super().__init__()
        self.affine = EqualizedLinear(w_dim, 2 * channels, gain=1.0)

    def forward(self, features: Tensor, w: Tensor) -> Tensor:
        """Style ``(B, C, H, W)`` by w ``(B, w_dim)``.

        The affine outputs the new mean, and the new standard deviation minus 1.
        """
        affine: Tensor = self.affine(w)
        scale, mean = affine[:, :, None, None].to(features.dtype).chunk(2, dim=1)
        # instance normalisation as groups of one channel, which is fused on the CPU
        normalised = F.group_norm(features, features.shape[1], eps=self.EPS).to(features.dtype)
        return normalised * (scale + 1.0) + mean


class NoiseInput(nn.Module):
    """Per-pixel noise with a learned strength per channel (section 2, figure 1b, block B)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor, noise: Tensor | None) -> Tensor:
        """Add noise ``(B, 1, H, W)`` to ``(B, C, H, W)``; ``None`` draws new noise."""
        if noise is None:
            batch, _, height, width = features.shape
            noise = torch.randn(batch, 1, height, width, device=features.device)
        strength = self.strength.view(1, -1, 1, 1)
        return torch.addcmul(features, strength.to(features.dtype), noise.to(features.dtype))


class LayerEpilogue(nn.Module):
    """Noise, bias, activation and style after a convolution (figure 1b)."""

    def __init__(self, channels: int, w_dim: int) -> None:
        super().__init__()
        self.noise = NoiseInput(channels)
        self.bias = nn.Parameter(torch.zeros(channels))
        self.style = AdaIN(channels, w_dim)

    def forward(self, features: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        """Map ``(B, C, H, W)`` to the same shape; w is ``(B, w_dim)``."""
        features = self.noise(features, noise).add_(self.bias.view(1, -1, 1, 1))
        styled: Tensor = self.style(activation(features), w)
        return styled


class SynthesisBlock(nn.Module):
    """Two styled layers of one resolution (figure 1b).

    The block at 4x4 starts from a learned constant, the others with a convolution that doubles the
    resolution.

    Args:
        in_channels: Channels at half the resolution; ``None`` for the block at 4x4.
        out_channels: Channels at the block's resolution.
        w_dim: Size of w.
    """

    def __init__(self, in_channels: int | None, out_channels: int, w_dim: int) -> None:
        super().__init__()
        if in_channels is None:
            shape = (1, out_channels, BASE_RESOLUTION, BASE_RESOLUTION)
            self.constant = nn.Parameter(torch.ones(shape))
        else:
            self.conv_up = EqualizedConv2d(
                in_channels, out_channels, 3, bias=False, resample="up", blur=True
            )
        self.epilogue_up = LayerEpilogue(out_channels, w_dim)
        self.conv = EqualizedConv2d(out_channels, out_channels, 3, bias=False)
        self.epilogue = LayerEpilogue(out_channels, w_dim)

    def forward(
        self, features: Tensor | None, ws: Tensor, noise: Sequence[Tensor | None]
    ) -> Tensor:
        """Map ``(B, in_channels, H, W)`` to ``(B, out_channels, 2H, 2W)``.

        Args:
            features: Output of the block before; ``None`` for the block at 4x4.
            ws: Styles of both layers, ``(B, 2, w_dim)``.
            noise: Noise of both layers.
        """
        if features is None:
            features = self.constant.expand(ws.shape[0], -1, -1, -1)
        else:
            features = self.conv_up(features)
        features = self.epilogue_up(features, ws[:, 0], noise[0])
        styled: Tensor = self.epilogue(self.conv(features), ws[:, 1], noise[1])
        return styled


class SynthesisNetwork(ProgressiveNetwork):
    """Turn styles into images (section 2, figure 1b).

    Args:
        resolution: Highest resolution in pixels.
        start_resolution: Lowest resolution of images in pixels.
        img_channels: 1 (grey) or 3 (RGB).
        w_dim: Size of w.
        channel_base: Base of the channel rule.
        channel_cap: Cap of the channel rule.
    """

    def __init__(
        self,
        resolution: int = 1024,
        *,
        start_resolution: int = BASE_RESOLUTION,
        img_channels: int = 3,
        w_dim: int = 512,
        channel_base: int = 8192,
        channel_cap: int = 512,
    ) -> None:
        super().__init__(resolution, start_resolution, img_channels, label_sizes=())
        widths = Widths(channel_base, channel_cap)
        resolutions = resolutions_between(BASE_RESOLUTION, resolution)
        inputs = {r: widths(r // 2) if r > BASE_RESOLUTION else None for r in resolutions}
        self.blocks = nn.ModuleDict(
            {str(r): SynthesisBlock(inputs[r], widths(r), w_dim) for r in resolutions}
        )
        self.to_rgb = ToRGB(self.image_resolutions, widths, img_channels)

    def num_layers(self, resolution: int | None = None) -> int:
        """Number of styled layers up to a resolution: two per doubling, 18 at 1024."""
        resolution = self.check_growth(resolution, 1.0)
        return 2 * len(resolutions_between(BASE_RESOLUTION, resolution))

    def noise_shapes(self, resolution: int | None = None) -> list[tuple[int, int]]:
        """Height and width of the noise of each layer up to a resolution."""
        resolution = self.check_growth(resolution, 1.0)
        return [(r, r) for r in resolutions_between(BASE_RESOLUTION, resolution) for _ in range(2)]

    def forward(
        self,
        ws: Tensor,
        *,
        resolution: int | None = None,
        alpha: float = 1.0,
        noise: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Generate images.

        Args:
            ws: One w for all layers, ``(B, w_dim)``, or one per layer, ``(B, layers, w_dim)``.
            resolution: Resolution in pixels; ``None`` for the highest.
            alpha: Weight of the newest resolution, 0 to 1.
            noise: One ``(B, 1, H, W)`` per layer, see `noise_shapes`; ``None`` draws new noise.

        Returns:
            Images ``(B, img_channels, resolution, resolution)``, not clipped.

        Raises:
            UserError: If an argument does not fit the network.
        """
        resolution = self.check_growth(resolution, alpha)
        layers = self.num_layers(resolution)
        if ws.dim() == 2:
            ws = ws[:, None].expand(-1, layers, -1)
        if ws.shape[1] < layers or (noise is not None and len(noise) < layers):
            raise UserError(
                f"{layers} layers run at {resolution}: give one w and one noise for each"
            )
        features = previous = None
        for i, r in enumerate(resolutions_between(BASE_RESOLUTION, resolution)):
            both = slice(2 * i, 2 * i + 2)
            block_noise = [None, None] if noise is None else noise[both]
            previous, features = features, self.blocks[str(r)](features, ws[:, both], block_noise)
        images: Tensor = self.to_rgb(features, previous, resolution, alpha)
        return images
