"""Which squares ``blastogan evaluate`` shows of real images, and what it says of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from helpers.command import blastogan
from helpers.stand_in import Pixels
from PIL import Image

from blastogan import PhantomDataset
from blastogan.data.images.decoding import load_image
from blastogan.data.images.framing import Crop
from blastogan.errors import UserError
from blastogan.evaluation import open_sets
from blastogan.metrics import fidelity


@pytest.fixture
def wells(tmp_path, monkeypatch):
    """A folder ``wells`` of three phantoms off the centre, and an even image without an embryo."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLASTOGAN_CACHE", str(tmp_path / "cache"))
    Path("wells").mkdir()
    phantoms = PhantomDataset(counts="AA:3", resolution=96, framing="well")
    for n, pixels in enumerate(phantoms.pictures()):
        Image.fromarray(pixels).save(f"wells/{n}.png")
    Image.new("L", (96, 96), 90).save("wells/3.png")
    return Path("wells")


@pytest.fixture
def eye(monkeypatch):
    pixels = Pixels()
    monkeypatch.setattr(fidelity, "load_extractor", lambda *args, **settings: pixels)
    return pixels


@pytest.fixture
def checkpoint(wells, make_module, make_data):
    """Write a checkpoint of an untrained module, where asked with data of a crop."""

    def write(crop=None):
        trainer = pl.Trainer(logger=False, accelerator="cpu", enable_progress_bar=False)
        trainer.strategy.connect(make_module())
        trainer.save_checkpoint("gan.ckpt")
        if crop is not None:
            data = make_data(root=str(wells), crop=crop.kind, crop_margin=crop.margin)
            add_to("gan.ckpt", **{type(data).__qualname__: data.state_dict()})
        return "gan.ckpt"

    return write


def add_to(path, **states):
    torch.save({**torch.load(path, weights_only=True), **states}, path)


def notes_of(*args):
    """The numbers that the command writes, and its sentences about the crop."""
    out = Path(f"numbers-{len(list(Path().glob('numbers-*')))}.json")
    assert blastogan("evaluate", *args, "--workers", "0", "--json", out) == 0
    found = json.loads(out.read_text())
    return found, [note for note in found["notes"] if re.search("crop|embryo", note)]


def of_pixels(*args):
    """Sentences about the crop where four fakes are compared by their pixels."""
    return notes_of(*args, "--count", "4", "--extractor", "none", "--metrics", "swd")[1]


EMBRYO, WIDE = Crop("embryo"), Crop("embryo", 0.4)
MISSED = "no embryo was found in 1 of 4 images of REAL: they show the centre"
OPEN = {"count": 4, "seed": 0, "device": "cpu"}


def seen_of(side):
    return torch.cat([batch["image"] for batch in side.batches(3)])


def cropped(crop, side):
    return torch.stack(
        [torch.tensor(load_image(Path(f"wells/{n}.png"), side, 1, crop)) for n in range(4)]
    )


@pytest.mark.parametrize("trained", [None, Crop(), EMBRYO, WIDE])
@pytest.mark.parametrize("asked", [None, Crop(), WIDE])
def test_reals_are_cropped_as_asked_else_as_a_checkpoint_was_trained(checkpoint, trained, asked):
    # written before the crop was a setting: at the centre
    path = checkpoint(crop=trained)
    reals, fakes = open_sets("wells", path, resolution=None, crop=asked, **OPEN)
    assert torch.equal(seen_of(reals), cropped(asked or trained or Crop(), 16))
    assert fakes.crop == (trained or Crop()).key()


@pytest.mark.parametrize("crop", [None, WIDE])
def test_of_two_folders_only_the_reals_are_cropped(wells, crop):
    reals, fakes = open_sets("wells", "wells", resolution=32, crop=crop, **OPEN)
    assert torch.equal(seen_of(reals), cropped(crop or Crop(), 32))
    assert torch.equal(seen_of(fakes), cropped(Crop(), 32))


TRAINED = "--crop embryo --crop-margin 0.4"
OTHER = (
    f"REAL: --crop {{}}, the model was trained with {TRAINED}: a part of the distances is the crop"
)


def test_the_crop_of_a_checkpoint_is_told_where_it_is_taken_and_where_it_is_not(checkpoint):
    path = checkpoint(crop=WIDE)
    assert of_pixels("wells", path) == [f"REAL: {TRAINED}, as the model was trained", MISSED]
    assert of_pixels("wells", path, *TRAINED.split()) == [MISSED]
    (note,) = of_pixels("wells", path, "--crop", "centre")
    assert note.startswith(OTHER.format("centre"))
    assert "omit --crop" in note
    told, *rest = of_pixels("wells", path, "--crop", "embryo")
    assert told.startswith(OTHER.format("embryo --crop-margin 0.1"))
    assert rest == [MISSED]


def test_of_a_file_no_crop_is_known(checkpoint, eye):
    path = checkpoint(crop=WIDE)
    size = ("--count", "4", "--metrics", "fid")
    notes_of("wells", path, *size, "--save-real", "r.npz")
    (note,) = notes_of("r.npz", path, *size)[1]
    assert f"trained with {TRAINED};" in note
    assert notes_of("r.npz", checkpoint(), *size)[1] == []
    assert notes_of("r.npz", "wells", "--resolution", "16", "--metrics", "fid")[1] == []


@pytest.mark.parametrize("trained", [None, Crop()])
def test_a_model_of_centre_squares_is_warned_of_another_crop_alone(checkpoint, trained):
    path = checkpoint(crop=trained)
    assert of_pixels("wells", path) == []
    told, missed = of_pixels("wells", path, "--crop", "embryo")
    assert "the model was trained with --crop centre: a part of the distances" in told
    assert missed == MISSED


def test_the_crop_is_found_in_the_state_of_any_data_module(checkpoint):
    path = checkpoint()
    add_to(path, MyData={"crop": EMBRYO.key(), "fingerprint": "0"})
    assert open_sets("wells", path, resolution=None, **OPEN)[0].crop == EMBRYO
    add_to(path, MyData={"crop": "embryo-0-0.1", "fingerprint": "0"})
    assert "the search for embryos has changed since" in of_pixels("wells", path)[0]
    add_to(path, MyData={"crop": "face-1-0.1", "fingerprint": "0"})
    with pytest.raises(UserError, match="face-1-0"):
        open_sets("wells", path, resolution=None, **OPEN)
    assert open_sets("wells", path, resolution=None, crop=Crop(), **OPEN)[0].crop == Crop()


def test_images_without_an_embryo_are_counted_also_if_the_cache_knows_them(wells, eye):
    args = ("wells", "wells", "--resolution", "32", "--metrics", "fid")
    centre, told = notes_of(*args)
    assert told == []
    first, told = notes_of(*args, "--crop", "embryo")
    assert told == [MISSED]
    assert first["fid"] != centre["fid"]
    calls = eye.calls
    assert notes_of(*args, "--crop", "embryo") == (first, told)
    # it saw the fakes alone
    assert eye.calls == calls + 1
    assert notes_of(*args, "--crop", "embryo", "--crop-margin", "0.4")[0]["fid"] != first["fid"]
    assert len(list(Path("cache").iterdir())) == 3
