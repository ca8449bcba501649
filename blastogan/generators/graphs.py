"""Generators as graphs that other programs run: ONNX, and programs of `torch.export`.

Inputs are ``z``, ``labels`` of a conditional generator, and with noise as an input ``noise_0`` and
so on, one for each of `Generator.noise_shapes`; the output is ``images``, see `Generator.forward`.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from blastogan.errors import UserError
from blastogan.generators.generator import Generator
from blastogan.generators.latents import grade_labels, numbered_latents
from blastogan.utils.files import atomic_write

Noise = Literal["input", "off"]

MIN_OPSET = 18
"""Oldest version of ONNX's operators that PyTorch writes."""

TOLERANCE = 1e-4
"""Difference of an image in [-1, 1] above which a graph is not called equal."""

MAX_DIFFERENCE = 1 / 255
"""Difference above which a graph is refused: half a grey level."""

Inputs = tuple[Tensor, Tensor | None, list[Tensor] | None]

_log = logging.getLogger(__name__)


def write_onnx(
    generator: Generator, path: Path, *, noise: Noise = "off", opset: int = MIN_OPSET
) -> float:
    """Write a generator as ONNX, with its card in the metadata; any batch size can be run.

    Args:
        generator: The generator, on the CPU.
        path: The file.
        noise: Whether noise is an input, or switched off.
        opset: Version of ONNX's operators.

    Returns:
        Largest difference of images by ONNX Runtime and by PyTorch.

    Raises:
        UserError: If packages are missing, the opset is unknown, or images differ visibly.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401
        from onnxruntime import InferenceSession
    except ImportError as error:
        raise UserError(
            f"ONNX needs packages that are missing ({error}): pip install 'blastogan[onnx]'"
        ) from error
    newest = onnx.defs.onnx_opset_version()
    if not MIN_OPSET <= opset <= newest:
        raise UserError(f"opset is {opset}: expected {MIN_OPSET} to {newest}")
    inputs = example_inputs(generator, noise)
    names = _names(inputs)
    with _quiet():
        graph = torch.onnx.export(
            generator,
            inputs,
            dynamic_shapes=_any_batch(inputs),
            input_names=names,
            output_names=["images"],
            opset_version=opset,
            verbose=False,
            dynamo=True,
        )
    assert graph is not None
    if graph.model.opset_imports.get("") != opset:
        raise UserError(
            f"opset is {opset}: this version of PyTorch cannot write it, try {MIN_OPSET}"
        )
    graph.model.metadata_props["blastogan"] = json.dumps(generator.full_card)

    def run(part: Path) -> Callable[[Inputs], Tensor]:
        session = InferenceSession(part, providers=["CPUExecutionProvider"])

        def images(inputs: Inputs) -> Tensor:
            values = (each.numpy() for each in _flat(inputs))
            return torch.from_numpy(session.run(None, dict(zip(names, values, strict=True)))[0])

        return images

    return _write_checked(generator, path, noise, graph.save, run)


def write_program(generator: Generator, path: Path, *, noise: Noise = "off") -> float:
    """Write a generator as a program of `torch.export`, with its card as ``card.json`` in it.

    The program takes ``(z, labels, noise)``, with ``None`` for what is not an input.

    Returns:
        Largest difference of images by the program and by the generator.

    Raises:
        UserError: If images differ visibly.
    """
    inputs = example_inputs(generator, noise)
    with _quiet():
        program = torch.export.export(generator, inputs, dynamic_shapes=_any_batch(inputs))

    def save(part: Path) -> None:
        with part.open("wb") as file:
            card = {"card.json": json.dumps(generator.full_card)}
            torch.export.save(program, file, extra_files=card)

    def run(part: Path) -> Callable[[Inputs], Tensor]:
        with part.open("rb") as file:
            loaded = torch.export.load(file).module()
        return lambda inputs: loaded(*inputs)

    return _write_checked(generator, path, noise, save, run)


def _write_checked(
    generator: Generator,
    path: Path,
    noise: Noise,
    save: Callable[[Path], Any],
    run: Callable[[Path], Callable[[Inputs], Tensor]],
) -> float:
    """Write a graph once it gives the generator's images, for two sizes of a batch."""
    with atomic_write(path) as part:
        with _quiet():
            save(part)
            images = run(part)
        batches = [example_inputs(generator, noise, count) for count in (1, 3)]
        difference = max(float((images(b) - generator(*b)).abs().max()) for b in batches)
        if not difference <= MAX_DIFFERENCE:
            raise UserError(
                f"images of {path.name} differ by {difference:.2g} from the generator's, where "
                "black is -1 and white is 1: nothing is written. Export as safetensors"
            )
    if difference > TOLERANCE:
        _log.warning("images of %s differ by up to %.2g from the generator's", path, difference)
    return difference


def example_inputs(generator: Generator, noise: Noise, count: int = 2) -> Inputs:
    """Arguments of `Generator.forward` for some images."""
    z, draws = numbered_latents(range(count), 0, generator.latent_dim)
    labels = grade_labels(count, None, 0, generator.class_weights())
    shapes = generator.noise_shapes if noise == "input" else []
    drawn = [torch.stack([torch.randn(1, *s, generator=g) for g in draws]) for s in shapes]
    return z, labels if generator.conditional else None, drawn or None


def _flat(inputs: Inputs) -> Iterator[Tensor]:
    z, labels, noise = inputs
    yield from (each for each in (z, labels, *(noise or ())) if each is not None)


def _names(inputs: Inputs) -> list[str]:
    _, labels, noise = inputs
    numbered = [f"noise_{n}" for n in range(len(noise or ()))]
    return ["z", *(["labels"] if labels is not None else []), *numbered]


def _any_batch(inputs: Inputs) -> dict[str, Any]:
    _, labels, noise = inputs
    batch = {0: torch.export.Dim("batch", min=1, max=2**16)}
    return {
        "z": batch,
        "labels": None if labels is None else batch,
        "noise": None if noise is None else [batch for _ in noise],
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what exporters print about themselves."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript")]
    before = [each.level for each in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for each in loggers:
                each.setLevel(logging.ERROR)
            yield
        finally:
            for each, level in zip(loggers, before, strict=True):
                each.setLevel(level)
