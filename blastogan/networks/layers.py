"""Layers of the generators and discriminators."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from itertools import product
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blastogan.errors import UserError

LEAKY_SLOPE = 0.2
"""Negative slope of leaky ReLU in all networks (Karras et al. 2018, table 2)."""

Resample = Literal["up", "down"]


def upsample(images: Tensor) -> Tensor:
    """Double the resolution by nearest neighbours, ``(B, C, H, W)`` to ``(B, C, 2H, 2W)``."""
    return F.interpolate(images, scale_factor=2, mode="nearest")


def downsample(images: Tensor) -> Tensor:
    """Halve the resolution by 2x2 means, ``(B, C, H, W)`` to ``(B, C, H / 2, W / 2)``."""
    return F.avg_pool2d(images, 2)


def activation(features: Tensor) -> Tensor:
    """Leaky ReLU of slope 0.2, in place, for the output of a layer.

    The backward pass then keeps one tensor per layer instead of two.
    """
    return F.leaky_relu(features, LEAKY_SLOPE, inplace=True)


def full_precision(features: Tensor) -> torch.dtype:
    """Type of statistics over features and of network outputs: float32 or above."""
    return torch.promote_types(features.dtype, torch.float32)


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Context in which operations keep the types of their operands."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def fade(old: Tensor, new: Tensor, alpha: float) -> Tensor:
    """Blend linearly from `old` (alpha 0) to `new` (alpha 1), exactly at both ends."""
    return old * (1.0 - alpha) + new * alpha


def spreading(kernel_size: int = 3) -> Tensor:
    """Matrix that sums the four one-pixel shifts of a kernel, ``(K^2, (K+1)^2)``.

    Convolving with the spread kernel is convolving with the kernel and summing over 2x2 pixels. The
    product with this matrix takes one pass over the weights; padding and adding would take six.
    """
    wide = kernel_size + 1
    matrix = torch.zeros(kernel_size, kernel_size, wide, wide)
    for row, column in product(range(kernel_size), repeat=2):
        matrix[row, column, row : row + 2, column : column + 2] = 1.0
    return matrix.view(kernel_size**2, wide**2)


class EqualizedLinear(nn.Module):
    """Linear layer with equalised learning rate.

    Weights are stored with unit variance and scaled by He's constant at run time, so that Adam
    moves all layers at the same speed (Karras et al. 2018, section 4.1).

    Args:
        in_features: Size of the last dimension of the input.
        out_features: Size of the last dimension of the output.
        gain: Gain of He's initialisation; 1 for layers without activation.
        lr_multiplier: Factor of the learning rate (Karras et al. 2019, appendix C).
        bias_init: Initial value of the bias.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        gain: float = math.sqrt(2.0),
        lr_multiplier: float = 1.0,
        bias_init: float = 0.0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((out_features,), bias_init / lr_multiplier))
        self.scale = gain / math.sqrt(in_features) * lr_multiplier
        self.lr_multiplier = lr_multiplier

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(..., in_features)`` to ``(..., out_features)``."""
        return F.linear(features, self.weight * self.scale, self.bias * self.lr_multiplier)

    def extra_repr(self) -> str:
        """Settings shown by `print`."""
        out_features, in_features = self.weight.shape
        return f"{in_features}, {out_features}, lr_multiplier={self.lr_multiplier}"


class EqualizedConv2d(nn.Module):
    """Convolution of stride 1 with equalised learning rate and optional resampling.

    Resampling and convolution are fused into one linear operation, before bias and activation: up
    by nearest neighbours before the convolution, down by 2x2 means after it (Karras et al. 2018,
    section 2 and figure 2). With `blur`, a [1 2 1] filter follows the convolution on the way up
    and precedes it on the way down (Karras et al. 2019, section 2).

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: 1 or 3 keeps the resolution; 4 is for the 4x4 layer, without padding.
        gain: Gain of He's initialisation; 1 for layers without activation.
        bias: Whether there is a bias; not if noise is added before it.
        resample: ``up`` doubles the resolution, ``down`` halves it.
        blur: Whether to low-pass filter when resampling.
    """

    shifts: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        gain: float = math.sqrt(2.0),
        bias: bool = True,
        resample: Resample | None = None,
        blur: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.scale = gain / math.sqrt(in_channels * kernel_size**2)
        self.padding = kernel_size // 2 if kernel_size % 2 else 0
        self.resample = resample
        self.blur = Blur() if blur else None
        if resample is not None:
            # up: nearest upsampling, then KxK, is a wider transposed convolution of stride 2 with
            # the kernel reversed; down: KxK, then 2x2 means, is a wider convolution of stride 2
            shifts = spreading(kernel_size)
            shifts = shifts.flip(0) if resample == "up" else shifts / 4
            self.register_buffer("shifts", shifts, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(B, in_channels, H, W)`` to ``(B, out_channels, H', W')``."""
        weight = self.weight * self.scale
        if self.resample is None:
            return F.conv2d(features, weight, self.bias, padding=self.padding)
        out_channels, in_channels, size, _ = weight.shape
        weight = weight.reshape(-1, size**2) @ self.shifts
        weight = weight.view(out_channels, in_channels, size + 1, size + 1)
        if self.resample == "up":
            features = F.conv_transpose2d(
                features, weight.transpose(0, 1), self.bias, stride=2, padding=self.padding
            )
            # the filter does not change the bias
            return features if self.blur is None else self.blur(features)
        features = features if self.blur is None else self.blur(features)
        return F.conv2d(features, weight, self.bias, stride=2, padding=self.padding)

    def extra_repr(self) -> str:
        """Settings shown by `print`."""
        out_channels, in_channels, kernel_size, _ = self.weight.shape
        return f"{in_channels}, {out_channels}, {kernel_size}, resample={self.resample}"


class PixelNorm(nn.Module):
    """Scale each feature vector to unit root mean square (Karras et al. 2018, section 4.2)."""

    EPS = 1e-8

    def forward(self, features: Tensor) -> Tensor:
        """Normalise ``(B, C, ...)`` over dimension 1."""
        # a norm takes one pass over the features, squares and their mean take several
        norm = torch.linalg.vector_norm(
            features, dim=1, keepdim=True, dtype=full_precision(features)
        )
        scale = torch.rsqrt(norm.square() / features.shape[1] + self.EPS)
        return features * scale.to(features.dtype)


class Blur(nn.Module):
    """Low-pass filter [1 2 1] x [1 2 1] / 16 with reflected edges.

    Karras et al. 2019, section 2, after Zhang (2019). Reflection keeps the mean of flat images up
    to the edge, where zeros would darken it.
    """

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        taps = torch.tensor([1.0, 2.0, 1.0]) / 4.0
        self.register_buffer("kernel", torch.outer(taps, taps)[None, None], persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Filter each channel of ``(B, C, H, W)``, H and W at least 2."""
        channels = features.shape[1]
        kernel = self.kernel.to(features.dtype).expand(channels, 1, 3, 3)
        # autocast would convert them to float32 for padding
        with without_autocast(features.device):
            padded = F.pad(features, (1, 1, 1, 1), mode="reflect")
            return F.conv2d(padded, kernel, groups=channels)


class MinibatchStdDev(nn.Module):
    """Append a channel with the standard deviation within each group of images.

    It is averaged over channels and pixels (Karras et al. 2018, section 3). Groups are contiguous
    images, so that splitting a batch over devices in multiples of the group changes nothing.

    Args:
        group_size: Images per group; a smaller batch is one group.
    """

    EPS = 1e-8

    def __init__(self, group_size: int = 4) -> None:
        super().__init__()
        if group_size < 1:
            raise UserError(f"stddev_group is {group_size}: expected 1 or more")
        self.group_size = group_size

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to ``(B, C + 1, H, W)``.

        Raises:
            UserError: If B is above the group size and not a multiple of it.
        """
        batch, _, height, width = features.shape
        group = min(self.group_size, batch)
        if batch % group:
            raise UserError(
                f"a batch of {batch} images does not divide into groups of {group} for the "
                f"minibatch standard deviation: use a multiple of {group}"
            )
        # (groups, images, C, H, W), in float32 for the precision of the variance
        grouped = features.float().reshape(batch // group, group, *features.shape[1:])
        deviation = (grouped.var(dim=1, unbiased=False) + self.EPS).sqrt()
        statistic = deviation.mean(dim=(1, 2, 3)).to(features.dtype)  # (groups,)
        channel = statistic.repeat_interleave(group, output_size=batch)
        return torch.cat([features, channel.view(-1, 1, 1, 1).expand(-1, 1, height, width)], dim=1)

    def extra_repr(self) -> str:
        """Settings shown by `print`."""
        return f"group_size={self.group_size}"
