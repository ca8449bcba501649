"""Freezing of whole networks, or of layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from blastogan.errors import UserError
from blastogan.networks.progressive import ProgressiveDiscriminator


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Compute no gradients of a network's parameters, only of its input.

    Parameters that were frozen before stay frozen. It halves the work of a backward pass.
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
    """Stop training layers such as ``blocks.32`` and ``from_rgb.32``.

    They stay in the optimiser, so that its saved state fits with and without freezing.

    Raises:
        UserError: If a layer is unknown.
    """
    kinds = ("blocks", "from_rgb")
    known = {
        f"{kind}.{resolution}" for kind in kinds for resolution in getattr(discriminator, kind)
    }
    for layer in layers:
        if layer not in known:
            raise UserError(f"cannot freeze {layer!r}: the discriminator has no such layer")
        discriminator.get_submodule(layer).requires_grad_(False)


def freeze_again(discriminator: ProgressiveDiscriminator, transfer: Any) -> dict[str, Any] | None:
    """Freeze the layers of a saved `BaseGANModule.transfer`; returns it, ``None`` for none.

    Raises:
        UserError: If a layer is unknown.
    """
    if not isinstance(transfer, dict):
        return None
    freeze(discriminator, transfer.get("frozen") or ())
    return transfer
