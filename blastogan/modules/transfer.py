"""Starting a run from the weights of another: other images, grades or none, another resolution.

Layers are matched by name. Blocks and the layers to and from images are named by their resolution,
so that runs of any first and last resolution share the ones they have in common. A layer is taken
over if all its weights have equal names and shapes, converted where one network is grey and the
other RGB, and otherwise stays as it was initialised.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from torch import Tensor

from blastogan.errors import UserError
from blastogan.modules.step.freezing import freeze
from blastogan.networks.progressive import BASE_RESOLUTION
from blastogan.runs.checkpoint_files import read_checkpoint

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
        checkpoint: Source checkpoint, whose weights are taken over as far as they fit. A resumed
            run does not load it again.
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


class LayerTransfer(NamedTuple):
    """Outcome for one layer: the network, the layer, its number of weights, and the reason."""

    network: str
    layer: str
    outcome: Outcome
    size: int
    reason: str = ""


@dataclass(frozen=True)
class TransferReport:
    """Outcome for every layer of a generator and a discriminator.

    Attributes:
        architecture: Class name of the source's module.
        trained: Highest resolution in pixels that the source had trained.
        layers: The layers.
    """

    architecture: str
    trained: int
    layers: tuple[LayerTransfer, ...]

    def taken(self, network: str) -> set[str]:
        """Layers of a network that have weights of the source."""
        return {e.layer for e in self.layers if e.network == network and e.outcome != "new"}

    def __str__(self) -> str:
        """Table of weights by network and outcome, with the layers that are not taken over."""
        lines = [f"the source is a {self.architecture}, trained to {self.trained}x{self.trained}"]
        for network in SOURCES:
            own = [each for each in self.layers if each.network == network]
            total = sum(each.size for each in own)
            for outcome in ("taken over", "converted", "new"):
                found = [each for each in own if each.outcome == outcome]
                size = sum(each.size for each in found)
                lines.append(f"{network:<13}  {outcome:<10}  {size:>12,} of {total:,} weights")
                reasons: dict[str, list[str]] = {}
                for each in found:
                    if each.reason:
                        reasons.setdefault(each.reason, []).append(each.layer)
                lines += [f"  {', '.join(names)}: {why}" for why, names in reasons.items()]
        return "\n".join(lines)


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

    @classmethod
    def parse(cls, checkpoint: Mapping[str, Any]) -> SourceCheckpoint:
        """Check the content of a file.

        Raises:
            UserError: If it is not a checkpoint of a trained GAN.
        """
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
        missing = [
            each
            for each in SOURCES.values()
            if not any(key.startswith(f"{each}.") for key in weights)
        ]
        if missing:
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

    def layers(self, network: str) -> dict[str, dict[str, Tensor]]:
        """Weights of a network by layer and full name within the network."""
        prefix = f"{SOURCES[network]}."
        own = {k[len(prefix) :]: v for k, v in self.state.items() if k.startswith(prefix)}
        return _by_layer(own)


def read_source(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint to start from.

    Raises:
        UserError: If it cannot be read or is not a checkpoint of a trained GAN.
    """
    checkpoint = read_checkpoint(path)
    try:
        SourceCheckpoint.parse(checkpoint)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return checkpoint


def initialize_from(
    module: BaseGANModule, checkpoint: Mapping[str, Any], options: TransferOptions
) -> TransferReport:
    """Load the weights of a source checkpoint, freeze layers, and log a report.

    The module's attribute `transfer` records it for the checkpoints of the run.

    Raises:
        UserError: See `load_weights` and `layers_to_freeze`.
    """
    report = load_weights(module, checkpoint)
    frozen = layers_to_freeze(module.discriminator.block_resolutions, report, options.freeze_d)
    freeze(module.discriminator, frozen)
    source = SourceCheckpoint.parse(checkpoint)
    module.transfer = {
        "checkpoint": options.checkpoint,
        "images_shown": source.images_shown,
        "freeze_d": options.freeze_d,
        "frozen": frozen,
    }
    _log.info("this run starts from the weights of %s", options.checkpoint)
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
    if used is None or not _same_file(options.checkpoint, str(used.get("checkpoint"))):
        start = f"from {used.get('checkpoint')}" if used else "without a source checkpoint"
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

    The state of training is not taken over: images shown, optimisers, the counts of grades and the
    probability of augmentation. Random states are left alone.

    Raises:
        UserError: If nothing fits, or a weight is not finite.
    """
    source = SourceCheckpoint.parse(checkpoint)
    entries: list[LayerTransfer] = []
    values: dict[str, dict[str, Tensor]] = {}
    for network in SOURCES:
        theirs, taken = source.layers(network), values.setdefault(network, {})
        for layer, mine in _by_layer(getattr(module, network).state_dict()).items():
            reason = _unfit(module, source, network, layer)
            found, outcome, why = _match(layer, mine, theirs.get(layer, {}))
            if reason:
                found, outcome, why = {}, "new", reason
            taken.update(found)
            size = sum(value.numel() for value in mine.values())
            entries.append(LayerTransfer(network, layer or "w_avg", outcome, size, why))
    report = TransferReport(source.architecture, source.trained, tuple(entries))
    if not any(layer.startswith("blocks.") for layer in report.taken("discriminator")):
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
        report: Layers that were not taken over are not frozen.
        count: Number of resolutions; each has a block and a layer from images.

    Raises:
        UserError: If fewer blocks were taken over completely.
    """
    taken = report.taken("discriminator")
    new = {e.layer for e in report.layers if e.network == "discriminator"} - taken
    whole = [
        r
        for r in reversed([*resolutions])
        if not any(layer.startswith(f"blocks.{r}.") for layer in new)
    ]
    if not 0 <= count <= len(whole):
        raise UserError(
            f"freeze_d is {count}: expected 0 to {len(whole)}, the number of the discriminator's "
            f"blocks that were taken over ({', '.join(f'{r}x{r}' for r in whole) or 'none'})"
        )
    layers = [f"blocks.{r}" for r in whole[:count]]
    return layers + [f"from_rgb.{r}" for r in whole[:count] if f"from_rgb.{r}" in taken]


def _by_layer(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    layers: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
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
    converted = _other_channels(layer, mine, found)
    if converted is None:
        return {}, "new", "of another shape in the source"
    grey = mine[f"{layer}.weight"].shape[0 if "to_rgb" in layer else 1] == 1
    return converted, "converted", "RGB in the source" if grey else "grey in the source"


def _other_channels(
    layer: str, mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor]
) -> dict[str, Tensor] | None:
    """Grey from RGB or RGB from grey, so that grey images look and score the same."""
    names = f"{layer}.weight", f"{layer}.bias"
    if not re.search(r"(?:to_rgb|from_rgb)\.\d+$", layer) or theirs.keys() != set(names):
        return None
    axis = 0 if "to_rgb" in layer else 1
    new, old, bias = mine[names[0]], theirs[names[0]], theirs[names[1]]
    if new.dim() != old.dim() or {new.shape[axis], old.shape[axis]} != {1, 3}:
        return None
    here, there = new.shape[axis], old.shape[axis]
    biases = there if axis == 0 else len(new)
    if old.narrow(axis, 0, 1).shape != new.narrow(axis, 0, 1).shape or bias.shape != (biases,):
        return None
    if axis == 0:
        weight = old.mean(dim=0, keepdim=True)
        bias = bias.mean(dim=0, keepdim=True).expand(here)
    else:
        # the equalised scale follows from the number of channels
        weight = old.sum(dim=1, keepdim=True) / here * math.sqrt(here / there)
    return {names[0]: weight.expand_as(new), names[1]: bias}


def _other_widths(source: Mapping[str, Any], mine: Mapping[str, Any]) -> str:
    """Options that would give the source's shapes, as far as they differ."""
    return ", ".join(
        f"--model.init_args.{name} {source[name]} (now {mine[name]})"
        for name in WIDTHS
        if name in source and name in mine and source[name] != mine[name]
    )


def _same_file(first: str, second: str) -> bool:
    return first == second or Path(first).resolve() == Path(second).resolve()
