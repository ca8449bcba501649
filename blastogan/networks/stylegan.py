"""StyleGAN: Karras et al., "A Style-Based Generator Architecture for GANs" (2019)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blastogan.errors import UserError
from blastogan.growth import resolutions_between
from blastogan.networks.conditioning import LabelEmbedding, check_labels
from blastogan.networks.layers import (
    EqualizedConv2d,
    EqualizedLinear,
    PixelNorm,
    activation,
    fade,
    upsample,
)
from blastogan.networks.progressive import (
    BASE_RESOLUTION,
    ProgressiveDiscriminator,
    ProgressiveNetwork,
    Widths,
)


class MappingNetwork(nn.Module):
    """Map latents to the intermediate latent space W (section 2, figure 1b).

    Labels are embedded and joined to the normalised latent.

    Args:
        latent_dim: Size of z.
        w_dim: Size of w and of the hidden layers.
        num_layers: Fully connected layers; the paper has 8.
        lr_multiplier: Learning rate of this network relative to the others (appendix C).
        label_sizes: Number of values of each part of the label; empty for no conditioning.
    """

    def __init__(
        self,
        latent_dim: int = 512,
        w_dim: int = 512,
        num_layers: int = 8,
        lr_multiplier: float = 0.01,
        label_sizes: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.w_dim = w_dim
        self.label_sizes = tuple(label_sizes)
        self.norm = PixelNorm()
        self.embedding = LabelEmbedding(self.label_sizes, latent_dim) if self.label_sizes else None
        sizes = [latent_dim * (2 if self.label_sizes else 1), *[w_dim] * num_layers]
        self.layers = nn.ModuleList(
            EqualizedLinear(sizes[i], sizes[i + 1], lr_multiplier=lr_multiplier)
            for i in range(num_layers)
        )

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map z ``(B, latent_dim)``, standard normal, and labels ``(B, parts)`` to w ``(B, w_dim)``.

        Raises:
            UserError: If the labels do not fit.
        """
        check_labels(labels, self.label_sizes, z.shape[0])
        w = self.norm(z)
        if self.embedding is not None:
            w = torch.cat([w, self.norm(self.embedding(labels))], dim=1)
        for layer in self.layers:
            w = activation(layer(w))
        return w


class AdaIN(nn.Module):
    """Adaptive instance normalisation (equation 1).

    Each channel of each image is normalised, then scaled and shifted by a learned affine of w.

    Args:
        channels: Channels of the features.
        w_dim: Size of w.
    """

    EPS = 1e-8

    def __init__(self, channels: int, w_dim: int) -> None:
        super().__init__()
        self.affine = EqualizedLinear(w_dim, 2 * channels, gain=1.0)

    def forward(self, features: Tensor, w: Tensor) -> Tensor:
        """Style ``(B, C, H, W)`` by w ``(B, w_dim)``.

        The affine gives the asked mean and the asked standard deviation less 1.
        """
        scale, mean = self.affine(w)[:, :, None, None].chunk(2, dim=1)
        normalised = F.instance_norm(features.float(), eps=self.EPS).to(features.dtype)
        return normalised * (scale + 1.0) + mean


class NoiseInput(nn.Module):
    """Per-pixel noise with a learned strength per channel (section 2, figure 1b, block B).

    Args:
        channels: Channels of the features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor, noise: Tensor | None) -> Tensor:
        """Add noise ``(B, 1, H, W)`` to ``(B, C, H, W)``; ``None`` draws it anew."""
        if noise is None:
            batch, _, height, width = features.shape
            noise = torch.randn(batch, 1, height, width, device=features.device)
        return features + self.strength.view(1, -1, 1, 1) * noise.to(features.dtype)


class LayerEpilogue(nn.Module):
    """What follows every convolution: noise, bias, activation, style (figure 1b).

    Args:
        channels: Channels of the features.
        w_dim: Size of w.
    """

    def __init__(self, channels: int, w_dim: int) -> None:
        super().__init__()
        self.noise = NoiseInput(channels)
        self.bias = nn.Parameter(torch.zeros(channels))
        self.style = AdaIN(channels, w_dim)

    def forward(self, features: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        """Map ``(B, C, H, W)`` to the same shape; w is ``(B, w_dim)``."""
        features = self.noise(features, noise) + self.bias.view(1, -1, 1, 1)
        styled: Tensor = self.style(activation(features), w)
        return styled


class SynthesisBlock(nn.Module):
    """Two styled layers of one resolution (figure 1b).

    The block at 4x4 begins with a learned constant; the others with a convolution that doubles
    the resolution of what they get.

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
            features: Of the block below; ``None`` for the block at 4x4.
            ws: The w of both layers, ``(B, 2, w_dim)``.
            noise: The noise of both layers.
        """
        if features is None:
            features = self.constant.expand(ws.shape[0], -1, -1, -1)
        else:
            features = self.conv_up(features)
        features = self.epilogue_up(features, ws[:, 0], noise[0])
        features = self.epilogue(self.conv(features), ws[:, 1], noise[1])
        return features


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
        self.w_dim = w_dim
        resolutions = resolutions_between(BASE_RESOLUTION, resolution)
        self.blocks = nn.ModuleDict(
            {
                str(r): SynthesisBlock(
                    widths(r // 2) if r > BASE_RESOLUTION else None, widths(r), w_dim
                )
                for r in resolutions
            }
        )
        self.to_rgb = nn.ModuleDict(
            {
                str(r): EqualizedConv2d(widths(r), img_channels, 1, gain=1.0)
                for r in self.image_resolutions
            }
        )

    def num_layers(self, resolution: int | None = None) -> int:
        """Styled layers that run at a resolution: two per doubling, 18 at 1024."""
        resolution = self.stage(resolution, 1.0)
        return 2 * len(resolutions_between(BASE_RESOLUTION, resolution))

    def noise_shapes(self, resolution: int | None = None) -> list[tuple[int, int]]:
        """Height and width of the noise of each layer that runs at a resolution."""
        resolution = self.stage(resolution, 1.0)
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
            noise: One ``(B, 1, H, W)`` per layer, see `noise_shapes`; ``None`` draws it anew.

        Returns:
            Images ``(B, img_channels, resolution, resolution)``, not clipped.

        Raises:
            UserError: If an argument does not fit the network.
        """
        resolution = self.stage(resolution, alpha)
        layers = self.num_layers(resolution)
        if ws.dim() == 2:
            ws = ws[:, None].expand(-1, layers, -1)
        if ws.shape[1] < layers or (noise is not None and len(noise) < layers):
            raise UserError(f"{layers} layers run at {resolution}: give as many w and noises")
        features = previous = None
        for i, r in enumerate(resolutions_between(BASE_RESOLUTION, resolution)):
            both = slice(2 * i, 2 * i + 2)
            block_noise = [None, None] if noise is None else noise[both]
            previous, features = features, self.blocks[str(r)](features, ws[:, both], block_noise)
        images: Tensor = self.to_rgb[str(resolution)](features)
        if alpha < 1.0 and resolution > self.start_resolution:
            old = upsample(self.to_rgb[str(resolution // 2)](previous))
            images = fade(old, images, alpha)
        return images


class StyleGANGenerator(ProgressiveNetwork):
    """Generator of StyleGAN: `mapping` and `synthesis`, usable alone or together.

    Args:
        resolution: Highest resolution in pixels.
        start_resolution: Lowest resolution of images in pixels.
        img_channels: 1 (grey) or 3 (RGB).
        label_sizes: Number of values of each part of the label, ``(4, 4)`` for grades; empty for
            an unconditional network.
        latent_dim: Size of z.
        w_dim: Size of w.
        mapping_layers: Layers of the mapping network.
        mapping_lr_multiplier: Its learning rate relative to the rest.
        channel_base: Base of the channel rule.
        channel_cap: Cap of the channel rule.
    """

    W_AVG_BETA = 0.995
    """Decay per update of the running mean of w (the authors' code; the paper is silent)."""

    w_avg: Tensor

    def __init__(
        self,
        resolution: int = 1024,
        *,
        start_resolution: int = BASE_RESOLUTION,
        img_channels: int = 3,
        label_sizes: Sequence[int] = (),
        latent_dim: int = 512,
        w_dim: int = 512,
        mapping_layers: int = 8,
        mapping_lr_multiplier: float = 0.01,
        channel_base: int = 8192,
        channel_cap: int = 512,
    ) -> None:
        super().__init__(resolution, start_resolution, img_channels, label_sizes)
        if min(latent_dim, w_dim, mapping_layers) < 1:
            raise UserError("latent_dim, w_dim and mapping_layers must be 1 or more")
        self.latent_dim = latent_dim
        self.mapping = MappingNetwork(
            latent_dim, w_dim, mapping_layers, mapping_lr_multiplier, self.label_sizes
        )
        self.synthesis = SynthesisNetwork(
            resolution,
            start_resolution=start_resolution,
            img_channels=img_channels,
            w_dim=w_dim,
            channel_base=channel_base,
            channel_cap=channel_cap,
        )
        self.register_buffer("w_avg", torch.zeros(w_dim))

    @torch.no_grad()
    def update_w_avg(self, w: Tensor) -> None:
        """Move the running mean of w towards the mean of ``(B, w_dim)``."""
        self.w_avg.lerp_(w.detach().float().mean(dim=0), 1.0 - self.W_AVG_BETA)

    def truncate(self, ws: Tensor, psi: float, cutoff: int | None = None) -> Tensor:
        """Draw styles towards their mean: the truncation trick in W (appendix B).

        Args:
            ws: ``(B, layers, w_dim)``.
            psi: 1 leaves w as it is, 0 gives the mean image.
            cutoff: Only the first so many layers; ``None`` for all.
        """
        truncated = self.w_avg + (ws - self.w_avg) * psi
        if cutoff is None:
            return truncated
        return torch.cat([truncated[:, :cutoff], ws[:, cutoff:]], dim=1)

    def forward(
        self,
        z: Tensor,
        labels: Tensor | None = None,
        *,
        resolution: int | None = None,
        alpha: float = 1.0,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        noise: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Generate images.

        Args:
            z: Latents ``(B, latent_dim)``, standard normal; their length does not matter.
            labels: ``(B, parts)`` of dtype int64; ``None`` for an unconditional network.
            resolution: Resolution in pixels; ``None`` for the highest.
            alpha: Weight of the newest resolution, 0 to 1.
            truncation_psi: See `truncate`.
            truncation_cutoff: See `truncate`.
            noise: See `SynthesisNetwork.forward`.

        Returns:
            Images ``(B, img_channels, resolution, resolution)``; real ones lie in [-1, 1], these
            are not clipped.

        Raises:
            UserError: If an argument does not fit the network.
        """
        resolution = self.stage(resolution, alpha)
        w = self.mapping(z, labels)
        ws = w[:, None].expand(-1, self.synthesis.num_layers(resolution), -1)
        if truncation_psi != 1.0:
            ws = self.truncate(ws, truncation_psi, truncation_cutoff)
        images: Tensor = self.synthesis(ws, resolution=resolution, alpha=alpha, noise=noise)
        return images


class StyleGANDiscriminator(ProgressiveDiscriminator):
    """Discriminator of StyleGAN: that of ProGAN with a blur before each halving (section 2).

    Args:
        resolution: Highest resolution in pixels.
        start_resolution: Lowest resolution of images in pixels.
        img_channels: 1 (grey) or 3 (RGB).
        label_sizes: Number of values of each part of the label; empty for no conditioning.
        channel_base: Base of the channel rule.
        channel_cap: Cap of the channel rule.
        stddev_group: Images to a group of the minibatch standard deviation.
    """

    def __init__(
        self,
        resolution: int = 1024,
        *,
        start_resolution: int = BASE_RESOLUTION,
        img_channels: int = 3,
        label_sizes: Sequence[int] = (),
        channel_base: int = 8192,
        channel_cap: int = 512,
        stddev_group: int = 4,
    ) -> None:
        super().__init__(
            resolution,
            start_resolution=start_resolution,
            img_channels=img_channels,
            label_sizes=label_sizes,
            channel_base=channel_base,
            channel_cap=channel_cap,
            stddev_group=stddev_group,
            blur=True,
        )


def mix_styles(w: Tensor, other: Tensor, crossover: Tensor, layers: int) -> Tensor:
    """Styles that change from one latent to another at a layer (section 3.1).

    Args:
        w: ``(B, w_dim)``, used up to the crossover.
        other: ``(B, w_dim)``, used from it on.
        crossover: Layer of each image, ``(B,)`` int64; `layers` or more for no mixing.
        layers: Number of layers.

    Returns:
        ``(B, layers, w_dim)``.
    """
    layer = torch.arange(layers, device=w.device)
    first = layer[None, :, None] < crossover[:, None, None]
    return torch.where(first, w[:, None], other[:, None])
