"""Optimisers from plain settings, as they stand in a configuration, and their steps."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from blastogan.errors import UserError
from blastogan.modules.step.ranks import mean_over_ranks

_log = logging.getLogger(__name__)

DEFAULT: dict[str, Any] = {
    "class_path": "torch.optim.Adam",
    "init_args": {"lr": 0.001, "betas": (0.0, 0.99), "eps": 1e-8, "fused": True},
}
"""Adam as in Karras et al. 2018, appendix A.1, all weights in one call."""


def build_optimizer(
    settings: Mapping[str, Any] | None, parameters: Iterable[nn.Parameter]
) -> Optimizer:
    """Build an optimiser of `torch.optim`.

    Args:
        settings: ``class_path`` (``torch.optim.Adam`` or ``Adam``) and ``init_args``; ``None``
            for `DEFAULT`.
        parameters: What it optimises.

    Raises:
        UserError: If the class is no optimiser of `torch.optim`, or refuses its arguments.
    """
    settings = DEFAULT if settings is None else settings
    path = str(settings.get("class_path", ""))
    name = path.rpartition(".")[2]
    found = getattr(torch.optim, name, None)
    inside = path in (name, f"torch.optim.{name}", getattr(found, "__module__", "") + f".{name}")
    if not (inspect.isclass(found) and issubclass(found, Optimizer) and inside):
        raise UserError(f"optimizer {path!r}: expected a class of torch.optim, such as Adam")
    arguments = _arguments(settings)
    try:
        optimizer: Optimizer = found(parameters, **arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f"optimizer {path!r} refuses {arguments}: {error}") from error
    return optimizer


def apply_settings(
    settings: Sequence[Mapping[str, Any] | None], states: Sequence[dict[str, Any]]
) -> None:
    """Write settings into saved optimiser states, which else would bring back their own.

    So a run can be resumed with another learning rate. What differs is logged.

    Args:
        settings: As for `build_optimizer`, one per optimiser.
        states: State dicts of the optimisers, changed in place.
    """
    for mine, state in zip(settings, states, strict=False):
        for name, value in _arguments(DEFAULT if mine is None else mine).items():
            for group in state["param_groups"]:
                saved = group.get(name, value)
                if (tuple(saved) if name == "betas" else saved) != value:
                    _log.info("optimizer: %s changes from %s to %s", name, saved, value)
                    group[name] = value


def apply_gradients(
    network: nn.Module, optimizer: Any, clip: float | None, *, averaged: bool
) -> Tensor:
    """Average the gradients of a network over the ranks, clip them, and step.

    Args:
        network: Whose weights have gradients, or some of them.
        optimizer: Of its weights.
        clip: Largest norm of all gradients together; larger ones are scaled down to it.
        averaged: Whether the gradients are averaged already.

    Returns:
        Scalar, the norm of the averaged gradients before they were clipped.
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


def _arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
    arguments = dict(settings.get("init_args") or {})
    if "betas" in arguments:
        # a list from YAML; integers are refused by Adam
        arguments["betas"] = tuple(float(beta) for beta in arguments["betas"])
    return arguments
