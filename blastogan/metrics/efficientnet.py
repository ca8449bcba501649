"""EfficientNet-Lite0 (Tan and Le 2019, and Google's variant for small devices of 2020).

EfficientNet-B0 without squeeze-and-excitation, with ReLU6 instead of swish. Names of layers are
those of the published state dict.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

SIDE = 224
"""Height and width of the images in pixels."""

FEATURES = 1280
"""Number of features after pooling."""

_STAGES = (
    # blocks, kernel, stride of the first block, expansion, channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class _Conv(nn.Conv2d):
    """A convolution with TensorFlow's padding ``SAME``, for even heights and widths."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        # with stride 2, one pixel less is needed, and it is left out before the first
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self._missing = (0, 0) if stride == 1 else ((kernel - 2) // 2, (kernel - 1) // 2)

    def forward(self, x: Tensor) -> Tensor:
        if any(self._missing):
            x = F.pad(x, self._missing * 2)
        return super().forward(x)


class _Fusing(nn.Module):
    """A module whose convolutions are each followed by a normalisation, see `fuse`."""

    pairs: tuple[tuple[str, str], ...] = ()

    def fuse(self) -> None:
        """Fold each normalisation into the convolution before it, which inference allows."""
        for conv, norm in self.pairs:
            if hasattr(self, conv):
                setattr(self, conv, fuse_conv_bn_eval(getattr(self, conv), getattr(self, norm)))
                setattr(self, norm, nn.Identity())


class _Block(_Fusing):
    """Inverted residual block (Sandler et al. 2018): widen, filter each channel, project."""

    pairs = (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2"))

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self._expands = expansion > 1
        self._adds = stride == 1 and inputs == outputs
        if self._expands:
            self._expand_conv = _Conv(inputs, wide, 1)
            self._bn0 = _norm(wide)
        self._depthwise_conv = _Conv(wide, wide, kernel, stride, groups=wide)
        self._bn1 = _norm(wide)
        self._project_conv = _Conv(wide, outputs, 1)
        self._bn2 = _norm(outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        x = F.relu6(self._bn0(self._expand_conv(inputs))) if self._expands else inputs
        x = F.relu6(self._bn1(self._depthwise_conv(x)))
        outputs: Tensor = self._bn2(self._project_conv(x))
        return outputs + inputs if self._adds else outputs


class EfficientNetLite0(_Fusing):
    """The network, in evaluation mode.

    Args:
        state: Its published state dict.

    Raises:
        RuntimeError: If names or shapes of the state dict are others.
    """

    pairs = (("_conv_stem", "_bn0"), ("_conv_head", "_bn1"))

    def __init__(self, state: dict[str, Any]) -> None:
        super().__init__()
        self._conv_stem = _Conv(3, 32, 3, stride=2)
        self._bn0 = _norm(32)
        blocks, channels = [], 32
        for repeats, kernel, stride, expansion, outputs in _STAGES:
            for n in range(repeats):
                blocks.append(_Block(channels, outputs, kernel, 1 if n else stride, expansion))
                channels = outputs
        self._blocks = nn.Sequential(*blocks)
        self._conv_head = _Conv(channels, FEATURES, 1)
        self._bn1 = _norm(FEATURES)
        self._fc = nn.Linear(FEATURES, 1000)
        self.load_state_dict(state)
        self.requires_grad_(False).eval()
        for module in (self, *blocks):
            module.fuse()

    @property
    def classifier(self) -> nn.Linear:
        """Layer from the features to the logits of the 1,000 classes of ImageNet."""
        return self._fc

    def forward(self, images: Tensor) -> Tensor:
        """Features float32 ``(B, 1280)`` of RGB images ``(B, 3, 224, 224)`` in 0 to 255."""
        x = F.relu6(self._bn0(self._conv_stem((images - 127) / 128)))
        x = F.relu6(self._bn1(self._conv_head(self._blocks(x))))
        return x.mean(dim=(2, 3))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)
