"""Runs that start from the weights of another."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers.small_modules import MODULES, same_weights
from helpers.sources import NONE, drawn, labels_of, make, saved

from blastogan.modules.transfer import load_weights

BOTH = pytest.mark.parametrize("name", list(MODULES))


@torch.no_grad()
def images(generator, grade=None, resolution=16):
    labels = None if grade is None else labels_of(grade)
    noise = {}
    if hasattr(generator, "synthesis"):
        shapes = generator.synthesis.noise_shapes(resolution)
        noise["noise"] = [drawn(4, 1, *shape, seed=n) for n, shape in enumerate(shapes)]
    return generator(drawn(4, 8), labels, resolution=resolution, **noise)


@torch.no_grad()
def scores(discriminator, grade=None, resolution=16, channels=1):
    labels = None if grade is None else labels_of(grade)
    seen = drawn(4, 1, resolution, resolution).expand(-1, channels, -1, -1)
    return discriminator(seen, labels, resolution=resolution)


def close(first, second):
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-4)


# -- resolutions --------------------------------------------------------------------------------


@BOTH
def test_a_run_to_a_higher_resolution_gives_the_same_images_and_scores_below(name):
    old, new = make(name), make(name, seed=1, resolution=32)
    built = saved(new)["state_dict"]
    load_weights(new, saved(old))
    for network in (new.generator, new.generator_ema):
        assert torch.equal(images(network, "AB"), images(old.generator_ema, "AB"))
        assert torch.equal(images(network, "AB", 8), images(old.generator_ema, "AB", 8))
    assert torch.equal(scores(new.discriminator, "AB"), scores(old.discriminator, "AB"))
    above = [key for key in built if ".32." in key and not key.startswith("generator_ema")]
    assert len(above) > 8
    assert all(torch.equal(new.state_dict()[key], built[key]) for key in above)


def test_a_run_from_a_higher_to_a_lower_resolution_takes_what_it_has():
    old, new = make(resolution=32, start_resolution=4), make(seed=1)
    report = load_weights(new, saved(old))
    assert torch.equal(images(new.generator, "AB"), images(old.generator_ema, "AB"))
    assert {e.outcome for e in report.layers} == {"taken over"}


@pytest.mark.parametrize(
    ("resolution", "alpha", "trained"), [(8, 1.0, 8), (16, 0.0, 8), (16, 0.5, 16)]
)
def test_blocks_that_growth_had_not_reached_start_new(resolution, alpha, trained):
    old, new = make(), make(seed=1)
    built = saved(new)["state_dict"]
    report = load_weights(new, saved(old, resolution=resolution, alpha=alpha))
    assert report.source.trained == trained
    untouched = torch.equal(
        new.discriminator.blocks["16"].conv.weight.data,
        built["discriminator.blocks.16.conv.weight"],
    )
    assert untouched is (trained == 8)
    assert ("the source was trained to 8x8" in str(report)) is (trained == 8)


# -- grades or none -----------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("with_grades", [True, False])
def test_grades_start_new_and_the_blocks_are_kept(name, with_grades):
    old, new = make(name), make(name, seed=1, **NONE)
    if with_grades:
        old, new = make(name, **NONE), make(name, seed=1)
    report = load_weights(new, saved(old))
    for network, module in (("generator", old.generator_ema), ("discriminator", old.discriminator)):
        mine, theirs = getattr(new, network).state_dict(), module.state_dict()
        blocks = [key for key in mine if "blocks." in key or "_rgb." in key]
        assert len(blocks) > 8
        assert all(torch.equal(mine[key], theirs[key]) for key in blocks)
    named = {e.layer for e in report.layers if e.outcome == "new"}
    first = "input" if name == "progan" else "mapping.layers.0"
    assert first in named
    assert any("embedding" in layer for layer in named) is with_grades


# -- other images, other settings -----------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("there", [1, 3])
def test_grey_images_look_and_score_the_same_in_grey_and_rgb(name, there):
    here = 4 - there
    old, new = make(name, img_channels=there), make(name, seed=1, img_channels=here)
    load_weights(new, saved(old))
    grey = images(old.generator_ema, "AB").mean(dim=1, keepdim=True)
    close(images(new.generator, "AB"), grey.expand(-1, here, -1, -1))
    close(
        scores(new.discriminator, "AB", channels=here),
        scores(old.discriminator, "AB", channels=there),
    )


@pytest.mark.parametrize("other", [{"mapping_layers": 3}, {"mapping_lr_multiplier": 0.1}])
def test_a_mapping_with_other_options_stays_as_it_was_initialised(other):
    new = make("stylegan", seed=1, **other)
    built = saved(new)["state_dict"]
    report = load_weights(new, saved(make("stylegan")))
    state = new.state_dict()
    mapping = [key for key in built if "mapping" in key or "w_avg" in key]
    assert len(mapping) > 4
    assert all(torch.equal(state[key], built[key]) for key in mapping)
    assert f"another {next(iter(other))}" in str(report)


def test_of_another_architecture_the_discriminator_is_taken_alone():
    old, new = make("progan"), make("stylegan", seed=1)
    before = copy.deepcopy(new)
    report = load_weights(new, saved(old))
    assert same_weights(new.generator, before.generator)
    assert same_weights(new.discriminator, old.discriminator)
    assert "the source is a ProGANModule" in str(report)
    assert not report.taken("generator")


def test_only_the_weights_of_the_averaged_generator_and_of_the_discriminator_are_taken():
    old, new = make(augment="bgc"), make(seed=1, augment="bgc")
    old.grade_counts[0, 0] = 5
    built = saved(new, shown=0)["state_dict"]
    state = torch.get_rng_state()
    load_weights(new, saved(old))
    assert torch.equal(torch.get_rng_state(), state)
    assert same_weights(new.generator, old.generator_ema)
    assert same_weights(new.generator_ema, old.generator_ema)
    assert not same_weights(new.generator, old.generator)
    rest = [
        key
        for key in built
        if key.split(".")[0] not in ("generator", "generator_ema", "discriminator")
    ]
    assert "grade_counts" in rest
    assert all(torch.equal(new.state_dict()[key], built[key]) for key in rest)
    assert (new.images_shown, new.draw_seed) == (0, None)


# -- the report -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (("progan", {}), ("progan", {"resolution": 32, "img_channels": 3})),
        (("stylegan", NONE), ("stylegan", {"start_resolution": 16, "factorised": False})),
        (("progan", {"factorised": False}), ("progan", {"ramp_kimg": [0, 1]})),
        (("progan", {"latent_dim": 4}), ("progan", NONE)),
        (("stylegan", {"ramp_kimg": [0, 1], "w_dim": 4}), ("stylegan", NONE)),
        (("stylegan", {}), ("progan", {})),
    ],
)
def test_every_weight_of_both_networks_is_accounted_for(old, new):
    old, new = make(old[0], **old[1]), make(new[0], seed=1, **new[1])
    before = copy.deepcopy(new)
    report = load_weights(new, saved(old))
    for network in ("generator", "discriminator"):
        mine, built = (getattr(each, network).state_dict() for each in (new, before))
        entries = {e.layer: e for e in report.layers if e.network == network}
        assert sum(e.size for e in entries.values()) == sum(v.numel() for v in mine.values())
        assert all(e.reason for e in entries.values() if e.outcome != "taken over")
        for key, value in mine.items():
            layer = key.rpartition(".")[0] or "w_avg"
            assert (layer in report.taken(network)) or torch.equal(value, built[key])


def test_the_report_counts_weights_and_names_what_starts_new():
    report = load_weights(make(seed=1, resolution=32), saved(make(**NONE)))
    lines = str(report).splitlines()
    assert lines[0] == "the source is a ProGANModule, trained to 16x16"
    assert "  input: of another shape in the source" in lines
    new = next(line for line in lines if "source was trained to 16x16" in line)
    assert "blocks.32.conv_up" in new
    assert "to_rgb.32" in new
