"""A classifier of the ICM and the TE letter, in plain PyTorch."""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from blastogan.errors import UserError
from blastogan.grades import LABEL_SIZES

FAMILIES = (
    *("convnext", "densenet", "efficientnet", "mnasnet", "mobilenet"),
    *("regnet", "resnet", "resnext", "shufflenet", "wide_resnet"),
)
"""Prefixes of torchvision's names for networks that take images of any size."""

MIN_RESOLUTION = 32
"""Smallest side of images in pixels; some backbones would have nothing left to pool."""

SMALL_WIDTHS = (24, 48, 96, 192)
"""Channels of the blocks of the backbone ``small``; each block halves the resolution."""


class GraderNetwork(nn.Module):
    """Two heads, ICM and TE, on the features of an image classifier.

    The last layer of the backbone outputs the features. They are few, so that the covariance of a
    few hundred images has full rank, as a Frechet distance requires. Each is batch-normalised
    (Ioffe and Szegedy 2015) without a learnt scale before its rectifier: none dies, and distances
    between features are of the same order for every grader.

    Args:
        backbone: ``small``, a residual network of four blocks, or the name of a convolutional
            classifier of torchvision, such as ``resnet18``.
        feature_dim: Number of features before the heads.

    Raises:
        UserError: If the backbone is unknown or `feature_dim` is below 1.
    """

    def __init__(self, backbone: str = "small", feature_dim: int = 64) -> None:
        super().__init__()
        if feature_dim < 1:
            raise UserError(f"feature_dim is {feature_dim}: expected 1 or more")
        self.backbone = build_backbone(backbone, feature_dim)
        icm, te = LABEL_SIZES
        self.norm = nn.BatchNorm1d(feature_dim, affine=False)
        self.icm_head = nn.Linear(feature_dim, icm)
        self.te_head = nn.Linear(feature_dim, te)

    def features(self, images: Tensor) -> Tensor:
        """Features, at least 0, ``(B, feature_dim)``.

        Args:
            images: Floats in [-1, 1], ``(B, 1, R, R)`` or ``(B, 3, R, R)`` with R at least 32;
                grey is repeated to three channels.
        """
        return F.relu(self.norm(self.backbone(images.expand(-1, 3, -1, -1))))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the ICM and of the TE letters, each ``(B, 4)``; see `features`."""
        features = self.features(images)
        return self.icm_head(features), self.te_head(features)


def build_backbone(name: str, outputs: int) -> nn.Module:
    """Image classifier with random weights, RGB ``(B, 3, R, R)`` to ``(B, outputs)``.

    Raises:
        UserError: If the backbone is unknown or takes images of one size only.
    """
    if name == "small":
        return _small(outputs)
    # importing it takes a second
    from torchvision import models  # type: ignore[import-untyped]

    known = [each for each in models.list_models(module=models) if each.startswith(FAMILIES)]
    if name not in known:
        raise UserError(
            f"backbone is {name!r}: expected small or one of torchvision's {', '.join(known)}"
        )
    backbone: nn.Module = models.get_model(name, weights=None, num_classes=outputs)
    return backbone


def _small(outputs: int) -> nn.Module:
    """Residual network (He et al. 2016) with one block per resolution.

    Its first layer halves the resolution, not quarters it as for photographs: at 64 pixels a
    trophectoderm cell is a few pixels wide.
    """
    from torchvision.models.resnet import BasicBlock  # type: ignore[import-untyped]

    convolution = partial(nn.Conv2d, bias=False)
    inputs = SMALL_WIDTHS[0]
    layers: list[nn.Module] = [
        convolution(3, inputs, 3, stride=2, padding=1),
        nn.BatchNorm2d(inputs),
        nn.ReLU(),
        BasicBlock(inputs, inputs),
    ]
    for width in SMALL_WIDTHS[1:]:
        skip = nn.Sequential(convolution(inputs, width, 1, stride=2), nn.BatchNorm2d(width))
        layers.append(BasicBlock(inputs, width, stride=2, downsample=skip))
        inputs = width
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, outputs)]
    return nn.Sequential(*layers, *pool)
