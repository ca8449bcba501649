"""Optimisers from plain settings, as in a configuration, and their steps."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from blastogan.errors import UserError
from blastogan.modules.step.ranks import mean_over_ranks

DEFAULT: dict[str, Any] = {
    "class_path": "torch.optim.Adam",
    "init_args": {"lr": 0.001, "betas": (0.0, 0.99), "eps": 1e-8, "fused": True},
}
"""Adam as in Karras et al. 2018, appendix A.1, fused over all weights."""


def build_optimizer(
    settings: Mapping[str, Any] | None, parameters: Iterable[nn.Parameter]
) -> Optimizer:
    """Build an optimiser of `torch.optim`.

    Args:
        settings: ``class_path`` (``torch.optim.Adam`` or ``Adam``) and ``init_args``; ``None``
            for `DEFAULT`.
        parameters: Parameters to optimise.

    Raises:
        UserError: If the class is not an optimiser of `torch.optim`, or refuses its arguments.
    """
    settings = DEFAULT if settings is None else settings
    path = str(settings.get("class_path", ""))
    name = path.rpartition(".")[2]
    found = getattr(torch.optim, name, None)
    inside = path in (name, f"torch.optim.{name}", getattr(found, "__module__", "") + f".{name}")
    if not (inspect.isclass(found) and issubclass(found, Optimizer) and inside):
        raise UserError(f"optimizer {path!r}: expected a class of torch.optim, such as Adam")
    arguments = arguments_of(settings)
    try:
        optimizer: Optimizer = found(parameters, **arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f"optimizer {path!r} refuses {arguments}: {error}") from error
    return optimizer


def apply_gradients(
    network: nn.Module, optimizer: Any, clip: float | None, *, averaged: bool
) -> Tensor:
    """Average the gradients of a network over the ranks, clip them, and step.

    Args:
        network: Network of which some or all weights have gradients.
        optimizer: Its optimiser.
        clip: Largest norm of all gradients together; larger ones are scaled down to it.
        averaged: Whether the gradients have been averaged already.

    Returns:
        Norm of the averaged gradients before clipping.
    """
    trained = [weight for weight in network.parameters() if weight.grad is not None]
    gradients = [weight.grad for weight in trained if weight.grad is not None]
    if not averaged:
        mean_over_ranks(gradients)
    norm = get_total_norm(gradients)
    if clip is not None:
        clip_grads_with_norm_(trained, clip, norm)
    optimizer.step()
    return norm


def arguments_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments of the optimiser that settings describe."""
    arguments = dict(settings.get("init_args") or {})
    if "betas" in arguments:
        # YAML gives a list, and Adam refuses integers
        arguments["betas"] = tuple(float(beta) for beta in arguments["betas"])
    return arguments
