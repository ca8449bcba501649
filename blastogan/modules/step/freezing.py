"""Networks that a step passes through without training them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from blastogan.errors import UserError
from blastogan.networks.progressive import ProgressiveDiscriminator


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Take no gradients of a network's parameters; those that were frozen before stay so.

    Gradients of its input are taken, for half of the work of a backward pass.
    """
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def freeze(discriminator: ProgressiveDiscriminator, layers: Iterable[str]) -> None:
    """Train some layers of a discriminator no more; their gradients are not computed.

    The optimiser goes on to know them, so that its state fits with and without.

    Args:
        discriminator: To be frozen in part.
        layers: As of `outermost`.

    Raises:
        UserError: If it has no such layer.
    """
    known = set(_freezable(discriminator))
    for layer in layers:
        if layer not in known:
            raise UserError(f"cannot freeze {layer!r}: the discriminator has no such layer")
        discriminator.get_submodule(layer).requires_grad_(False)


def freeze_again(discriminator: ProgressiveDiscriminator, transfer: Any) -> dict[str, Any] | None:
    """Freeze what was frozen when a run was saved.

    Args:
        discriminator: To be frozen in part.
        transfer: The module's `transfer` as it stood in a checkpoint, ``None`` if in none.

    Returns:
        The same.

    Raises:
        UserError: See `freeze`.
    """
    if not isinstance(transfer, dict):
        return None
    freeze(discriminator, transfer.get("frozen") or ())
    return transfer


def _freezable(discriminator: ProgressiveDiscriminator) -> list[str]:
    return [f"blocks.{r}" for r in discriminator.blocks] + [
        f"from_rgb.{r}" for r in discriminator.from_rgb
    ]
