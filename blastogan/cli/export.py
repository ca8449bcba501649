"""``blastogan export``: a generator for use without its run."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blastogan.errors import UserError
from blastogan.runs.folder import fresh_folder
from blastogan.utils.files import user_path, write_json

if TYPE_CHECKING:
    from blastogan.generators import Generator

MAX_AUDIT = 2**19
"""Largest size of an audit of copies in bytes."""

_log = logging.getLogger(__name__)


def export(args: Sequence[str]) -> int:
    """Write the averaged generator of a checkpoint, with its card, into a folder."""
    options = _parser().parse_args(args)
    _check(options)
    folder = fresh_folder(options.out)
    given = _stated(options)
    from blastogan.generators.files import SUFFIX, find_trained
    from blastogan.generators.generator import read_with_card
    from blastogan.generators.weights import write_trained

    path = find_trained(options.checkpoint)
    content = read_with_card(path)
    content = {**content, "card": {**content["card"], **given}}
    for note in content["card"]["notes"]:
        _log.warning("%s: %s", path, note)
    if options.format == SUFFIX[1:]:
        written = write_trained(content, folder, str(path), options.with_discriminator)
        _log.info("written: %s, and its card; blastogan generate %s OUT uses it", written, folder)
        return 0
    from blastogan.generators.generator import Generator

    _write_graph(Generator.from_content(content, str(path)), folder, options)
    return 0


def _write_graph(generator: Generator, folder: Path, options: argparse.Namespace) -> None:
    from blastogan.generators.graphs import MIN_OPSET, write_onnx, write_program

    card: dict[str, Any] = {"noise": options.noise}
    if options.format == "onnx":
        path = folder / "generator.onnx"
        card["opset"] = options.opset or MIN_OPSET
        difference = write_onnx(generator, path, **card)
    else:
        path = folder / "generator.pt2"
        difference = write_program(generator, path, **card)
    graph = {"file": path.name, "format": options.format, **card}
    write_json({**generator.full_card, "graph": graph}, path.with_suffix(".json"))
    _log.info("written: %s; its images differ by at most %.1g from PyTorch's", path, difference)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="blastogan export",
        description="Write the averaged generator of a checkpoint into a folder, with a card, a "
        "JSON file that says what it was trained on, how, and how good it is. Generators as "
        "safetensors are read by blastogan generate and by blastogan.load_generator.",
    )
    add = parser.add_argument
    text = "checkpoint of a run, an export, or the name of weights that ship in the package"
    add("checkpoint", metavar="CKPT", type=user_path, help=text)
    add("out", metavar="OUT", type=user_path, help="folder, new or empty")
    add(
        "--format",
        choices=("safetensors", "onnx", "torch-export"),
        default="safetensors",
        help="for blastogan (default), for ONNX runtimes, or for PyTorch without blastogan",
    )
    text = "onnx, torch-export: noise of a StyleGAN as an input of the graph, or off (default)"
    add("--noise", choices=("input", "off"), help=text)
    add("--opset", type=int, help="onnx: version of the operators (default: 18)")
    text = "safetensors: with the discriminator, for runs that start from these weights"
    add("--with-discriminator", action="store_true", help=text)
    add("--licence", help="licence of the weights, such as CC-BY-4.0 (default: none is stated)")
    add("--intended-use", help="what they are meant for (default: research, not clinical use)")
    text = "JSON file with the result of an audit of copies (default: unaudited)"
    add("--audit-of-copies", metavar="FILE", type=user_path, help=text)
    text = "sentence for the card, such as the command; may be given several times"
    add("--note", action="append", default=[], help=text)
    return parser


def _check(options: argparse.Namespace) -> None:
    """Refuse options of another format; fill in the noise."""
    needs = {
        "--noise": (options.noise, ("onnx", "torch-export")),
        "--opset": (options.opset, ("onnx",)),
        "--with-discriminator": (options.with_discriminator, ("safetensors",)),
    }
    wrong = [
        f"{name} is for {' and '.join(formats)}"
        for name, (value, formats) in needs.items()
        if value and options.format not in formats
    ]
    if wrong:
        raise UserError(f"--format is {options.format}: {'; '.join(wrong)}")
    options.noise = options.noise or "off"


def _stated(options: argparse.Namespace) -> dict[str, Any]:
    """Entries of the card that the user gave."""
    given = {"licence": options.licence, "intended_use": options.intended_use}
    if options.audit_of_copies:
        given["audit_of_copies"] = _audit(Path(options.audit_of_copies))
    found = {name: value for name, value in given.items() if value}
    return {**found, "stated": options.note} if options.note else found


def _audit(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > MAX_AUDIT:
            raise ValueError(f"it has more than {MAX_AUDIT} bytes")
        found = json.loads(path.read_bytes())
        if not isinstance(found, dict):
            raise ValueError("it holds no JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read the audit of copies {path}: {error}") from error
    return found
