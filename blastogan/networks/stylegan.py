"""StyleGAN: Karras et al., "A Style-Based Generator Architecture for GANs" (2019)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from blastogan.errors import UserError
from blastogan.networks.conditioning import LabelEmbedding, check_labels
from blastogan.networks.layers import EqualizedLinear, PixelNorm, activation
from blastogan.networks.progressive import (
    BASE_RESOLUTION,
    ProgressiveDiscriminator,
    ProgressiveGenerator,
)
from blastogan.networks.synthesis import SynthesisNetwork


class MappingNetwork(nn.Module):
    """Map latents to the intermediate latent space W (section 2, figure 1b).

    Label embeddings are concatenated to the normalised latent.

    Args:
        latent_dim: Size of z.
        w_dim: Size of w and of the hidden layers.
        num_layers: Fully connected layers; the paper has 8.
        lr_multiplier: Learning rate of this network relative to the others (appendix C).
        label_sizes: Number of values of each part of the label; empty for no conditioning.
        factorised: Whether each part of the label has an embedding, or each combination.
    """

    def __init__(
        self,
        latent_dim: int = 512,
        w_dim: int = 512,
        num_layers: int = 8,
        lr_multiplier: float = 0.01,
        label_sizes: Sequence[int] = (),
        factorised: bool = True,
    ) -> None:
        super().__init__()
        self.label_sizes = tuple(label_sizes)
        self.norm = PixelNorm()
        self.embedding = LabelEmbedding.build(self.label_sizes, latent_dim, factorised)
        sizes = [latent_dim * (2 if self.label_sizes else 1), *[w_dim] * num_layers]
        self.layers = nn.ModuleList(
            EqualizedLinear(sizes[i], sizes[i + 1], lr_multiplier=lr_multiplier)
            for i in range(num_layers)
        )

    def forward(
        self, z: Tensor, labels: Tensor | None = None, condition: Tensor | float = 1.0
    ) -> Tensor:
        """Map z ``(B, latent_dim)`` and labels to w ``(B, w_dim)``; see `StyleGANGenerator`."""
        check_labels(labels, self.label_sizes, z.shape[0])
        w: Tensor = self.norm(z)
        if self.embedding is not None:
            w = torch.cat([w, self.norm(self.embedding(labels)) * condition], dim=1)
        for layer in self.layers:
            w = activation(layer(w))
        return w


class StyleGANGenerator(ProgressiveGenerator):
    """Generator of StyleGAN: `mapping` and `synthesis`, which can be called separately.

    Arguments are those of `blastogan.networks.progan.ProGANGenerator`, and:

    Args:
        w_dim: Size of w.
        mapping_layers: Layers of the mapping network.
        mapping_lr_multiplier: Learning rate of the mapping network relative to the other layers.
    """

    OPTIONS = ("w_dim", "mapping_layers", "mapping_lr_multiplier")

    W_AVG_BETA = 0.995
    """Decay of the running mean of w per update, from the authors' code."""

    w_avg: Tensor

    def __init__(
        self,
        resolution: int = 1024,
        *,
        start_resolution: int = BASE_RESOLUTION,
        img_channels: int = 3,
        label_sizes: Sequence[int] = (),
        factorised: bool = True,
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
            latent_dim, w_dim, mapping_layers, mapping_lr_multiplier, self.label_sizes, factorised
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

    def use_channels_last(self) -> None:
        """Do nothing: AdaIN is faster with the pixels of a channel contiguous in memory."""

    @torch.no_grad()
    def update_w_avg(self, w: Tensor) -> None:
        """Move the running mean of w towards the mean of ``(B, w_dim)``."""
        mean = w.detach().to(self.w_avg.dtype).mean(dim=0)
        self.w_avg.lerp_(mean, 1.0 - self.W_AVG_BETA)

    def truncate(
        self, ws: Tensor, psi: float, cutoff: int | None = None, center: Tensor | None = None
    ) -> Tensor:
        """Move styles towards their mean: the truncation trick in W (appendix B).

        Args:
            ws: ``(B, layers, w_dim)``.
            psi: 1 for no change, 0 for the mean image.
            cutoff: Number of layers to truncate, from the first; ``None`` for all.
            center: Mean w for each sample, ``(B, w_dim)``; ``None`` for the running mean.
        """
        mean = self.w_avg if center is None else center[:, None]
        truncated = mean + (ws - mean) * psi
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
        condition: Tensor | float = 1.0,
    ) -> Tensor:
        """Generate images, see `blastogan.networks.progan.ProGANGenerator.forward`.

        Truncation is that of `truncate`, and noise that of `SynthesisNetwork.forward`.
        """
        resolution = self.check_growth(resolution, alpha)
        w = self.mapping(z, labels, condition)
        ws = w[:, None].expand(-1, self.synthesis.num_layers(resolution), -1)
        if truncation_psi != 1.0:
            ws = self.truncate(ws, truncation_psi, truncation_cutoff)
        images: Tensor = self.synthesis(ws, resolution=resolution, alpha=alpha, noise=noise)
        return images

    def noise_shapes(self, resolution: int | None = None) -> list[tuple[int, int]]:
        """Height and width of the noise of each layer up to a resolution."""
        return self.synthesis.noise_shapes(resolution)

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
        """See `ProgressiveGenerator.render`; truncation is within each grade."""
        ws = self.mapping(z, labels, condition)[:, None]
        ws = ws.expand(-1, self.synthesis.num_layers(resolution), -1)
        if truncation_psi != 1.0:
            center = None if labels is None else self._mean_styles(labels, condition)
            ws = self.truncate(ws, truncation_psi, center=center)
        images: Tensor = self.synthesis(ws, resolution=resolution, alpha=alpha, noise=noise)
        return images

    def _mean_styles(self, labels: Tensor, condition: float, count: int = 1000) -> Tensor:
        """Mean w of each label ``(B, w_dim)``; one mean of all would blur the grades."""
        z = torch.randn(count, self.latent_dim, generator=torch.Generator().manual_seed(0))
        z = z.to(labels.device)
        found, position = torch.unique(labels, dim=0, return_inverse=True)
        ws = [self.mapping(z, label.expand(count, -1), condition) for label in found]
        return torch.stack([w.mean(dim=0) for w in ws])[position]


class StyleGANDiscriminator(ProgressiveDiscriminator):
    """Discriminator of StyleGAN: ProGAN's with a blur before each halving (section 2).

    Args:
        resolution: Highest resolution in pixels.
        **settings: The other arguments of `ProgressiveDiscriminator`, except ``blur``.
    """

    def __init__(self, resolution: int = 1024, **settings: Any) -> None:
        super().__init__(resolution, blur=True, **settings)


def mix_styles(w: Tensor, other: Tensor, crossover: Tensor, layers: int) -> Tensor:
    """Styles that switch from one latent to another at a layer (section 3.1).

    Args:
        w: ``(B, w_dim)``, used before the crossover.
        other: ``(B, w_dim)``, used from the crossover on.
        crossover: First layer to use `other`, int64 ``(B,)``; `layers` or more for no mixing.
        layers: Number of layers.

    Returns:
        ``(B, layers, w_dim)``.
    """
    layer = torch.arange(layers, device=w.device)
    first = layer[None, :, None] < crossover[:, None, None]
    return torch.where(first, w[:, None], other[:, None])
