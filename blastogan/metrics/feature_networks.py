"""Networks for features: those of torch-fidelity with safe weights, and what it lacks.

torch-fidelity computes the FID of 2017 with TensorFlow's aliased resize. The one quoted today is
*clean* FID (Parmar et al. 2022), which differs in the resize alone.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.feature_extractor_clip import FeatureExtractorCLIP, build_model
from torch_fidelity.feature_extractor_dinov2 import MODEL_METADATA as DINO_MODELS
from torch_fidelity.feature_extractor_dinov2 import FeatureExtractorDinoV2
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from blastogan.errors import UserError
from blastogan.metrics.efficientnet import FEATURES, SIDE, EfficientNetLite0


def resize_clean(images: Tensor, side: int = 299) -> Tensor:
    """Resize to a square, bicubic with antialiasing, without rounding to 8 bits afterwards.

    Parmar et al., "On Aliased Resizing and Surprising Subtleties in GAN Evaluation" (2022),
    section 3: the filter widens when images shrink, and quantisation comes only once. Equal to
    Pillow's bicubic on float images within 0.01 grey levels.

    From ``(B, C, H, W)`` in 0 to 255 to float32 ``(B, C, side, side)``; overshoot is clipped.
    """
    resized = F.interpolate(
        images.float(), (side, side), mode="bicubic", align_corners=False, antialias=True
    )
    return resized.clamp(0.0, 255.0)


class CleanInception(FeatureExtractorInceptionV3):  # type: ignore[misc]
    """torch-fidelity's Inception after the clean resize; only its 2048 pooled features."""

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """Features ``(B, 2048)`` of uint8 images ``(B, 3, H, W)``."""
        x = (resize_clean(images) - 128) / 128
        # the children are in the order of execution, the classifier last
        for name, layer in self.named_children():
            if name != "fc":
                x = layer(x)
        return (x.flatten(1),)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        """The only layer."""
        return ("2048",)


class CLIP(FeatureExtractorCLIP):  # type: ignore[misc]
    """torch-fidelity's CLIP with weights from a state dict, not from a program in TorchScript."""

    def __init__(
        self,
        name: str,
        features_list: list[str],
        feature_extractor_weights_path: str | IO[bytes],
        **settings: Any,
    ) -> None:
        FeatureExtractorBase.__init__(self, name, features_list)
        self.feature_extractor_internal_dtype = torch.float32
        state = torch.load(feature_extractor_weights_path, map_location="cpu", weights_only=True)
        self.model = build_model(state, torch.float32)
        self.resolution = self.model.visual.input_resolution
        self.requires_grad_(False)
        self.eval()


class DinoV2(FeatureExtractorDinoV2):  # type: ignore[misc]
    """torch-fidelity's DINOv2 with weights from a file, and its code from torch's hub cache.

    The code is never fetched here: whether to run downloaded code is for the user to decide.
    """

    def __init__(
        self,
        name: str,
        features_list: list[str],
        feature_extractor_weights_path: str | IO[bytes],
        **settings: Any,
    ) -> None:
        FeatureExtractorBase.__init__(self, name, features_list)
        code = Path(torch.hub.get_dir()) / "facebookresearch_dinov2_main"
        if not code.is_dir():
            raise UserError(
                f"the code of {name} is not in torch's hub cache ({code}): with a network, run "
                "python -c \"import torch; torch.hub.list('facebookresearch/dinov2')\" once, or "
                "put a checkout of github.com/facebookresearch/dinov2 there"
            )
        # read on import of that code: xformers has no CPU kernels and changes the numbers
        os.environ.setdefault("XFORMERS_DISABLED", "1")
        self.feature_extractor_internal_dtype = torch.float32
        self.model = torch.hub.load(  # type: ignore[no-untyped-call]
            str(code), DINO_MODELS[name], source="local", pretrained=False, verbose=False
        )
        self.model.load_state_dict(
            torch.load(feature_extractor_weights_path, map_location="cpu", weights_only=True)
        )
        self.requires_grad_(False)
        self.eval()


class SingleLayer(FeatureExtractorBase):  # type: ignore[misc]
    """A network with features of one layer, and no logits."""

    LAYER: ClassVar[str]

    @classmethod
    def get_provided_features_list(cls) -> tuple[str, ...]:
        """The only layer."""
        return (cls.LAYER,)

    @classmethod
    def get_default_feature_layer_for_metric(cls, metric: str) -> str:
        """The only layer; there is no Inception score without logits.

        Raises:
            KeyError: For metrics without a layer, as torch-fidelity's own extractors do.
        """
        return dict.fromkeys(("fid", "kid", "prc"), cls.LAYER)[metric]

    @staticmethod
    def can_be_compiled() -> bool:
        """Whether ``torch.compile`` may wrap it."""
        return True

    @staticmethod
    def get_dummy_input_for_compile() -> Tensor:
        """A batch of one small image."""
        return torch.zeros(1, 3, 32, 32, dtype=torch.uint8)


class EfficientNet(SingleLayer):
    """EfficientNet-Lite0 behind the clean resize; its 1280 pooled features."""

    LAYER = str(FEATURES)

    def __init__(
        self,
        name: str,
        features_list: list[str],
        feature_extractor_weights_path: str | IO[bytes],
        **settings: Any,
    ) -> None:
        super().__init__(name, features_list)
        self.network = EfficientNetLite0(
            torch.load(feature_extractor_weights_path, map_location="cpu", weights_only=True)
        )

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """Features ``(B, 1280)`` of uint8 images ``(B, 3, H, W)``."""
        # with channels last it is faster on a CPU too
        pixels = resize_clean(images, SIDE).contiguous(memory_format=torch.channels_last)
        return (self.network(pixels),)
