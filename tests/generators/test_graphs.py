"""ONNX and programs of `torch.export`: the same images as the generator's."""

from __future__ import annotations

import json
import logging
import sys

import onnx
import onnxruntime
import pytest
import torch

from blastogan import load_generator
from blastogan.errors import UserError
from blastogan.generators import graphs
from blastogan.generators.graphs import example_inputs, write_onnx, write_program

SMALL = {"final": 8, "start_resolution": 4}


@pytest.mark.parametrize(
    ("name", "noise", "settings"),
    [
        ("stylegan", "input", {"alpha": 0.5}),
        ("progan", "off", {"conditional": False}),
    ],
)
@pytest.mark.slow
def test_onnx_gives_the_same_images(name, noise, settings, save_checkpoint, tmp_path):
    generator = load_generator(save_checkpoint(name, **settings, **SMALL))
    path = tmp_path / "g.onnx"
    assert write_onnx(generator, path, noise=noise) <= 1e-4
    model = onnx.load(path)
    assert [each.version for each in model.opset_import if not each.domain] == [18]
    (card,) = (json.loads(p.value) for p in model.metadata_props if p.key == "blastogan")
    assert card["audit_of_copies"] == "unaudited"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    z, labels, drawn = example_inputs(generator, noise, 5)
    feed = {"z": z, "labels": labels} | {f"noise_{n}": e for n, e in enumerate(drawn or ())}
    feed = {key: value.numpy() for key, value in feed.items() if value is not None}
    assert {each.name for each in session.get_inputs()} == set(feed)
    (images,) = session.run(["images"], feed)
    assert abs(images - generator(z, labels, drawn).numpy()).max() <= 1e-4


@pytest.mark.slow
def test_a_program_gives_the_same_images(save_checkpoint, tmp_path):
    generator, noise = load_generator(save_checkpoint(alpha=0.5, **SMALL)), "input"
    path = tmp_path / "g.pt2"
    assert write_program(generator, path, noise=noise) <= 1e-4
    card = {"card.json": ""}
    program = torch.export.load(path, extra_files=card).module()
    inputs = example_inputs(generator, noise, 5)
    assert (program(*inputs) - generator(*inputs)).abs().max() <= 1e-4
    assert json.loads(card["card.json"])["architecture"] == generator.architecture


@pytest.mark.parametrize("opset", [0, 17, 999])
def test_an_unknown_opset_is_refused(opset, save_checkpoint, tmp_path):
    generator = load_generator(save_checkpoint("progan"))
    with pytest.raises(UserError, match="opset"):
        write_onnx(generator, tmp_path / "g.onnx", opset=opset)


def test_missing_packages_are_named(save_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match=r"blastogan\[onnx\]"):
        write_onnx(load_generator(save_checkpoint("progan")), tmp_path / "g.onnx")


@pytest.mark.parametrize(("error", "written"), [(0.0, True), (1e-3, True), (0.1, False)])
def test_a_graph_is_compared_before_it_is_written(
    error, written, save_checkpoint, tmp_path, caplog, monkeypatch
):
    generator = load_generator(save_checkpoint("progan"))

    def write():
        return graphs._write_checked(
            generator,
            tmp_path / "g.pt2",
            "off",
            lambda part: part.touch(),
            lambda part: lambda inputs: generator(*inputs) + error,
        )

    if written:
        with caplog.at_level(logging.WARNING):
            assert write() == pytest.approx(error, abs=1e-6)
        assert bool(caplog.records) is (error > 1e-4)
    else:
        with pytest.raises(UserError, match="differ"):
            write()
    assert (tmp_path / "g.pt2").exists() is written
    assert len(list(tmp_path.glob("g*"))) == written
