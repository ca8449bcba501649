"""Settings that follow from the data."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import yaml
from helpers.command import TINY, blastogan

from blastogan.errors import ProblemList, UserError
from blastogan.losses import GAMMA_FLOOR
from blastogan.presets import FOLDER
from blastogan.recipe.recipe import make_recipe
from blastogan.recipe.rules import AUGMENT_BELOW, RAMP_BELOW, SETTINGS

GAMMA, EMA = "model.init_args.r1_gamma", "model.init_args.ema_kimg"
AUGMENT, SPEED = "model.init_args.augment", "model.init_args.augment_kimg"
RAMP, BATCH = "model.init_args.ramp_kimg", "schedule.batch_size"


def test_a_few_thousand_images_at_256_have_the_settings_known():
    recipe = make_recipe(3800, 256, 16, 1)
    assert yaml.safe_load(recipe.to_yaml()) == {
        "schedule": {
            "batch_size": {8: 64, 16: 64, 32: 64, 64: 32, 128: 32, 256: 16},
            "tick_kimg": 19.2,
            "fade_kimg": 192.0,
            "hold_kimg": {8: 172.8, 16: 268.8, 32: 384.0, 64: 595.2, 128: 883.2, 256: 2880.0},
        },
        "model": {
            "init_args": {
                "r1_gamma": 0.819,
                "ema_kimg": 5.0,
                "augment": "grade-preserving",
                "augment_target": 0.6,
                "augment_kimg": 500.0,
                "ramp_kimg": [1228.8, 3072.0],
            }
        },
        "data": {"augment": "dihedral", "balance": "sqrt"},
        "fidelity": {"every_kimg": 360.0},
    }
    assert recipe.schedule.total_images == 6_144_000
    assert recipe.notes == ()
    assert tuple(recipe.values) == SETTINGS


def test_each_value_has_a_reason_with_its_source():
    recipe = make_recipe(300, 64, 16, 3)
    for choice in recipe.choices:
        assert any(source in choice.why for source in ("Karras", "Shahbazi", "(our "))
    assert "early in the schedule" in recipe.notes[0]


def test_gamma_is_that_of_the_rule_where_it_is_not_too_small():
    for resolution, batch in ((256, 4), (256, 16), (1024, 32)):
        value = make_recipe(3800, resolution, batch, 1).values[GAMMA]
        assert value == pytest.approx(0.0002 * resolution**2 / batch, rel=1e-2)
    small = make_recipe(3800, 32, 16, 1)
    assert small.values[GAMMA] == GAMMA_FLOOR
    assert "not the 0.013 of 0.0002 x 32^2 / 16" in small.to_yaml()


def test_gamma_and_length_grow_with_resolution_and_gamma_falls_with_the_batch():
    sizes = [make_recipe(3800, resolution, 16, 1) for resolution in (16, 64, 256, 512, 1024)]
    assert [r.values[GAMMA] for r in sizes] == sorted(r.values[GAMMA] for r in sizes)
    lengths = [recipe.schedule.total_images for recipe in sizes]
    assert lengths == sorted(set(lengths))
    batches = [make_recipe(3800, 512, batch, 1) for batch in (4, 8, 16, 32, 64)]
    gammas = [recipe.values[GAMMA] for recipe in batches]
    assert gammas == sorted(set(gammas), reverse=True)
    assert [recipe.values[EMA] for recipe in batches] == [1.25, 2.5, 5.0, 10.0, 20.0]


def test_augmentation_is_for_sets_that_are_learnt_by_heart():
    def settings(images, **more):
        return make_recipe(images, 64, 16, 1, **more).values

    assert settings(AUGMENT_BELOW - 1)[AUGMENT] == "grade-preserving"
    assert settings(AUGMENT_BELOW - 1, conditional=False)[AUGMENT] == "bgc"
    assert settings(AUGMENT_BELOW)[AUGMENT] == "none"
    assert SPEED not in settings(AUGMENT_BELOW)
    # a quarter of the hold at the final resolution
    assert settings(500)[SPEED] == 720 / 4


def test_a_preset_has_what_the_recipe_chooses_for_its_purpose():
    chosen = yaml.safe_load(make_recipe(3800, 256, 16, 1).to_yaml())
    for name in ("progan", "stylegan"):
        preset = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
        init, of_recipe = preset["model"]["init_args"], chosen["model"]["init_args"]
        for key in ("r1_gamma", "ema_kimg", "augment"):
            assert init[key] == of_recipe[key]
        assert init["ramp_kimg"] == pytest.approx(of_recipe["ramp_kimg"], rel=0.02)
        assert chosen["data"].items() <= preset["data"].items()
        assert preset["schedule"]["batch_size"] == chosen["schedule"]["batch_size"]


def test_what_a_loss_or_a_regularizer_has_no_use_for_is_left_out():
    values = make_recipe(3800, 64, 16, 1, loss="wgan", regularizer="gradient_penalty").values
    assert GAMMA not in values
    assert values[AUGMENT] == "none"
    assert SPEED not in values
    assert values[RAMP] is None
    by_hand = make_recipe(3800, 64, 16, 1, given={AUGMENT: "diffaugment"}).values
    assert by_hand[AUGMENT] == "diffaugment"
    assert SPEED not in by_hand


def test_grades_are_balanced_where_they_are_told_and_the_last_phase_is_looked_at_often():
    small = make_recipe(300, 32, 16, 1)
    assert small.values["data.balance"] == "sqrt"
    assert make_recipe(300, 32, 16, 1, conditional=False).values["data.balance"] == "none"
    last = small.schedule.phases[-1]
    assert small.values["fidelity.every_kimg"] == (last.end - last.start) / 1000 / 8
    assert make_recipe(300, 1024, 16, 1).values["fidelity.every_kimg"] == 500.0


def test_conditioning_is_ramped_where_grades_are_told_and_rare():
    def ramp(**more):
        return make_recipe(60_000, 64, 16, 1, **more).values[RAMP]

    assert ramp() == ramp(smallest_class=RAMP_BELOW - 1)
    assert ramp() == pytest.approx([0.2 * 1536, 0.5 * 1536], rel=0.02)
    assert ramp(smallest_class=RAMP_BELOW) is None
    assert ramp(conditional=False) is None


def test_every_recipe_is_a_schedule_in_whole_ticks():
    for resolution in (16, 32, 64, 128, 256, 512, 1024):
        for images in (10, 1000, 1_000_000):
            for batch in (4, 6, 12, 16, 24, 50, 64):
                for start in (4, 8, resolution):
                    recipe = make_recipe(images, resolution, batch, 1, start_resolution=start)
                    schedule = recipe.schedule
                    assert schedule.rounding == ()
                    assert schedule.total_images == pytest.approx(24_000 * resolution, rel=0.02)
                    assert 200 <= schedule.total_ticks <= 400
                    assert schedule.phases[-1].batch_size == batch
                    sizes = [phase.batch_size for phase in schedule.phases]
                    assert sizes == sorted(sizes, reverse=True)
                    assert max(sizes) <= 64


def test_half_of_a_recipe_is_at_the_final_resolution():
    schedule = make_recipe(3800, 128, 32, 1).schedule
    shown = sum(p.end - p.start for p in schedule.phases if p.resolution == 128)
    assert shown == schedule.total_images / 2


def test_other_values_follow_from_those_given_by_hand():
    given = {"schedule.hold_kimg": 1.0, "schedule.fade_kimg": 1.0, BATCH: 10}
    recipe = make_recipe(3800, 16, 16, 1, given=given)
    # ticks of 1.2 kimg
    assert recipe.schedule.total_images == 3 * 1200
    assert recipe.values[RAMP] == [0.72, 1.8]
    assert recipe.values[SPEED] == 0.3
    assert recipe.values[EMA] == 3.125
    assert [c.setting for c in recipe.choices if c.by_hand] == [BATCH, *sorted(given)[1:]]
    assert recipe.describe().count("yours") == 3


def test_batches_of_a_device_are_written_and_those_of_all_reckoned_with():
    one, four = make_recipe(3800, 256, 16, 1), make_recipe(3800, 256, 16, 1, devices=4)
    assert four.values[BATCH] == one.values[BATCH]
    assert four.values[EMA] == 4 * one.values[EMA]
    assert four.schedule.phases[-1].batch_size == 64
    assert four.schedule.rounding == ()
    assert make_recipe(3800, 256, 16, 1, devices=7).schedule.rounding == ()


def test_yaml_holds_the_settings_and_numbers_that_yaml_takes_for_such():
    recipe = make_recipe(3800, 256, 16, 1, given={EMA: 1e-05, "data.augment": "a: b"})
    written = yaml.safe_load(recipe.to_yaml())
    assert written["model"]["init_args"]["ema_kimg"] == 1e-05
    assert written["data"]["augment"] == "a: b"
    assert written["schedule"]["batch_size"] == recipe.values[BATCH]


def test_numbers_that_cannot_be_are_refused_together():
    with pytest.raises(ProblemList) as error:
        make_recipe(0, 256, 0, 2, smallest_class=5)
    assert len(error.value.problems) == 4
    for sizes in ({"resolution": 48}, {"resolution": 16, "start_resolution": 32}):
        with pytest.raises(UserError, match="resolution"):
            make_recipe(**{"num_images": 9, "batch_size": 8, "img_channels": 1, **sizes})
    with pytest.raises(UserError, match="batch_size"):
        make_recipe(9, 16, 8, 1, given={BATCH: 0})


def print_config(capfd, *args):
    capfd.readouterr()
    assert blastogan("fit", *args, "--print_config") == 0
    config = yaml.safe_load(capfd.readouterr().out)
    assert config["recipe"] is False
    return config


# options of one command, which a run folder does without
NOT_KEPT = {"resume": False, "ckpt_path": None, "dry_run": False, "yes": False}


def sized(values):
    return {int(resolution): value for resolution, value in values.items()}


@pytest.mark.slow
def test_the_recipe_wins_over_presets_and_what_is_given_by_hand_over_the_recipe(
    here, capfd, caplog
):
    caplog.set_level(logging.INFO, "blastogan")
    few = ["--recipe", "true", "--data.num_phantoms", "700"]
    chosen = print_config(capfd, "--config", "stylegan", *few)
    init = chosen["model"]["init_args"]
    assert (init["r1_gamma"], init["ema_kimg"]) == (0.819, 5.0)
    assert init["augment"] == "grade-preserving"
    assert init["style_mixing_prob"] == 0.9
    assert "recipe for 574 grey images at 256x256 in batches of 16" in caplog.text
    assert "yours" not in caplog.text

    # with options before the preset, and a resolution that the preset has no values for
    Path("my.yaml").write_text("model: {init_args: {r1_gamma: 3.0, ema_kimg: 7.0}}\nrecipe: true\n")
    mine = ["--schedule.batch_size=12", "--config=my.yaml", "--config", "stylegan"]
    after = ["--model.init_args.ema_kimg", "9.0", "--schedule.final_resolution", "512"]
    config = print_config(capfd, *mine, *few[2:], *after)
    init = config["model"]["init_args"]
    assert (init["r1_gamma"], init["ema_kimg"]) == (3.0, 9.0)
    assert config["schedule"]["batch_size"] == 12
    # reckoned with the batch given by hand
    wanted = make_recipe(574, 512, 12, 1, given={BATCH: 12})
    assert sized(config["schedule"]["hold_kimg"]) == wanted.values["schedule.hold_kimg"]
    assert init["ramp_kimg"] == wanted.values[RAMP]
    assert caplog.text.count("yours") == 3

    config = print_config(
        capfd, "--config", "my.yaml", "--config", "progan", *few, "--recipe=false"
    )
    assert config["model"]["init_args"]["ramp_kimg"] == [1250, 3120]


@pytest.mark.slow
def test_batches_are_scaled_after_the_recipe(here, capfd):
    args = ["--config", "progan", "--recipe", "--data.num_phantoms=700", "--trainer.devices=2"]
    config = print_config(capfd, *args, "--trainer.accelerator=cpu", "--scale_batch=true")
    assert sized(config["schedule"]["batch_size"])[256] == 16
    assert config["model"]["init_args"]["ema_kimg"] == 10.0


@pytest.mark.slow
def test_the_configuration_of_the_run_does_without_the_recipe(here, caplog, capfd):
    caplog.set_level(logging.INFO, "blastogan")
    asked = ["fit", "--config", "tiny.yaml", "--recipe", "true"]
    before = {path.name for path in Path.cwd().iterdir()}
    assert blastogan(*asked) == 0
    assert {path.name for path in Path.cwd().iterdir()} == before | {"runs"}
    run = Path("runs/tiny")
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["recipe"] is False
    assert sized(config["schedule"]["hold_kimg"]) == yaml.safe_load(TINY)["schedule"]["hold_kimg"]
    init = config["model"]["init_args"]
    assert (init["r1_gamma"], init["ema_kimg"], init["latent_dim"]) == (GAMMA_FLOOR, 2.5, 8)
    assert init["augment"] == "grade-preserving"
    assert init["augment_kimg"] == 0.016

    assert print_config(capfd, "--config", run / "config.yaml") == {**config, **NOT_KEPT}

    # a run that goes on keeps its settings, whatever the recipe would say now
    text = (run / "config.yaml").read_text().replace("r1_gamma: 0.5", "r1_gamma: 0.7")
    (run / "config.yaml").write_text(text)
    for more in ([], ["--run_dir", run]):
        resumed = print_config(capfd, *asked[1:], "--resume", *more)
        assert sized(resumed["schedule"]["hold_kimg"]) == {8: 0.064, 16: 0.064}
        assert resumed["model"]["init_args"]["r1_gamma"] == 0.7
    assert "keeps its settings" in caplog.text
    assert blastogan(*asked, "--resume") == 0
    assert "nothing is left" in caplog.text


@pytest.mark.slow
def test_recipes_without_data_or_fit_are_refused(here, capfd):
    asked = ["--config", "tiny.yaml", "--recipe", "true"]
    for args, message in (
        (["fit", *asked, "--data.root", "absent"], "absent"),
        (["fit", *asked, "--schedule.final_resolution", "24"], "power of two"),
        (["fit", *asked, "--schedule.batch_size", "0"], "batch_size"),
        (["fit", "--config", "tiny.yaml", "--recipe", "maybe"], "recipe"),
        (["validate", *asked], "--recipe is of fit"),
        (["recipe", "--images", "9", "--resolution", "24"], "power of two"),
        (["recipe", "--images", "0", "--resolution", "32"], "1 or more"),
        (["recipe", "--resolution", "32"], "--images"),
    ):
        capfd.readouterr()
        assert blastogan(*args) == 2
        output = capfd.readouterr()
        assert message in output.err
        assert "Traceback" not in output.err
        assert sorted(path.name for path in here.iterdir()) == ["tiny.yaml"]


@pytest.mark.slow
def test_what_the_command_prints_is_a_configuration(here, capfd):
    args = ["--images", "500", "--resolution", "128", "--batch", "32", "--channels", "3"]
    assert blastogan("recipe", *args, "--unconditional") == 0
    Path("my.yaml").write_text(capfd.readouterr().out)
    config = print_config(capfd, "--config", "stylegan", "--config", "my.yaml")
    recipe = make_recipe(500, 128, 32, 3, conditional=False)
    assert config["data"]["img_channels"] == 3
    init = config["model"]["init_args"]
    assert (init["conditional"], init["augment"]) == (False, "bgc")
    assert sized(config["schedule"]["hold_kimg"]) == recipe.values["schedule.hold_kimg"]
