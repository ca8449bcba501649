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
    try:
        optimizer: Optimizer = found(parameters, **arguments_of(settings))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"optimizer {path!r} refuses {settings.get('init_args')}: {error}"
        ) from error
    return optimizer


def check_optimizer(settings: Mapping[str, Any] | None) -> None:
    """Take a step with an optimiser on weights of the shapes that networks have.

    Raises:
        UserError: If it cannot be built, or cannot step as training does: with the gradients alone,
            which are dense, and of weights with any number of dimensions.
    """
    given = DEFAULT if settings is None else settings
    arguments = given.get("init_args") or {}
    # these are of the device that trains
    on_device = {"fused", "foreach", "capturable"}
    arguments = {name: value for name, value in arguments.items() if name not in on_device}
    with torch.device("cpu"):
        weights = [nn.Parameter(torch.ones(2, *[1] * n)) for n in range(4)]
        for weight in weights:
            weight.grad = torch.ones_like(weight)
        optimizer = build_optimizer({**given, "init_args": arguments}, weights)
        try:
            optimizer.step()
        # each optimiser has reasons of its own
        except Exception as error:
            raise UserError(
                f"optimizer {given.get('class_path')!r} cannot train these networks: {error}. "
                "Choose another, such as torch.optim.Adam"
            ) from error


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
