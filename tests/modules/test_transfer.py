"""Runs that begin with the weights of another."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers.old_runs import NONE, drawn, labels_of, law, make, saved, still
from helpers.small_modules import MODULES, same_weights

from blastogan.modules.transfer import (
    take_over,
)
from blastogan.modules.transfer_report import Kind

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
    take_over(new, saved(old))
    for network in (new.generator, new.generator_ema):
        assert torch.equal(images(network, "AB"), images(old.generator_ema, "AB"))
        assert torch.equal(images(network, "AB", 8), images(old.generator_ema, "AB", 8))
    assert torch.equal(scores(new.discriminator, "AB"), scores(old.discriminator, "AB"))
    above = [key for key in built if ".32." in key and not key.startswith("generator_ema")]
    assert len(above) > 8
    assert all(torch.equal(new.state_dict()[key], built[key]) for key in above)


def test_a_run_from_a_higher_to_a_lower_resolution_takes_what_it_has():
    old, new = make(resolution=32, start_resolution=4), make(seed=1)
    transfer = take_over(new, saved(old))
    assert torch.equal(images(new.generator, "AB"), images(old.generator_ema, "AB"))
    left = {(e.layer, e.why) for e in transfer.entries if e.kind is Kind.LEFT}
    assert ("to_rgb.32", "this run ends at 16x16") in left
    assert ("from_rgb.4", "this run begins at 8x8") in left
    assert ("blocks.32.conv", "this run ends at 16x16") in left


@pytest.mark.parametrize(
    ("resolution", "alpha", "trained"), [(8, 1.0, 8), (16, 0.0, 8), (16, 0.5, 16)]
)
def test_blocks_that_growth_had_not_reached_are_left_behind(resolution, alpha, trained):
    old, new = make(), make(seed=1)
    built = saved(new)["state_dict"]
    transfer = take_over(new, saved(old, resolution=resolution, alpha=alpha))
    assert transfer.trained == trained
    untouched = torch.equal(
        new.discriminator.blocks["16"].conv.weight.data,
        built["discriminator.blocks.16.conv.weight"],
    )
    assert untouched is (trained == 8)
    text = str(transfer)
    assert ("left behind: was never trained" in text) is (trained == 8)
    assert ("had faded in by 50%" in text) is (alpha == 0.5)


# -- grades or none -----------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("ramp", [None, [1.0, 2.0]])
def test_grades_come_in_without_a_change_and_are_learnt_from_there(name, ramp):
    old, new = make(name, **NONE), make(name, seed=1, ramp_kimg=ramp)
    take_over(new, saved(old))
    for grade in ("AA", "CB"):
        close(images(new.generator, grade), images(old.generator_ema))
        found = scores(new.discriminator, grade).view(4, -1)
        close(found, scores(old.discriminator)[:, None].expand_as(found))
    made = new.generator(drawn(4, 8), labels_of("AB"), **still(name))
    made.square().sum().backward()
    layer = new.generator.input if name == "progan" else new.generator.mapping.layers[0]
    assert (layer.weight.grad[:, 8:] != 0).any()
    new.discriminator(drawn(4, 1, 16, 16), labels_of("AB")).sum().backward()
    assert (new.discriminator.embedding.parts[0].weight.grad[0] != 0).any()


def test_without_grades_a_stylegan_gives_images_of_their_mean():
    old, new = make("stylegan"), make("stylegan", seed=1, **NONE)
    law(old, CB=7)
    take_over(new, saved(old))
    close(images(new.generator), images(old.generator_ema, "CB"))
    close(scores(new.discriminator), scores(old.discriminator, "CB"))
    assert torch.equal(new.generator.w_avg, old.generator_ema.w_avg)


def test_without_grades_a_progan_keeps_their_mean_over_pixels_and_scores():
    old, new = make(), make(seed=1, **NONE)
    law(old, AA=1, CB=3)
    take_over(new, saved(old))
    mean = scores(old.discriminator, "AA") / 4 + scores(old.discriminator, "CB") * 3 / 4
    close(scores(new.discriminator), mean)

    def before_activation(generator, latent):
        layer = generator.input
        whole = (latent @ layer.weight.T * layer.scale).view(4, 8, 16).mean(dim=2)
        return whole + layer.bias

    norm, z = old.generator.norm, drawn(4, 8)
    average = old.generator_ema
    expected = sum(
        share
        * before_activation(
            average, torch.cat([norm(z), norm(average.embedding(labels_of(grade)))], 1)
        )
        for grade, share in (("AA", 0.25), ("CB", 0.75))
    )
    close(before_activation(new.generator, norm(z)), expected)


def test_a_head_without_grades_becomes_the_score_without_grades():
    old, new = make(ramp_kimg=[1.0, 2.0]), make(seed=1, **NONE)
    take_over(new, saved(old))
    close(scores(new.discriminator), scores(old.discriminator, "AB")[:, 0])


def test_a_score_with_grades_becomes_the_head_without_them_by_their_mean():
    old, new = make(), make(seed=1, ramp_kimg=[1.0, 2.0])
    law(old, AA=1, CB=3)
    take_over(new, saved(old))
    mean = scores(old.discriminator, "AA") / 4 + scores(old.discriminator, "CB") * 3 / 4
    close(scores(new.discriminator, "AB")[:, 0], mean)


@BOTH
def test_a_grade_that_did_not_count_yet_is_not_in_the_mean(name):
    old, new = make(name, ramp_kimg=[2.0, 4.0]), make(name, seed=1, **NONE)
    take_over(new, saved(old, shown=1000))
    z, noise = drawn(4, 8), still(name)
    without = old.generator_ema(z, labels_of("AA"), condition=0.0, **noise)
    close(new.generator(z, **noise), without)


@BOTH
def test_embeddings_of_letters_become_those_of_pairs_and_back(name):
    letters, pairs = make(name), make(name, seed=1, factorised=False)
    take_over(pairs, saved(letters))
    again = make(name, seed=2)
    take_over(again, saved(pairs))
    for grade in ("AA", "BC", "DD"):
        for new in (pairs, again):
            close(images(new.generator, grade), images(letters.generator_ema, grade))
            close(scores(new.discriminator, grade), scores(letters.discriminator, grade))


# -- other images, other settings -----------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("there", [1, 3])
def test_grey_images_look_and_score_the_same_in_grey_and_rgb(name, there):
    here = 4 - there
    old, new = make(name, img_channels=there), make(name, seed=1, img_channels=here)
    take_over(new, saved(old))
    grey = images(old.generator_ema, "AB").mean(dim=1, keepdim=True)
    close(images(new.generator, "AB"), grey.expand(-1, here, -1, -1))
    close(
        scores(new.discriminator, "AB", channels=here),
        scores(old.discriminator, "AB", channels=there),
    )


@pytest.mark.parametrize("settings", [{}, NONE])
def test_a_mapping_of_another_rate_gives_the_same_w(settings):
    old = make("stylegan", mapping_lr_multiplier=0.1)
    law(old, AB=1)
    new = make("stylegan", seed=1, **settings)
    take_over(new, saved(old))
    close(images(new.generator, None if settings else "AB"), images(old.generator_ema, "AB"))


def test_a_mapping_of_another_depth_stays_as_it_was_built():
    new = make("stylegan", seed=1, mapping_layers=3)
    built = saved(new)["state_dict"]
    transfer = take_over(new, saved(make("stylegan")))
    state = new.state_dict()
    assert all(torch.equal(state[key], built[key]) for key in built if "mapping.layers" in key)
    assert "new: a mapping of 2 layers there" in str(transfer)


def test_of_another_architecture_the_discriminator_is_taken_alone():
    old, new = make("progan"), make("stylegan", seed=1)
    before = copy.deepcopy(new)
    transfer = take_over(new, saved(old))
    assert same_weights(new.generator, before.generator)
    assert same_weights(new.discriminator, old.discriminator)
    assert "of a ProGANModule: other filter" in str(transfer)
    assert transfer.total("generator", Kind.TAKEN, Kind.ADAPTED) == 0


def test_only_the_weights_of_the_averaged_generator_and_of_the_discriminator_are_taken():
    old, new = make(augment="bgc"), make(seed=1, augment="bgc")
    law(old, AA=5)
    built = saved(new, shown=0)["state_dict"]
    state = torch.get_rng_state()
    take_over(new, saved(old))
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


# -- what is said ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (("progan", {}), ("progan", {"resolution": 32, "img_channels": 3})),
        (("stylegan", NONE), ("stylegan", {"start_resolution": 16, "factorised": False})),
        (("progan", {"factorised": False}), ("progan", {"ramp_kimg": [0, 1]})),
        (("progan", {"latent_dim": 4}), ("progan", NONE)),
        (("stylegan", {"ramp_kimg": [0, 1], "w_dim": 4}), ("stylegan", NONE)),
        (("stylegan", {}), ("progan", {})),
        (("progan", {"channel_base": 128}), ("progan", {})),
    ],
)
def test_every_weight_of_both_sides_is_accounted_for(old, new):
    old, new = make(old[0], **old[1]), make(new[0], seed=1, **new[1])
    checkpoint = saved(old, resolution=8)
    transfer = take_over(new, checkpoint)
    for side in ("generator", "discriminator"):
        mine = sum(value.numel() for value in getattr(new, side).state_dict().values())
        assert transfer.total(side, Kind.TAKEN, Kind.ADAPTED, Kind.NEW) == mine
        assert f" of {mine:,} weights of the {side} come from the checkpoint" in str(transfer)
        used = {e.layer for e in transfer.entries if e.side == side and e.kind is not Kind.LEFT}
        left = {e.layer for e in transfer.entries if e.side == side and e.kind is Kind.LEFT}
        theirs = {key.rpartition(".")[0] for key in getattr(old, side).state_dict()}
        # a head may be taken over as the other one
        assert theirs - used - left <= {"score_unconditional"}
    assert all(e.why for e in transfer.entries if e.kind is not Kind.TAKEN)


def test_the_report_has_a_line_for_each_part_with_its_reason():
    lines = str(take_over(make(seed=1, resolution=32), saved(make(**NONE)))).splitlines()
    assert lines[0] == "the checkpoint is of a ProGANModule, trained to 16x16"
    named = {line[:28].strip(): line[28:].split(maxsplit=4) for line in lines}
    assert named["generator block 16"] == ["1,168", "-", "-", "-"]
    assert named["generator block 32"] == ["-", "-", "440", "-", "new: trained to 16x16 only"]
    assert named["generator input"][:4] == ["584", "1,032", "1,024", "-"]
    assert named["discriminator embedding"][4] == "new: no grades there: begins at 0"
