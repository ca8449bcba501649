"""Beginning with the weights of another run: other data, grades or none, another resolution.

Layers are known by name. Blocks and the layers to and from images are named by their resolution
and as wide as the channel rule makes them, so that runs of any first and last resolution have the
common ones in common. What does not fit is made to, where the same function can be kept, or stays
as it was built.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from blastogan.errors import UserError
from blastogan.modules.step.freezing import freeze
from blastogan.modules.transfer_layers import Fit, Kind, count, fit_layer
from blastogan.modules.transfer_report import Entry, Transfer
from blastogan.modules.transfer_source import SIDES, Old, Origin, layer_of, resolution_of
from blastogan.networks.progressive import (
    BASE_RESOLUTION,
    ProgressiveDiscriminator,
    ProgressiveNetwork,
)

if TYPE_CHECKING:
    from blastogan.modules.base import BaseGANModule

_log = logging.getLogger(__name__)

WIDTHS = ("latent_dim", "channel_base", "channel_cap", "w_dim", "mapping_layers")
"""Settings that must agree for weights to be of the same shape."""


@dataclass(frozen=True)
class TransferOptions:
    """What a run begins with.

    Args:
        checkpoint: Of another run, whose weights this one begins with as far as they fit: other
            data, grades or none, another resolution. A run that is resumed has begun already.
        freeze_d: Resolutions, the highest of those taken over, at which the discriminator learns no
            more (Mo, Cho and Shin 2020); 0 for none.
    """

    checkpoint: str | None = None
    freeze_d: int = 0

    def __post_init__(self) -> None:
        if self.freeze_d < 0:
            raise UserError(f"transfer.freeze_d is {self.freeze_d}: expected 0 or more")
        if self.freeze_d and self.checkpoint is None:
            raise UserError(
                f"transfer.freeze_d is {self.freeze_d}, but only what was learnt before may be "
                "frozen: add --transfer.checkpoint, or leave it out"
            )


def begin_with(
    module: BaseGANModule, checkpoint: Mapping[str, Any], options: TransferOptions
) -> Transfer:
    """Take over the weights of a checkpoint, freeze what is to be frozen, and say what was done.

    The module's attribute `transfer` keeps it for its checkpoints.

    Raises:
        UserError: See `take_over` and `outermost`.
    """
    transfer = take_over(module, checkpoint)
    frozen = outermost(module.discriminator, transfer, options.freeze_d)
    freeze(module.discriminator, frozen)
    module.transfer = {
        "checkpoint": options.checkpoint,
        "images_shown": int(checkpoint["blastogan"]["images_shown"]),
        "freeze_d": options.freeze_d,
        "frozen": frozen,
    }
    _log.info("this run begins with the weights of %s", options.checkpoint)
    for line in str(transfer).splitlines():
        _log.info("%s", line)
    different = _other_widths(checkpoint.get("hyper_parameters", {}), dict(module.hparams))
    if different:
        _log.warning(
            "networks of other widths: layers of another shape begin anew. To take them over too, "
            "set %s",
            different,
        )
    if frozen:
        _log.info("frozen in the discriminator: %s", ", ".join(frozen))
    if module.ramp_kimg is not None and checkpoint.get("hyper_parameters", {}).get("conditional"):
        _log.warning(
            "ramp_kimg %s: grades that the other run knew count for nothing at first; to keep "
            "them, add --model.init_args.ramp_kimg null",
            list(module.ramp_kimg),
        )
    first = module.generator.start_resolution
    if frozen and first < transfer.trained:
        _log.warning(
            "frozen layers come in once the others have been trained at %dx%d and up, and may not "
            "fit them any more: with freeze_d, begin at the resolution of the other run, "
            "--schedule.start_resolution %d",
            *(first, first, min(transfer.trained, module.final_resolution)),
        )
    if first < transfer.trained <= module.final_resolution:
        _log.info(
            "this run grows from %dx%d again; to go on at %dx%d, set --schedule.start_resolution",
            *(first, first, transfer.trained, transfer.trained),
        )
    return transfer


def check_begun(options: TransferOptions, checkpoint: Mapping[str, Any]) -> None:
    """Refuse to resume a run that did not begin as the options say; it does not begin again.

    Raises:
        UserError: If it began otherwise.
    """
    if options.checkpoint is None:
        return
    begun = checkpoint.get("blastogan", {}).get("transfer")
    if begun is None or not _same_file(options.checkpoint, str(begun.get("checkpoint"))):
        began = f"with {begun.get('checkpoint')}" if begun else "without it"
        raise UserError(
            f"--transfer.checkpoint {options.checkpoint} is what a new run begins with, but the "
            f"run to be resumed began {began}: leave it out to go on, or leave out --ckpt_path "
            "and --resume to begin another run"
        )
    if begun.get("freeze_d") != options.freeze_d:
        raise UserError(
            f"transfer.freeze_d is {options.freeze_d}, but the run to be resumed began with "
            f"{begun.get('freeze_d')}, which stays: set that, or begin another run"
        )
    _log.info("this run began with %s, which is not taken over again", options.checkpoint)


def _same_file(first: str, second: str) -> bool:
    return first == second or Path(first).resolve() == Path(second).resolve()


def take_over(module: BaseGANModule, checkpoint: Mapping[str, Any]) -> Transfer:
    """Give a new module the weights of a checkpoint, as far as they fit.

    Both generators get those of the averaged one; see `SIDES`. Blocks that growth had not reached
    are left behind. The state of training is too: images shown, optimisers, what was seen of the
    data and what was learnt of its augmentation.

    Where one side has grades and the other has none, the function of z is kept. A layer that gets
    the label's columns besides is scaled up, since its scale goes by the number of columns (Karras
    et al. 2018, section 4.1); the new columns, and the label's part of the discriminator, begin at
    0, so that the networks begin as they ended and learn to tell grades apart. A layer that loses
    them is scaled down, and what they gave on average over the grades of that data goes into the
    bias: exactly for StyleGAN's mapping and the discriminator; ProGAN's bias can only take the mean
    over 4x4 pixels. Grey becomes RGB, and RGB grey, such that grey images look and score the same.

    Args:
        module: Newly built; its global random state, and PyTorch's, are left alone.
        checkpoint: As of `blastogan.modules.transfer_source.read_origin`.

    Returns:
        What became of every weight of both sides.

    Raises:
        UserError: If the checkpoint is not of a trained GAN, holds weights that are not finite, or
            none that fits.
    """
    origin = Origin.of(checkpoint)
    foreign = origin.architecture != type(module).__name__
    entries: list[Entry] = []
    values: dict[str, dict[str, Tensor]] = {}
    for side in SIDES:
        network: ProgressiveNetwork = getattr(module, side)
        old = origin.network(side, foreign=foreign)
        layers = _by_layer(network.state_dict())
        fits = {layer: fit_layer(network, layer, mine, old) for layer, mine in layers.items()}
        values[side] = {name: value for fit in fits.values() for name, value in fit.values.items()}
        entries += _entries(side, network, fits, old)
    transfer = Transfer(origin.architecture, origin.trained, origin.alpha, tuple(entries))
    if not transfer.has_convolutions:
        raise UserError(_of_no_fit(origin, dict(module.hparams)))
    _check_finite(values)
    for name in ("generator", "generator_ema", "discriminator"):
        getattr(module, name).load_state_dict(values[name.removesuffix("_ema")], strict=False)
    return transfer


def _by_layer(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Weights by that of their layer, which are taken over together or not at all."""
    layers: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        layers.setdefault(layer_of(name), {})[name] = value
    return layers


# -- freezing ---------------------------------------------------------------------------------


def outermost(discriminator: ProgressiveDiscriminator, transfer: Transfer, count: int) -> list[str]:
    """Layers nearest to the image, to be frozen: those of the highest resolutions taken over.

    Mo, Cho and Shin, "Freeze the Discriminator" (2020): what tells textures is kept, and cannot
    learn few images by heart.

    Args:
        discriminator: Whose layers they are.
        transfer: What was taken over; other layers are not frozen.
        count: Number of resolutions, each a block and its layer from images.

    Raises:
        UserError: If there are not as many.
    """
    resolutions = [r for r in discriminator.block_resolutions[::-1] if transfer.has_block(r)]
    if not 0 <= count <= len(resolutions):
        listed = ", ".join(f"{r}x{r}" for r in resolutions) or "none"
        raise UserError(
            f"freeze_d is {count}: expected 0 to {len(resolutions)}, the number of the "
            f"discriminator's blocks that were taken over whole ({listed}); its last layers, at "
            f"{BASE_RESOLUTION}x{BASE_RESOLUTION}, always learn"
        )
    frozen = resolutions[:count]
    return [f"blocks.{r}" for r in frozen] + [
        f"from_rgb.{r}" for r in frozen if transfer.has_from_rgb(r)
    ]


# -- what became of it ------------------------------------------------------------------------


def _check_finite(values: Mapping[str, Mapping[str, Tensor]]) -> None:
    bad = [
        f"{side}.{name}"
        for side, tensors in values.items()
        for name, value in tensors.items()
        if not bool(value.isfinite().all())
    ]
    if bad:
        raise UserError(
            f"the checkpoint holds weights that are not finite ({len(bad)} tensors, the first is "
            f"{bad[0]}): it was saved after training went wrong. Give an earlier one"
        )


def _other_widths(saved: Mapping[str, Any], mine: Mapping[str, Any]) -> str:
    """Options by which the shapes of a checkpoint are had, as far as they are not."""
    different = [
        f"--model.init_args.{name} {saved[name]} (now {mine[name]})"
        for name in WIDTHS
        if name in saved and name in mine and saved[name] != mine[name]
    ]
    return ", ".join(different)


def _of_no_fit(origin: Origin, mine: Mapping[str, Any]) -> str:
    different = _other_widths(origin.settings, mine)
    remedy = f"set {different}" if different else f"train a {origin.architecture}"
    return (
        "no convolution of the checkpoint fits this module, so that nothing would be taken over: "
        f"{remedy}, or give another checkpoint"
    )


def _entries(
    side: str, network: ProgressiveNetwork, fits: Mapping[str, Fit], old: Old
) -> list[Entry]:
    """An entry for each weight of the module, and for those of the checkpoint it has no use for."""
    entries = [
        Entry(side, layer, kind, number, why)
        for layer, fit in fits.items()
        for kind, number, why in fit.shares
    ]
    used = {fit.source for fit in fits.values()}
    for layer, theirs in _by_layer(old.state).items():
        if layer not in used:
            why = _why_left(network, layer, old)
            entries.append(Entry(side, layer, Kind.LEFT, count(theirs), why))
    return entries


def _why_left(network: ProgressiveNetwork, layer: str, old: Old) -> str:
    resolution = resolution_of(layer)
    if old.reason:
        return old.reason
    if resolution is not None and resolution > old.trained:
        return "was never trained"
    if resolution is not None and resolution > network.resolution:
        return f"this run ends at {network.resolution}x{network.resolution}"
    if resolution is not None and resolution < network.start_resolution and "rgb" in layer:
        return f"this run begins at {network.start_resolution}x{network.start_resolution}"
    if "embedding" in layer.split(".") and not network.label_sizes:
        return "this run has no grades"
    return "of another shape or kind"
