"""``blastogan evaluate`` as a user meets it; a stand-in looks at the images, Inception once."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from helpers.command import blastogan
from PIL import Image

from blastogan.grades import CLASSES
from blastogan.metrics import fidelity
from blastogan.metrics.cache import load_statistics
from blastogan.metrics.specs import METRICS
from blastogan.metrics.weights import WeightsNotFound

FEATURES = ("fid", "kid", "precision", "recall", "density", "coverage")
PIXELS = ("swd", "ms_ssim", "ms_ssim_real")


class Means:
    """Means of six parts of an image."""

    dim = 6
    label = "means"

    def __init__(self, key="means-v1"):
        self.key = key
        self.seen = 0

    def __call__(self, images):
        self.seen += len(images)
        pooled = torch.nn.functional.adaptive_avg_pool2d(images.float().mean(1), (2, 3))
        return (pooled.flatten(1) - 128) / 64


@pytest.fixture
def eye(monkeypatch):
    means = Means()
    monkeypatch.setattr(fidelity, "load_extractor", lambda *args, **settings: means)
    return means


@pytest.fixture
def sets(tmp_path, monkeypatch):
    """A folder ``real`` of grey images in class folders, and ``fake`` of others in one folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLASTOGAN_CACHE", str(tmp_path / "cache"))
    draw(Path("real"), 12, seed=0, grades=("AA", "AB", "CB"))
    draw(Path("fake"), 14, seed=1)
    return tmp_path


def draw(root, count, seed, grades=("",), side=16):
    rng = np.random.default_rng(seed)
    for n in range(count):
        folder = root / grades[n % len(grades)]
        folder.mkdir(parents=True, exist_ok=True)
        level = rng.integers(40, 200)
        values = rng.integers(level - 40, level + 40, (side, side), dtype=np.uint8)
        Image.fromarray(values).save(folder / f"{n}.png")


def evaluate(*args):
    """Run the command without worker processes, and give the numbers that it writes."""
    out = Path(f"numbers-{len(list(Path().glob('numbers-*')))}.json")
    assert blastogan("evaluate", *args, "--workers", "0", "--json", out) == 0
    return json.loads(out.read_text())


def refused(capfd, *args):
    """The message of a command that is wrong use and leaves nothing behind."""
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()}
    capfd.readouterr()
    assert blastogan("evaluate", *args, "--workers", "0") == 2
    after = {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()}
    assert after == before
    output = capfd.readouterr()
    assert "Traceback" not in output.err
    return output.err


def test_all_metrics_come_as_a_table_and_as_json(sets, eye, capfd):
    draw(Path("graded"), 14, seed=1, grades=("AA", "DD"))
    found = evaluate("real", "graded")
    measured = {*FEATURES, *PIXELS}
    assert set(found) == {
        *measured,
        *(f"{name}_std" for name in measured),
        "swd_16",
        "n_real", "n_fake", "extractor", "shape", "floor", "classes", "notes",
        "real", "fake", "seed", "metrics", "blastogan",
    }  # fmt: skip
    assert all(isinstance(found[name], float) for name in measured)
    assert (found["n_real"], found["n_fake"], found["extractor"]) == (12, 14, "means")
    assert (found["real"], found["fake"], found["seed"]) == ("real", "graded", 0)
    assert found["metrics"] == list(METRICS)
    assert set(found["floor"]) == {"n", "fid", "kid", "kid_std"}
    assert (found["classes"]["AA"]["n_real"], found["classes"]["AA"]["n_fake"]) == (4, 7)
    printed = capfd.readouterr().out
    first, *rest = printed.splitlines()
    assert first == (
        "12 real images (real) and 14 generated images (graded), 16x16 pixels, extractor means"
    )
    sizes = " and ".join(map(str, found["floor"]["n"]))
    assert re.search(rf"metric +value +real half against real half \({sizes}\)", printed)
    kid, floor = (f"{1000 * part['kid']:.4g}" for part in (found, found["floor"]))
    deviation = re.escape(f"{1000 * found['kid_std']:.2g}")
    assert re.search(rf"KID x 1000 +{kid} ± {deviation} +{floor} *\n", printed)
    assert re.search(r"TE B +8 +0 +too few images", printed)
    assert max(map(len, (line for line in rest if not line.startswith("note: ")))) <= 100
    assert [line[6:] for line in rest if line.startswith("note: ")] == found["notes"]


def test_kid_of_a_class_has_its_interval(sets, eye, capfd):
    draw(Path("more"), 24, seed=1, grades=("AA", "AB"))
    row = evaluate("more", "more", "--metrics", "kid,classes")["classes"]["AA"]
    assert row["low"] < row["kid"] < row["high"]
    kid, low, high = (1000 * row[name] for name in ("kid", "low", "high"))
    shown = " ".join(capfd.readouterr().out.split())
    assert f" AA 12 12 {kid:.4g} ({low:.3g} to {high:.3g}) " in shown


def test_the_real_side_is_looked_at_once_until_a_file_changes(sets, eye):
    first = evaluate("real", "fake")
    assert eye.seen == 12 + 14
    assert evaluate("real", "fake") == first
    assert eye.seen == 12 + 14 + 14
    file = Path("real/AA/0.png")
    Image.open(file).point(lambda value: value // 2).save(file)
    changed = evaluate("real", "fake")
    assert eye.seen == 2 * (12 + 14) + 14
    assert changed["fid"] != first["fid"]
    file.unlink()
    assert evaluate("real", "fake")["n_real"] == 11


def test_another_extractor_or_seed_is_another_entry_of_the_cache(sets, eye):
    evaluate("real", "fake", "--metrics", "kid")
    evaluate("real", "fake", "--metrics", "kid", "--seed", "1")
    eye.key = "means-v2"
    evaluate("real", "fake", "--metrics", "kid")
    assert len(list(Path("cache").iterdir())) == 3
    evaluate("real", "fake", "--metrics", "kid", "--seed", "2", "--no-cache")
    assert len(list(Path("cache").iterdir())) == 3


def test_files_of_statistics_give_what_the_folders_gave(sets, eye, monkeypatch):
    draw(Path("graded"), 14, seed=1, grades=("AA", "DD"))
    found = evaluate("real", "graded", "--save-real", "r.npz", "--save-fake", "f.npz")
    assert load_statistics("r.npz").images is None
    again = evaluate("r.npz", "graded")
    monkeypatch.delattr(fidelity, "load_extractor")
    both = evaluate("r.npz", "f.npz", "--extractor", "none")
    for name in (*FEATURES, *(f"{name}_std" for name in FEATURES), "floor", "classes", "extractor"):
        assert found[name] == again[name] == both[name], name
    assert again["swd"] is None
    assert any("a file, which holds no images" in note for note in both["notes"])


def test_options_reach_those_whom_they_are_for(sets, monkeypatch):
    given, sizes, means = [], [], Means()

    def load(*args, **settings):
        given.append((args, settings))
        return watched

    class Watched(Means):
        def __call__(self, images):
            sizes.append(len(images))
            return means(images)

    watched = Watched()
    monkeypatch.setattr(fidelity, "load_extractor", load)
    Path("mine.pth").write_text("weights")
    args = ("--extractor", "grader", "--weights", "mine.pth", "--device", "cpu")
    sized = ("--kid-subset-size", "10", "--batch-size", "5", "--save-real", "r.npz")
    found = evaluate("real", "fake", *args, *sized)
    assert given == [(("grader", "mine.pth"), {"device": "cpu"})]
    assert sizes == [5, 5, 2, 5, 5, 4]
    assert not any("instead of" in note for note in found["notes"])
    assert len(load_statistics("r.npz").groups) == 12


def test_statistics_of_another_extractor_are_refused_before_the_images_are_seen(sets, eye, capfd):
    evaluate("real", "fake", "--metrics", "fid", "--save-real", "r.npz", "--save-fake", "f.npz")
    seen, eye.key = eye.seen, "means-v2"
    assert "gather both with one extractor" in refused(capfd, "r.npz", "fake")
    assert "gather both with one extractor" in refused(capfd, "fake", "f.npz")
    assert eye.seen == seen
    message = refused(capfd, "r.npz", "fake", "--extractor", "none")
    assert "r.npz holds features and no images" in message
    assert "moments and no features" in " ".join(evaluate("r.npz", "f.npz")["notes"])


def test_statistics_ask_for_their_own_extractor(sets, eye, monkeypatch):
    eye.label, asked = "inception-clean", []
    evaluate("real", "fake", "--save-real", "r.npz")
    monkeypatch.setattr(
        fidelity, "load_extractor", lambda name, *args, **settings: asked.append(name) or eye
    )
    evaluate("r.npz", "fake")
    evaluate("real", "fake")
    assert asked == ["inception-clean", "auto"]


def test_without_an_extractor_pixels_are_compared(sets, capfd):
    found = evaluate("real", "fake", "--extractor", "none")
    assert [name for name in (*FEATURES, *PIXELS) if found[name] is not None] == list(PIXELS)
    assert not Path("cache").exists()
    assert "half" not in capfd.readouterr().out


def test_one_side_without_grades_is_compared_as_if_neither_had_any(sets, eye):
    found, graded = (evaluate("real", other, "--extractor", "none") for other in ("fake", "real"))
    assert found["ms_ssim_real"] != graded["ms_ssim_real"]
    assert evaluate("real", "fake")["classes"] == {}
    table = "filename,grade\n" + "".join(f"{n}.png,AA\n" for n in range(12))
    Path("fake/metadata.csv").write_text(table)
    note = "FAKE: 2 of 14 images have no grade: no metrics by class"
    assert note in evaluate("real", "fake", "--extractor", "none")["notes"]


def test_compression_of_one_side_is_told(sets, eye):
    for folder in ("jpeg", "png"):
        Path(folder).mkdir()
    for n in range(4):
        image = Image.fromarray(np.random.default_rng(n).integers(0, 255, (16, 16), dtype=np.uint8))
        image.save(f"jpeg/{n}.jpg")
        image.save(f"png/{n}.png")
    real = evaluate("jpeg", "png", "--metrics", "fid")["notes"]
    assert any("the real images are JPEG and" in note for note in real)
    fake = evaluate("png", "jpeg", "--metrics", "fid")["notes"]
    assert any("save generated images as PNG" in note for note in fake)
    both = evaluate("jpeg", "jpeg", "--metrics", "fid")["notes"]
    assert not any("JPEG" in note for note in both)


def test_the_same_set_twice_scores_nothing_and_is_told(sets, eye):
    found = evaluate("real", "./real")
    assert found["fid"] == pytest.approx(0, abs=1e-6)
    assert (found["precision"], found["recall"]) == (1, 1)
    assert any("REAL and FAKE are the same set" in note for note in found["notes"])


def test_resolution_brings_both_sides_to_one_size(sets, eye):
    draw(Path("large"), 4, seed=2, side=40)
    apart = evaluate("real", "large", "--metrics", "fid")
    assert any("real images are 16x16, generated ones 40x40" in note for note in apart["notes"])
    found = evaluate("real", "large", "--metrics", "fid", "--resolution", "16")
    assert found["shape"] == [1, 16, 16]
    assert not any("40x40" in note for note in found["notes"])


def test_missing_weights_leave_the_metrics_of_pixels_unless_others_were_asked_for(
    sets, capfd, caplog, monkeypatch
):
    def absent(*args, **settings):
        raise WeightsNotFound("no weights for inception-clean: bring them")

    monkeypatch.setattr(fidelity, "load_extractor", absent)
    found = evaluate("real", "fake")
    assert (found["fid"], found["extractor"]) == (None, "none")
    assert found["swd"] > 0
    assert caplog.text.count("no weights for inception-clean") == 1
    for args in (["--metrics", "swd,fid"], ["--save-real", "r.npz"]):
        assert "no weights for inception-clean" in refused(capfd, "real", "fake", *args)


@pytest.fixture
def checkpoint(sets, make_module):
    """Write a checkpoint of an untrained module."""

    def write(**settings):
        module = make_module(**settings)
        module.grade_counts[3, 3] = 5
        trainer = pl.Trainer(logger=False, accelerator="cpu", enable_progress_bar=False)
        trainer.strategy.connect(module)
        trainer.save_checkpoint("gan.ckpt")
        return "gan.ckpt"

    return write


@pytest.mark.parametrize("channels", [1, 3])
def test_a_checkpoint_generates_by_the_law_of_the_reals_at_its_own_size(checkpoint, eye, channels):
    path = checkpoint(img_channels=channels)
    draw(Path("large"), 8, seed=3, grades=("AA", "AA", "AA", "CB"), side=40)
    state = torch.get_rng_state()
    found = evaluate("large", path, "--count", "20", "--save-real", "r.npz", "--save-fake", "f.npz")
    assert torch.equal(torch.get_rng_state(), state)
    counts = {name: row["n_fake"] for name, row in found["classes"].items() if name in CLASSES}
    assert counts == {"AA": 15, "CB": 5}
    assert load_statistics("r.npz").shape == (channels, 16, 16)
    assert load_statistics("f.npz").shape == (channels, 16, 16)
    assert evaluate("r.npz", path, "--count", "20")["fid"] == found["fid"]
    assert evaluate("large", path, "--count", "20", "--seed", "1")["fid"] != found["fid"]
    # reals without grades: those that the module was trained on
    evaluate("fake", path, "--count", "20", "--save-fake", "g.npz")
    assert load_statistics("g.npz").labels.unique().tolist() == [3]


def test_a_checkpoint_without_grades_or_still_growing_is_told(checkpoint, eye, make_module):
    path = checkpoint(conditional=False)
    found = evaluate("real", path, "--count", "4")
    assert blastogan("export", path, "out") == 0
    exported = evaluate("real", "out/generator.safetensors", "--count", "4")
    assert exported["fid"] == found["fid"]
    assert found["classes"] == {}
    assert any("trained without grades" in note for note in found["notes"])
    path = checkpoint()
    content = torch.load(path, weights_only=True)
    content["blastogan"]["resolution"] = 8
    torch.save(content, path)
    found = evaluate("real", path, "--count", "4")
    assert found["shape"] == [1, 16, 16]
    assert any("generates 8 pixels, enlarged to 16" in note for note in found["notes"])


WRONG = {
    "no real": (["absent", "fake"], "REAL absent does not exist"),
    "no fake": (["real", "absent"], "FAKE absent does not exist"),
    "real is a checkpoint": (["model.ckpt", "fake"], "REAL model.ckpt is a file: expected"),
    "fake is a table": (["real", "table.csv"], "or a .ckpt or .safetensors file of a GAN"),
    "no checkpoint": (["real", "model.ckpt"], "cannot read the checkpoint"),
    "no statistics": (["table.npz", "fake"], "cannot read the statistics"),
    "one image": (["real", "real/one"], "has one image"),
    "broken file": (["real", "broken"], "broken/5.png: no image in one of the formats"),
    "cut file": (["real", "cut"], "cut/5.png: cannot be decoded"),
    "sizes": (["real", "sizes"], "16x16 (2), 20x20 (1)"),
    "json": (["real", "fake", "--json", "table.csv"], "table.csv exists; nothing is overwritten"),
    "save": (["real", "fake", "--save-fake", "table.npz"], "table.npz exists; nothing"),
    "parent": (["real", "fake", "--json", "a/b.json"], "b.json"),
    "suffix": (["real", "fake", "--save-real", "real.txt"], "written to .npz files"),
    "twice": (["real", "fake", "--save-real", "a.npz", "--save-fake", "./a.npz"], "the same file"),
    "metric": (["real", "fake", "--metrics", "fid,is"], "metrics is:"),
    "blind": (["real", "fake", "--extractor", "none", "--metrics", "kid"], "need an extractor"),
    "keep": (["real", "fake", "--metrics", "swd", "--save-real", "a.npz"], "write features"),
    "count": (["real", "fake", "--count", "9"], "--count 9"),
    "weights": (["real", "fake", "--weights", "no.pth"], "no file no.pth"),
    "device": (["real", "fake", "--device", "abacus"], "device 'abacus' cannot be used"),
    "crop": (["real", "fake", "--crop", "embryo"], "add a resolution"),
    "margin": (["real", "fake", "--crop-margin", "0.2"], "--crop-margin 0.2"),
    "batch": (["real", "fake", "--batch-size", "0"], "expected 1 or more"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_gets_one_clear_message_and_leaves_nothing_behind(case, sets, eye, capfd):
    for name in ("model.ckpt", "table.csv", "table.npz"):
        Path(name).write_text("text")
    draw(Path("real/one"), 1, seed=0)
    for name in ("broken", "cut", "sizes"):
        draw(Path(name), 2, seed=0)
    Path("broken/5.png").write_text("text")
    Path("cut/5.png").write_bytes(Path("cut/0.png").read_bytes()[:150])
    Image.new("L", (20, 20)).save("sizes/5.png")
    args, message = WRONG[case]
    assert message in refused(capfd, "--no-cache", *args)


def test_unknown_extractors_are_refused_by_name(sets, capfd):
    message = refused(capfd, "real", "fake", "--extractor", "inceptoin")
    assert "unknown extractor 'inceptoin'" in message


@pytest.mark.slow
def test_inception_compares_two_folders(sets, inception_weights):
    args = ["real", "fake", "--weights", inception_weights, "--metrics", "kid,recall"]
    found = evaluate(*args)
    assert found["extractor"].startswith("inception-clean (weights ")
    assert isinstance(found["kid"], float)
    assert 0 <= found["recall"] <= 1
