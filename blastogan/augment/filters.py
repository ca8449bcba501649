"""Operations on the texture of images: gains of frequency bands, noise, and cut-out squares."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from blastogan.augment.gates import Draws, OperationGates

BANDS = 4
BAND_NAMES = tuple(f"bands {n}" for n in range(BANDS))
"""Operations that each amplify one band."""

EXPECTED_POWER = (10 / 13, 1 / 13, 1 / 13, 1 / 13)
"""Share of the bands in the power of an image, lowest first (Karras et al. 2020, appendix B)."""

_SPLINE = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)


def filter_bands(images: Tensor, gates: OperationGates, amplitude: float) -> Tensor:
    """Amplify or weaken each of four bands of frequency.

    After Karras et al. 2020 ("Training generative adversarial networks with limited data"),
    appendix B, with bands of the wavelet transform without decimation by a cubic spline (Starck and
    Murtagh 1994): they sum to the image ``(B, C, R, R)``, so that gains of 1 leave it unchanged.
    The expected power of an image is preserved. Small images have fewer bands.
    """
    rest, dilation = images, 1
    detail: list[Tensor] = []
    while len(detail) < BANDS - 1 and 2 * dilation < images.shape[-1]:
        smooth = _smoothed(rest, dilation)
        detail.append(rest - smooth)
        rest, dilation = smooth, 2 * dilation
    bands = [rest, *reversed(detail)]
    power = on_device(EXPECTED_POWER[: len(bands)], images.device)
    gains = torch.ones(len(images), len(bands), device=images.device)
    power = (power / power.sum()).to(gains.dtype)
    for n, name in enumerate(BAND_NAMES[: len(bands)]):
        changed = torch.ones_like(gains)
        changed[:, n] = torch.exp2(gates.normal(name, 1)[:, 0] * amplitude)
        changed = changed / (changed.square() @ power).sqrt()[:, None]
        gains = gains * torch.where(gates.takes_place(name)[:, None], changed, 1.0)
    for n, band in enumerate(bands):
        change = (gains[:, n] - 1.0).to(images.dtype)
        images = images + change[:, None, None, None] * band
    return images


@lru_cache
def on_device(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Constants ``(N,)``, sent to the device once: sending them in each step would wait for it."""
    # tensors created in inference mode cannot be used in training
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=torch.float32).to(device)


def _smoothed(images: Tensor, dilation: int) -> Tensor:
    taps = on_device(_SPLINE, images.device).to(images.dtype)
    channels, pad = images.shape[1], 2 * dilation
    for shape, padding in (((1, 5), (pad, pad, 0, 0)), ((5, 1), (0, 0, pad, pad))):
        kernel = taps.view(1, 1, *shape).expand(channels, 1, *shape)
        padded = F.pad(images, padding, mode="reflect")
        images = F.conv2d(padded, kernel, dilation=dilation, groups=channels)
    return images


def add_noise(images: Tensor, gates: OperationGates, draws: Draws, amplitude: float) -> Tensor:
    """Add white noise of a random strength, half-normal with this standard deviation."""
    strength = gates.normal("noise", 1).abs()[:, :, None, None] * amplitude
    noise = draws.randn(*images.shape[1:]) * strength
    return images + noise.to(images.dtype)


def cut_out(images: Tensor, gates: OperationGates, side: float) -> Tensor:
    """Paint a grey (0) square anywhere; its side is this share of the image's."""
    gate = gates.takes_place("cutout")
    return torch.where(gate[:, None, None, None] & _square(images, gates, side), 0.0, images)


def _square(images: Tensor, gates: OperationGates, side: float) -> Tensor:
    size = images.shape[-1]
    at = (torch.arange(size, device=images.device) + 0.5) / size
    near = (at - gates.place("cutout")[:, :, None]).abs() < side / 2
    return (near[:, 1, :, None] & near[:, 0, None, :])[:, None]
