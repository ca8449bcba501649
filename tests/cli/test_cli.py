"""The command line as a user meets it."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers.command import SHORT, assert_same_run, blastogan, read_table, weights
from PIL import Image

import blastogan as package
from blastogan.cli import LIGHTNING, TOOLS, load_tool
from blastogan.errors import UserError
from blastogan.grades import CLASSES
from blastogan.presets import find_config, preset_names
from blastogan.utils.version import describe_version, provenance

pytestmark = pytest.mark.slow


def test_fit_test_and_generate_from_a_preset_like_file(trained, capfd, caplog):
    run = trained / "runs/tiny"
    assert {path.name for path in run.iterdir()} == {
        ".lock",
        "checkpoints",
        "config.yaml",
        "fidelity.csv",
        "fidelity.png",
        "metrics.csv",
        "samples",
        "split.csv",
    }
    rows = read_table(run / "metrics.csv")
    assert float(rows[-1]["kimg"]) == 0.192
    assert any(row["swd"] for row in rows)
    assert len(list((run / "samples").glob("kimg-*.png"))) == 6
    last = run / "checkpoints/last.ckpt"
    assert describe_version() in (run / "config.yaml").read_text().splitlines()[1]
    assert weights(last)["blastogan"].items() >= provenance().items()

    # a second run of the same command gets a folder of its own
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    assert blastogan("fit", "--config=tiny.yaml") == 0
    assert all(p.read_bytes() == content for p, content in before.items())
    assert_same_run(last, trained / "runs/tiny-2/checkpoints/last.ckpt")

    capfd.readouterr()
    assert blastogan("test", "--ckpt_path", last) == 0
    shown = capfd.readouterr().out
    # in one table: what is compared, and no name twice
    assert shown.count("SWD x 1000") == 1
    assert "DataLoader" not in shown
    assert blastogan("validate", "--ckpt_path", last) == 0
    shown = capfd.readouterr().out
    assert all(text in shown for text in ("validation images", "MS-SSIM"))
    assert "DataLoader" not in shown

    assert blastogan("generate", last, "out", "--count", "20", "--seed", "3") == 0
    files = sorted(Path("out").rglob("*.png"))
    assert len(files) == 20
    assert {file.parent.name for file in files} == set(CLASSES)
    assert np.asarray(Image.open(files[0])).shape == (16, 16)
    table = read_table(Path("out/metadata.csv"))
    assert [row["filename"] for row in table] == [f"generated-{n:06d}.png" for n in range(20)]

    predicted = ["--run_dir", "predicted", "--data.predict_count", "20", "--data.predict_seed", "3"]
    assert blastogan("predict", "--ckpt_path", last, *predicted) == 0
    assert "20 generated images in predicted" in caplog.text
    for file in files:
        other = Path("predicted") / file.relative_to("out")
        difference = np.asarray(Image.open(file)).astype(int) - np.asarray(Image.open(other))
        assert abs(difference).max() <= 1

    assert blastogan("generate", last, "out") == 2
    assert "out exists and is not empty" in capfd.readouterr().err


def test_generated_sets_can_be_trained_on(here):
    assert blastogan("phantom", "set", "--count", "60", "--resolution", "16") == 0
    assert blastogan("fit", "--config", "tiny.yaml", SHORT, "--data.root", "set") == 0
    sheet = here / "runs/tiny/samples/training-images.png"
    assert sheet.exists()


def test_phantom_draws_what_it_says(here):
    assert blastogan("phantom", "a", "--count", "30", "--resolution", "32", "--seed", "5") == 0
    assert blastogan("phantom", "b", "--count", "10", "--resolution", "32", "--seed", "5") == 0
    for file in Path("b").rglob("*.png"):
        assert file.read_bytes() == (Path("a") / file.relative_to("b")).read_bytes()
    assert len(read_table(Path("a/metadata.csv"))) == 30


WRONG = {
    "preset": (["fit", "--config", "dem"], "did you mean demo"),
    "preset with =": (["fit", "--config=paper-progam"], "did you mean paper-progan"),
    "config path": (["fit", "--config", "absent.yaml"], "no configuration at absent.yaml"),
    "no config": (["fit"], "no configuration given"),
    "no checkpoint, no config": (["test", "--ckpt_path", "absent.ckpt"], "no checkpoint at absent"),
    "max_epochs": (["fit", "--config", "tiny.yaml", "--trainer.max_epochs", "3"], "schedule"),
    "part": (["fit", "--config", "tiny.yaml", "--trainer.limit_train_batches", "3"], "schedule"),
    "clipping": (["fit", "--config", "tiny.yaml", "--trainer.gradient_clip_val", "1"], "use --m"),
    "bad data, wandb": (
        ["fit", "--config", "tiny.yaml", "--wandb", "offline", "--data.root", "absent"], "absent"),
    "junk checkpoint": (["generate", "junk.ckpt", "x"], "cannot read"),
    "resolution": (["fit", "--config", "tiny.yaml", "--schedule.final_resolution", "24"], "power"),
    "stddev": (["fit", "--config", "tiny.yaml", "--schedule.batch_size", "6"], "multiple of the"),
    "model": (["fit", "--config", "tiny.yaml", "--model.init_args.augment", "all"], "expected one"),
    "seed": (["fit", "--config", "tiny.yaml", "--seed_everything", "-1"], "seed_everything is -1"),
    "devices": (["fit", "--config", "tiny.yaml", "--trainer.devices", "100000"], "trainer.devices"),
    "key twice": (["fit", "--config", "tiny.yaml", "--schedule.hold_kimg", "{8: 1, 8: 2}"], "'8'"),
    "no folder": (["fit", "--config", "tiny.yaml", "--data.root", "absent"], "absent"),
    "empty folder": (["fit", "--config", "tiny.yaml", "--data.root", "empty"], "empty"),
    "broken image": (["fit", "--config", "tiny.yaml", "--data.root", "broken"], "broken"),
    "unknown grade": (["fit", "--config", "tiny.yaml", "--data.root", "graded"], "line 2"),
    "no checkpoint": (["fit", "--config", "tiny.yaml", "--ckpt_path", "no.ckpt"], "no checkpoint"),
    "no zip": (["test", "--config", "tiny.yaml", "--ckpt_path", "text.ckpt"], "cannot read"),
    "wandb": (["fit", "--config", "tiny.yaml", "--wandb", "sometimes"], "wandb"),
    "command": (["train"], "no command 'train'"),
    "count": (["generate", "text.ckpt", "x", "--grades", "ZZ:3"], "cannot read"),
    "phantom size": (["phantom", "p", "--resolution", "8"], "16 to 512"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_gets_one_clear_message_and_leaves_nothing_behind(case, here, capfd):
    Path("empty").mkdir()
    Path("broken/AA").mkdir(parents=True)
    Path("broken/AA/a.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    for n in range(30):
        Image.new("L", (16, 16), n).save(f"broken/AA/{n}.png")
    Path("graded").mkdir()
    Image.new("L", (16, 16)).save("graded/a.png")
    Path("graded/metadata.csv").write_text("filename,grade\na.png,ZZ\n")
    Path("text.ckpt").write_text("no checkpoint")
    Path("junk.ckpt").write_bytes(b"GIF89a")
    args, message = WRONG[case]
    before = sorted(here.rglob("*"))
    assert blastogan(*args) == 2
    output = capfd.readouterr()
    assert message in output.err + output.out
    assert "Traceback" not in output.err + output.out
    assert sorted(here.rglob("*")) == before


def test_checkpoints_that_do_not_fit_are_refused_before_anything_happens(trained, capfd):
    last = trained / "runs/tiny/checkpoints/last.ckpt"
    before = {p: p.read_bytes() for p in trained.rglob("*") if p.is_file()}
    for args, message in (
        (["--model.class_path", "StyleGANModule"], "holds a ProGANModule, not a StyleGANModule"),
        (["--schedule.hold_kimg", "0.128"], "another schedule: hold_kimg is {8: 0.064"),
        (["--model.init_args.channel_cap", "4"], "channel_cap is 8 in the checkpoint and 4"),
    ):
        args = ["fit", "--config", "tiny.yaml", *args, "--ckpt_path", last]
        assert blastogan(*args) == 2
        assert message in capfd.readouterr().err
    assert blastogan("fit", "--config", "tiny.yaml", "--run_dir", "runs/tiny") == 2
    assert "add --resume" in capfd.readouterr().err
    assert {p: p.read_bytes() for p in trained.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_builds(name, here, capfd):
    assert blastogan("fit", "--config", name, "--print_config") == 0
    config = yaml.safe_load(capfd.readouterr().out)
    from blastogan.growth import GrowthSchedule

    def integers(value):
        return {int(k): v for k, v in value.items()} if isinstance(value, dict) else value

    schedule = GrowthSchedule(**{k: integers(v) for k, v in config["schedule"].items()})
    assert schedule.final_resolution in (32, 256)
    assert all(phase.batch_size % 4 == 0 for phase in schedule.phases)
    assert schedule.rounding == ()


@pytest.mark.parametrize("name", ["progan", "stylegan"])
def test_every_architecture_runs_from_its_preset_in_small(name, here):
    small = [
        "--schedule={start_resolution: 8, final_resolution: 16, fade_kimg: 0.032, hold_kimg: "
        "0.032, batch_size: 8, tick_kimg: 0.032}",
        "--model.init_args.channel_base=64",
        "--model.init_args.channel_cap=8",
        "--data.num_phantoms=60",
        "--data.num_workers=0",
        "--samples.rows=1",
        "--fidelity.num_fakes=16",
        "--fidelity.extractor=none",
        "--trainer.accelerator=cpu",
    ]
    for preset in (name, f"paper-{name}"):
        assert blastogan("fit", "--config", preset, *small) == 0
        last = here / f"runs/{preset}/checkpoints/last.ckpt"
        assert weights(last)["blastogan"]["images_shown"] == 96


def test_the_study_is_in_its_presets_to_the_letter():
    for name, start in (("paper-progan", 16), ("paper-stylegan", 8)):
        config = yaml.safe_load(find_config(name).read_text())
        schedule = config["schedule"]
        assert (schedule["start_resolution"], schedule["final_resolution"]) == (start, 256)
        sizes = {8: 64, 16: 32, 32: 32, 64: 16, 128: 8, 256: 4}
        assert schedule["batch_size"] == {r: b for r, b in sizes.items() if r >= start}
        model = config["model"]["init_args"]
        assert (model["loss"], model["regularizer"]) == ("wgan", "r1")
        assert config["data"]["augment"] == "none"
        for key in ("generator_optimizer", "discriminator_optimizer"):
            expected = {"lr": 0.001, "betas": [0.0, 0.99], "eps": 1e-8}
            settings = dict(config[key]["init_args"])
            assert settings.pop("fused")  # how it is computed, not what
            assert (config[key]["class_path"], settings) == ("torch.optim.Adam", expected)
    with pytest.raises(UserError, match="Presets are demo, paper-progan"):
        find_config("xyzzy")


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("--augment-p", "--model.init_args.augment_p"),
        ("--model.init_args.r1_gama", "--model.init_args.r1_gamma"),
        ("--model.augment_tar", "--model.init_args.augment_target"),
        ("--batch_size", "--schedule.batch_size"),
        ("--xyzzy", None),
    ],
)
def test_an_unknown_option_is_named_with_the_one_that_was_meant(wrong, meant, here, capfd):
    assert blastogan("fit", "--config", "tiny.yaml", wrong, "3") == 2
    hint = f" (did you mean {meant}?)" if meant else ""
    assert capfd.readouterr().err.splitlines()[-1] == f"error: unknown option {wrong}{hint}"


@pytest.mark.parametrize("right", ["--data.seed", "--model.r1_gamma", "--data.num_phantom"])
def test_a_wrong_value_of_a_known_option_gets_no_hint(right, here, capfd):
    assert blastogan("fit", "--config", "tiny.yaml", right, "x") == 2
    shown = capfd.readouterr().err
    assert "did you mean" not in shown
    assert "unknown option" not in shown


@pytest.mark.parametrize(
    "typed", [["--data.residence", "host"], ["--watch.on_leak=stop"], ["--watch.on_nan=roll_back"]]
)
def test_a_retired_option_is_refused_where_it_is_typed(typed, here, capfd):
    assert blastogan("fit", "--config", "tiny.yaml", *typed) == 2
    assert f"{typed[0].partition('=')[0]}" in capfd.readouterr().err


def test_retired_options_of_an_old_run_are_dropped_with_one_line(trained, caplog, capfd):
    run = trained / "runs/tiny"
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["data"]["residence"] = "device"
    config["watch"].update(on_nan="roll_back", on_collapse="warn", on_leak="stop", max_rollbacks=2)
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    capfd.readouterr()
    assert blastogan("fit", "--resume", "--run_dir", run, "--print_config") == 0
    assert yaml.safe_load(capfd.readouterr().out)["watch"]["on_nan"] == "stop"
    (line,) = [line for line in caplog.messages if "retired options" in line]
    assert line.count("dropped") == 3
    assert "watch.on_nan roll_back is now stop" in line
    assert "on_collapse" not in line


NO_BAR = "--trainer.enable_progress_bar=false"


def test_the_progress_bar_can_be_switched_off(here, caplog):
    assert blastogan("fit", "--config", "tiny.yaml", SHORT) == 0
    assert "img/s" in caplog.text
    caplog.clear()
    assert blastogan("fit", "--config", "tiny.yaml", SHORT, NO_BAR) == 0
    assert "img/s" not in caplog.text


def test_help_and_version(capfd):
    assert blastogan("--help") == 0
    assert "presets for --config: demo, paper-progan" in capfd.readouterr().out
    assert blastogan() == 2
    capfd.readouterr()
    assert blastogan("--version") == 0
    assert capfd.readouterr().out == f"{describe_version()}\n"
    assert package.__version__ == version("blastogan")


def test_every_tool_of_the_list_has_its_function():
    for name in LIGHTNING | TOOLS:
        assert callable(load_tool(name))


def test_untrained_networks_do_not_predict_and_say_what_they_are(here, capfd):
    assert blastogan("predict", "--config", "tiny.yaml") == 2
    assert "predict needs a model" in capfd.readouterr().err
    assert blastogan("validate", "--config", "tiny.yaml") == 0
