"""Networks through `torch.compile`, one stage of growth at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from blastogan.errors import UserError

_log = logging.getLogger(__name__)

CompileMode = Literal["off", "default", "reduce-overhead", "max-autotune"]
"""Modes of `torch.compile`, and none; ``reduce-overhead`` takes CUDA graphs."""


class NetworkCompiler:
    """Calls networks compiled, until that fails; then it says why and calls them as they are.

    A stage is what the compiled code holds for: a resolution, fading in or held, and a batch size.
    Code of the stage before is dropped, that of other users of `torch.compile` in the process with
    it, which is then compiled again. During a fade alpha is an input, not a constant: the code of
    its second step serves the rest of it.

    Args:
        mode: Of `torch.compile`, or ``off``.

    Raises:
        UserError: If there is no such mode.
    """

    def __init__(self, mode: CompileMode) -> None:
        if mode not in get_args(CompileMode):
            raise UserError(
                f"compile_mode is {mode!r}: expected one of {', '.join(get_args(CompileMode))}"
            )
        self._mode: CompileMode = mode
        self._stage: Hashable = None
        self._compiled: dict[nn.Module, Callable[..., Tensor]] = {}

    @property
    def active(self) -> bool:
        """Whether networks run compiled."""
        return self._mode != "off"

    def begin_step(self, stage: Hashable) -> None:
        """Tell that a step begins, and in which stage."""
        if not self.active:
            return
        if stage != self._stage:
            if self._stage is not None:
                torch.compiler.reset()
            self._stage = stage
        if torch.cuda.is_available():
            # what the CUDA graphs of the step before returned may be overwritten
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]

    def __call__(self, network: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        """Call a network."""
        if not self.active:
            plain: Tensor = network(*args, **kwargs)
            return plain
        from torch._dynamo.exc import TorchDynamoException

        if network not in self._compiled:
            # not `network.compile()`: a call outside of training is not to be compiled
            self._compiled[network] = torch.compile(network, mode=self._mode)
        try:
            return self._compiled[network](*args, **kwargs)
        except TorchDynamoException as error:
            _log.warning(
                "torch.compile failed, training goes on without it: %s",
                str(error).strip().splitlines()[0],
            )
            self._mode = "off"
            self._compiled.clear()
            return self(network, *args, **kwargs)
