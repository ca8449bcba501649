"""Starting a run from the weights of another: other images, grades or none, another resolution.

Layers are matched by name; those of a resolution are named by it. A layer is taken over if all its
weights have equal names and shapes, or converted between grey and RGB; otherwise it starts new.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from torch import Tensor

from blastogan.errors import UserError
from blastogan.generators.files import read_trained
from blastogan.modules.step.freezing import freeze
from blastogan.networks.progressive import BASE_RESOLUTION

if TYPE_CHECKING:
    from blastogan.modules.base import BaseGANModule

_log = logging.getLogger(__name__)

Outcome = Literal["taken over", "converted", "new"]

SOURCES = {"generator": "generator_ema", "discriminator": "discriminator"}
"""Networks of a new run by the network of the source. Both generators start from the average."""

WIDTHS = ("latent_dim", "channel_base", "channel_cap", "w_dim", "mapping_layers")
"""Options that must be equal for weights to have equal shapes."""

MAPPING = ("mapping_layers", "mapping_lr_multiplier")
"""Options that must be equal for a mapping network to compute the same."""


@dataclass(frozen=True)
class TransferOptions:
    """Weights that a new run starts from.

    Args:
        checkpoint: Source of the weights, as far as they fit: a checkpoint, an export, or the name
            of weights that ship in the package; a resumed run does not load it again.
        freeze_d: Number of resolutions, the highest of those taken over, at which the discriminator
            is not trained (Mo, Cho and Shin 2020, "Freeze the Discriminator").
    """

    checkpoint: str | None = None
    freeze_d: int = 0

    def __post_init__(self) -> None:
        if self.freeze_d < 0:
            raise UserError(f"transfer.freeze_d is {self.freeze_d}: expected 0 or more")
        if self.freeze_d and self.checkpoint is None:
            raise UserError(
                f"transfer.freeze_d is {self.freeze_d}, but only layers of a source checkpoint can "
                "be frozen: add --transfer.checkpoint, or leave freeze_d out"
            )


class SourceCheckpoint(NamedTuple):
    """A trained GAN in a checkpoint.

    Attributes:
        architecture: Class name of its module.
        trained: Highest resolution in pixels that it had trained.
        images_shown: Images shown in its training.
        state: Floating-point weights by full name.
        settings: Hyper-parameters of its module.
    """

    architecture: str
    trained: int
    images_shown: int
    state: Mapping[str, Tensor]
    settings: Mapping[str, Any]

    @property
    def has_discriminator(self) -> bool:
        """Whether it has weights of a discriminator."""
        return any(name.startswith("discriminator.") for name in self.state)

    @classmethod
    def parse(cls, checkpoint: Mapping[str, Any]) -> SourceCheckpoint:
        """Check the content of a file; raises `UserError` unless it is of a trained GAN."""
        known, state = checkpoint.get("blastogan"), checkpoint.get("state_dict")
        if not isinstance(known, Mapping) or not isinstance(state, Mapping):
            raise UserError("this is not a checkpoint of blastogan")
        name = str(known.get("architecture"))
        if name == "GradeClassifier":
            raise UserError(
                "this is a checkpoint of a grader, which generates nothing: give one of a GAN, "
                "such as RUN/checkpoints/last.ckpt of `blastogan fit`"
            )
        weights = {
            key: value
            for key, value in state.items()
            if isinstance(key, str) and isinstance(value, Tensor) and value.is_floating_point()
        }
        networks = {key.partition(".")[0] for key in weights}
        # an export may hold the generator alone
        needed = SOURCES.values() if "card" not in checkpoint else (SOURCES["generator"],)
        if missing := [each for each in needed if each not in networks]:
            raise UserError(f"this checkpoint of a {name} has no {' and no '.join(missing)}")
        try:
            shown = int(known["images_shown"])
            resolution, alpha = int(known["resolution"]), float(known["alpha"])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError("this checkpoint has no images_shown, resolution and alpha") from error
        if shown <= 0:
            raise UserError("the GAN of this checkpoint was never trained: give a later one")
        if alpha <= 0.0 and resolution > BASE_RESOLUTION:
            # at alpha 0 the new block has not been used
            resolution //= 2
        settings = checkpoint.get("hyper_parameters")
        return cls(name, resolution, shown, weights, settings if isinstance(settings, dict) else {})


class LayerTransfer(NamedTuple):
    """Outcome for one layer: the network, the layer, its number of weights, and the reason."""

    network: str
    layer: str
    outcome: Outcome
    size: int
    reason: str = ""


class TransferReport(NamedTuple):
    """Outcome for every layer of a generator and a discriminator."""

    source: SourceCheckpoint
    layers: tuple[LayerTransfer, ...]

    def taken(self, network: str) -> set[str]:
        """Layers of a network that have weights of the source."""
        return {e.layer for e in self.layers if e.network == network and e.outcome != "new"}

    def __str__(self) -> str:
        """Table of weights by network and outcome, with the layers that are not taken over."""
        side = self.source.trained
        lines = [f"the source is a {self.source.architecture}, trained to {side}x{side}"]
        for network in SOURCES:
            own = [each for each in self.layers if each.network == network]
            total = sum(each.size for each in own)
            for outcome in get_args(Outcome):
                found = [each for each in own if each.outcome == outcome]
                size = sum(each.size for each in found)
                lines.append(f"{network:<13}  {outcome:<10}  {size:>12,} of {total:,} weights")
                for reason in dict.fromkeys(each.reason for each in found if each.reason):
                    names = ", ".join(each.layer for each in found if each.reason == reason)
                    lines.append(f"  {names}: {reason}")
        return "\n".join(lines)


def read_source(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint to start from.

    Raises:
        UserError: If it cannot be read or is not a checkpoint of a trained GAN.
    """
    checkpoint = read_trained(path)
    try:
        SourceCheckpoint.parse(checkpoint)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return checkpoint


def initialize_from(
    module: BaseGANModule, checkpoint: Mapping[str, Any], options: TransferOptions
) -> TransferReport:
    """Load the weights of a source checkpoint, freeze layers, record both, and log a report.

    Raises:
        UserError: See `load_weights` and `layers_to_freeze`.
    """
    report = load_weights(module, checkpoint)
    frozen = layers_to_freeze(module.discriminator.block_resolutions, report, options.freeze_d)
    freeze(module.discriminator, frozen)
    source = report.source
    module.transfer = {
        "checkpoint": options.checkpoint,
        "images_shown": source.images_shown,
        "freeze_d": options.freeze_d,
        "frozen": frozen,
    }
    _log.info("this run starts from the weights of %s", options.checkpoint)
    if not source.has_discriminator:
        _log.warning("%s has no discriminator: it starts new", options.checkpoint)
    for line in str(report).splitlines():
        _log.info("%s", line)
    if different := _other_widths(source.settings, module.hparams):
        _log.warning("layers of other widths start new; to take them over too, set %s", different)
    if frozen:
        _log.info("frozen in the discriminator: %s", ", ".join(frozen))
    if module.ramp_kimg is not None and source.settings.get("conditional"):
        _log.warning(
            "ramp_kimg %s: the grades that the source knows have no weight at first; to keep them, "
            "add --model.init_args.ramp_kimg null",
            list(module.ramp_kimg),
        )
    first, last = module.generator.start_resolution, min(source.trained, module.final_resolution)
    if first < last:
        _log.log(
            logging.WARNING if frozen else logging.INFO,
            "this run grows from %dx%d again%s; to continue at %dx%d, set "
            "--schedule.start_resolution %d",
            *(first, first, ", which may not suit its frozen layers" if frozen else ""),
            *(last, last, last),
        )
    return report


def check_initialized_from(options: TransferOptions, checkpoint: Mapping[str, Any]) -> None:
    """Refuse to resume a run that started from something else; a resumed run loads no source.

    Raises:
        UserError: If the options differ from those of the run.
    """
    if options.checkpoint is None:
        return
    used = checkpoint.get("blastogan", {}).get("transfer")
    source = None if used is None else str(used.get("checkpoint"))
    if source is None or Path(options.checkpoint).resolve() != Path(source).resolve():
        start = f"from {source}" if source else "without a source checkpoint"
        raise UserError(
            f"--transfer.checkpoint {options.checkpoint} is for a new run, but the run to resume "
            f"started {start}: leave it out to resume, or leave out --ckpt_path and --resume to "
            "start a new run"
        )
    if used.get("freeze_d") != options.freeze_d:
        raise UserError(
            f"transfer.freeze_d is {options.freeze_d}, but the run to resume started with "
            f"{used.get('freeze_d')}: set that, or start a new run"
        )
    _log.info("this run started from %s, which is not loaded again", options.checkpoint)


def load_weights(module: BaseGANModule, checkpoint: Mapping[str, Any]) -> TransferReport:
    """Give a new module the weights of a source checkpoint, as far as they fit.

    The state of training is not taken over, and random states are left alone.

    Raises:
        UserError: If nothing fits, or a weight is not finite.
    """
    source = SourceCheckpoint.parse(checkpoint)
    entries: list[LayerTransfer] = []
    values: dict[str, dict[str, Tensor]] = {}
    for network, name in SOURCES.items():
        theirs, values[network] = _by_layer(source.state, f"{name}."), {}
        for layer, mine in _by_layer(getattr(module, network).state_dict()).items():
            found, outcome, reason = _match(layer, mine, theirs.get(layer, {}))
            if unfit := _unfit(module, source, network, layer):
                found, outcome, reason = {}, "new", unfit
            values[network].update(found)
            size = sum(value.numel() for value in mine.values())
            entries.append(LayerTransfer(network, layer or "w_avg", outcome, size, reason))
    report = TransferReport(source, tuple(entries))
    # of a generator alone, its own blocks count
    judged = "discriminator" if source.has_discriminator else "generator"
    if not any("blocks." in layer for layer in report.taken(judged)):
        different = _other_widths(source.settings, module.hparams)
        remedy = f"set {different}" if different else f"train a {source.architecture}"
        raise UserError(f"no block of the checkpoint fits this model: {remedy}")
    bad = [
        f"{n}.{k}" for n, own in values.items() for k, v in own.items() if not v.isfinite().all()
    ]
    if bad:
        raise UserError(
            f"the checkpoint has weights that are not finite ({len(bad)} tensors, the first is "
            f"{bad[0]}): it was saved after training diverged. Give an earlier one"
        )
    for name in ("generator", "generator_ema", "discriminator"):
        getattr(module, name).load_state_dict(values[name.removesuffix("_ema")], strict=False)
    return report


def layers_to_freeze(resolutions: Iterable[int], report: TransferReport, count: int) -> list[str]:
    """Layers of the discriminator that are nearest to the image, among those taken over.

    Args:
        resolutions: Resolutions of the discriminator's blocks, ascending.
        report: Outcome for each layer.
        count: Number of resolutions; each has a block and a layer from images.

    Raises:
        UserError: If fewer blocks were taken over completely.
    """
    taken = report.taken("discriminator")
    new = [e.layer for e in report.layers if e.network == "discriminator" and e.outcome == "new"]
    partly = {layer.rpartition(".")[0] for layer in new}
    whole = [r for r in reversed([*resolutions]) if f"blocks.{r}" not in partly]
    if not 0 <= count <= len(whole):
        raise UserError(
            f"freeze_d is {count}: expected 0 to {len(whole)}, the number of the discriminator's "
            f"blocks that were taken over ({', '.join(f'{r}x{r}' for r in whole) or 'none'})"
        )
    layers = [f"blocks.{r}" for r in whole[:count]]
    return layers + [f"from_rgb.{r}" for r in whole[:count] if f"from_rgb.{r}" in taken]


def _by_layer(state: Mapping[str, Tensor], prefix: str = "") -> dict[str, dict[str, Tensor]]:
    """Weights by layer and name, of the names that begin with a prefix, which is cut off."""
    layers: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        if key.startswith(prefix):
            name = key.removeprefix(prefix)
            layers.setdefault(name.rpartition(".")[0], {})[name] = value
    return layers


def _unfit(module: BaseGANModule, source: SourceCheckpoint, network: str, layer: str) -> str:
    """Reason why a layer is not taken over even if its shapes are equal; empty if there is none."""
    if network == "generator" and source.architecture != type(module).__name__:
        return f"the source is a {source.architecture}"
    found = re.search(r"(?:blocks|to_rgb|from_rgb)\.(\d+)", layer)
    if found and int(found[1]) > source.trained:
        return f"the source was trained to {source.trained}x{source.trained}"
    if layer.startswith("mapping.") or not layer:
        for name in MAPPING:
            if source.settings.get(name) != module.hparams.get(name):
                return f"the source has another {name}"
    return ""


def _match(
    layer: str, mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], Outcome, str]:
    """Weights for a layer, the outcome and its reason."""
    if theirs.keys() != mine.keys():
        return {}, "new", "not in the source"
    found = {name: value.to(mine[name].dtype) for name, value in theirs.items()}
    if all(found[name].shape == value.shape for name, value in mine.items()):
        return found, "taken over", ""
    images = re.search(r"(to|from)_rgb\.\d+$", layer)
    if images and (converted := _other_channels(layer, mine, found)):
        grey = mine[f"{layer}.weight"].shape[0 if "to_rgb" in layer else 1] == 1
        return converted, "converted", "RGB in the source" if grey else "grey in the source"
    return {}, "new", "of another shape in the source"


def _other_channels(
    layer: str, mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Grey from RGB or RGB from grey, so that grey images look and score the same."""
    axis = 0 if "to_rgb" in layer else 1
    new, old, bias = mine[f"{layer}.weight"], theirs[f"{layer}.weight"], theirs[f"{layer}.bias"]
    here = new.shape[axis]
    there = {1: 3, 3: 1}[here]
    expected = [*new.shape]
    expected[axis] = there
    if [*old.shape] != expected or [*bias.shape] != expected[:1]:
        return {}
    if axis == 0:
        weight = old.mean(dim=0, keepdim=True)
        bias = bias.mean(dim=0, keepdim=True).expand(here)
    else:
        # the equalised scale follows from the number of channels
        weight = old.sum(dim=1, keepdim=True) / here * math.sqrt(here / there)
    return {f"{layer}.weight": weight.expand_as(new), f"{layer}.bias": bias}


def _other_widths(source: Mapping[str, Any], mine: Mapping[str, Any]) -> str:
    """Options that would give the source's shapes, as far as they differ."""
    return ", ".join(
        f"--model.init_args.{name} {source[name]} (now {mine[name]})"
        for name in WIDTHS
        if name in source and name in mine and source[name] != mine[name]
    )
