"""What a discriminator sees of images, and how it scores them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.profiler import record_function

from blastogan.augment import AdaptiveAugmentation, AugmentationSettings
from blastogan.metrics import to_float
from blastogan.modules.generating import GeneratingModule
from blastogan.modules.step.compiling import CompileMode, NetworkCompiler
from blastogan.modules.step.draws import SampleDraws
from blastogan.modules.step.freezing import freeze_again
from blastogan.modules.step.heads import mean_logit
from blastogan.modules.step.passes import Pass
from blastogan.modules.step.ranks import agreed
from blastogan.networks.layers import downsample, fade, upsample, without_autocast
from blastogan.networks.progressive import ProgressiveDiscriminator, ProgressiveNetwork
from blastogan.utils.seeding import derive_seed

_log = logging.getLogger(__name__)

Augment = str | dict[str, float]
"""A ready-made augmentation, or amplitudes by operation."""

AUGMENTATION = "augmentation."
"""How the names of the state of augmentation begin in a state dict."""


class ScoringModule(GeneratingModule):
    """Holds a generator and its opponent, with all that stands between images and their scores.

    Args:
        generator: Network to train; it has a ``latent_dim``.
        discriminator: Its opponent, for the same resolutions and labels.
        ramp_kimg: As of `GeneratingModule`.
        augmentation: Of what D sees.
        compile_mode: Whether, and in which mode, networks run through `torch.compile`.

    Attributes:
        augmentation: Of what D sees; ``None`` for none.
        draw_seed: Seed of all that is random in the steps. Follows from that of PyTorch's global
            generator at the first step, unless it is set or comes with a checkpoint.
        transfer: What the run began with, where with another's weights: plain values.
    """

    discriminator: ProgressiveDiscriminator

    def __init__(
        self,
        generator: ProgressiveNetwork,
        discriminator: ProgressiveDiscriminator,
        ramp_kimg: Sequence[float] | None,
        augmentation: AugmentationSettings,
        compile_mode: CompileMode,
    ) -> None:
        super().__init__(generator, ramp_kimg)
        self.discriminator = discriminator
        self.augmentation = AdaptiveAugmentation(augmentation) if augmentation.active else None
        self.draw_seed: int | None = None
        self.transfer: dict[str, Any] | None = None
        self._compiler = NetworkCompiler(compile_mode)

    def augment_probability(self) -> float:
        """Probability of each operation of the augmentation, 0 to 1; waits for the device."""
        return 0.0 if self.augmentation is None else float(self.augmentation.p)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what a resumed run needs, as plain values."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["blastogan"]["draw_seed"] = self.draw_seed
        checkpoint["blastogan"]["transfer"] = self.transfer

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the state of growth.

        Augmentation goes on with its state where it is what it was, and begins anew where it has
        been changed, or turned on.

        Raises:
            UserError: If the checkpoint is of another architecture or other sizes.
        """
        super().on_load_checkpoint(checkpoint)
        self.draw_seed = checkpoint["blastogan"].get("draw_seed")
        saved_transfer = checkpoint["blastogan"].get("transfer")
        self.transfer = freeze_again(self.discriminator, saved_transfer)
        self._match_augmentation(checkpoint)

    def _match_augmentation(self, checkpoint: dict[str, Any]) -> None:
        saved, before = checkpoint["state_dict"], checkpoint.get("hyper_parameters", {})
        own = {
            name: value
            for name, value in self.state_dict().items()
            if name.startswith(AUGMENTATION)
        }
        theirs = [name for name in saved if name.startswith(AUGMENTATION)]
        what = ("augment", "augment_p")
        same = all(before.get(name) == self.hparams.get(name) for name in what)
        if same and set(theirs) == set(own):
            return
        for name in theirs:
            del saved[name]
        saved.update(own)
        if own or theirs:
            _log.info(
                "augmentation was %s, and begins anew as %s", *map(_told, (before, self.hparams))
            )

    # -- images -----------------------------------------------------------------------------------

    def prepare_reals(self, images: Tensor) -> Tensor:
        """Floats in [-1, 1] of uint8 images ``(B, C, R, R)``, cross-faded as D fades.

        During a fade, reals move from the detail of half the resolution to their own by the same
        resize as in the skip path of D, so that D cannot tell reals by their sharpness.
        """
        reals = to_float(images)
        if self.alpha < 1.0 and self.resolution > self.generator.start_resolution:
            reals = fade(upsample(downsample(reals)), reals, self.alpha)
        return reals

    def _draws(self, purpose: str, part: Pass) -> SampleDraws:
        """What is random about a pass, for a purpose of its own."""
        if self.draw_seed is None:
            self.draw_seed = agreed(derive_seed(torch.initial_seed(), "steps"))
        key = (self.images_shown, purpose)
        return SampleDraws(self.draw_seed, key, part.first, len(part.reals), self.device)

    def _seen(self, purpose: str, images: Tensor, part: Pass) -> Tensor:
        """What D sees of images: they are augmented, each draw for a purpose of its own."""
        if self.augmentation is None:
            return images
        with record_function("augment"):
            augmented: Tensor = self.augmentation(images, self._draws(f"augment {purpose}", part))
        return augmented

    # -- scores -----------------------------------------------------------------------------------

    def run(self, network: ProgressiveNetwork, *args: Any, **kwargs: Any) -> Tensor:
        """Call a network at the step's resolution and alpha, compiled if asked for."""
        growth = {"resolution": self.resolution, "alpha": self.alpha}
        return self._compiler(network, *args, **growth, **kwargs)

    def score(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """Logits ``(B,)`` of images ``(B, C, R, R)`` by D, at the module's stage, in float32."""
        given = labels if self.conditional else None
        return mean_logit(self._score_in_float32(images, given), self.condition_weight)

    def _score(self, images: Tensor, labels: Tensor | None) -> Tensor:
        return self.run(self.discriminator, images, labels)

    def _score_in_float32(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """Logits to be differentiated twice: in float32, and not compiled, which cannot be."""
        with without_autocast(self.device):
            logits: Tensor = self.discriminator(
                images, labels, resolution=self.resolution, alpha=self.alpha
            )
        return logits

    def _score_both(self, reals: Tensor, fakes: Tensor, part: Pass) -> tuple[Tensor, Tensor]:
        """Logits of reals and fakes in one pass, where no minibatch statistic would mix them."""
        labels, fake_labels = part.labels, part.fake_labels
        if len(reals) % self.discriminator.stddev_group:
            return self._score(reals, labels), self._score(fakes, fake_labels)
        both = None
        if labels is not None and fake_labels is not None:
            both = torch.cat([labels, fake_labels])
        real, fake = self._score(torch.cat([reals, fakes]), both).chunk(2)
        return real, fake


def _told(settings: Mapping[str, Any]) -> str:
    p = settings.get("augment_p")
    return f"{settings.get('augment', 'none')} with p {'adaptive' if p is None else p}"
