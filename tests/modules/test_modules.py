from __future__ import annotations

import pytest
import torch
from helpers.small_modules import MODULES, same_weights

from blastogan import Grade, ProGANModule, StyleGANModule
from blastogan.errors import UserError
from blastogan.generators.latents import grade_labels
from blastogan.grades import CLASSES
from blastogan.modules import load_module
from blastogan.modules.step.draws import SampleDraws
from blastogan.modules.step.optimizers import build_optimizer
from blastogan.modules.step.passes import Pass, score_both

BOTH = pytest.mark.parametrize("name", list(MODULES))


def weights():
    return [torch.nn.Parameter(torch.zeros(2))]


@BOTH
def test_a_run_trains_both_networks_and_moves_the_average(
    name, make_module, make_data, make_trainer, schedule
):
    module, before = make_module(name), make_module(name)
    make_trainer().fit(module, make_data())
    assert module.images_shown == schedule.total_images == 160
    for part in ("generator", "discriminator", "generator_ema"):
        mine, theirs = getattr(module, part), getattr(before, part)
        pairs = zip(mine.parameters(), theirs.parameters(), strict=True)
        moved = [not torch.equal(a, b) for a, b in pairs]
        assert sum(moved) > 0.9 * len(moved), part
    assert not same_weights(module.generator, module.generator_ema)
    assert int(module.grade_counts.sum()) == 160


@BOTH
def test_samples_belong_to_their_seed_and_number_alone(name, make_module):
    module = make_module(name)
    state = torch.get_rng_state()
    many = module.generate(6, grade="AB", seed=3, batch_size=4)
    assert many.dtype == torch.uint8
    assert many.shape == (6, 1, 16, 16)
    few = module.generate(2, grade="AB", seed=3)
    assert (few.int() - many[:2].int()).abs().max() <= 1
    assert not torch.equal(many[0], many[1])
    assert not torch.equal(module.generate(2, grade="AB", seed=4), few)
    assert torch.equal(torch.get_rng_state(), state)


def test_grades_are_one_for_all_one_per_image_or_drawn_by_the_class_distribution(make_module):
    module = make_module()
    each = module.generate(2, grade=["AB", Grade.parse("DD")])
    assert torch.equal(each[:1], module.generate(1, grade="AB"))
    assert not torch.equal(each[1:], module.generate(2, grade="AB")[1:])
    module.grade_counts[Grade.parse("CC").labels] = 5
    labels = grade_labels(20, None, 0, module.class_weights())
    assert labels.tolist() == [[2, 2]] * 20
    assert torch.equal(module.generate(2), module.generate(2, "CC"))
    assert module.class_weights() == {name: 5.0 * (name == "CC") for name in CLASSES}
    with pytest.raises(UserError, match="2 grades for 3 images"):
        module.generate(3, grade=["AA", "BB"])
    with pytest.raises(UserError, match="unknown grade"):
        module.generate(1, grade="XY")
    with pytest.raises(UserError, match="cannot generate 0"):
        module.generate(0)


def test_truncation_narrows_stylegan_and_is_refused_by_progan(make_module):
    module = make_module("stylegan")
    wide, none = module.generate(8, "AA"), module.generate(8, "AA", truncation_psi=0.0)
    assert none.float().var(dim=0).mean() < wide.float().var(dim=0).mean()
    with pytest.raises(UserError, match="truncation"):
        make_module().generate(1, truncation_psi=0.7)


def test_truncation_keeps_grades_apart(make_module):
    module = make_module("stylegan")
    images = module.generate(4, ["AA", "DD", "AA", "DD"], truncation_psi=0.0)
    assert torch.equal(images[0], images[2])
    assert torch.equal(images[1], images[3])
    assert not torch.equal(images[0], images[1])


@BOTH
def test_sampling_moves_everything_to_the_device_of_the_module(name, make_module):
    # a device without memory shows on any machine whether a tensor was left behind
    module = make_module(name).to("meta")
    images = module.sample([0, 1], torch.zeros(2, 2, dtype=torch.int64), seed=0)
    assert images.device.type == "meta"
    assert images.shape == (2, 1, 16, 16)


def test_an_unconditional_module_needs_no_grade(make_module):
    module = make_module(conditional=False)
    assert torch.equal(module.generate(2, "AA"), module.generate(2, "DD"))


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": "wgan"},
        {"loss": "hinge", "regularizer": "none"},
        {"regularizer": "gradient_penalty", "loss": "wgan"},
        {"generator_optimizer": {"class_path": "RMSprop", "init_args": {"lr": 0.01}}},
        {"conditional": False, "img_channels": 3},
    ],
)
def test_every_option_trains(settings, make_module, make_data, make_trainer):
    module = make_module(**settings)
    data = make_data(img_channels=settings.get("img_channels", 1))
    make_trainer(max_epochs=1).fit(module, data)
    assert module.images_shown == 32
    assert all(p.isfinite().all() for p in module.parameters())


def test_r1_takes_its_turn_by_images_shown(make_module):
    module = make_module(r1_interval=4)
    turns = []
    for shown in range(0, 96, 8):
        module.images_shown = shown
        turns.append(module.takes_r1(8))
    assert turns == [True, False, False, False] * 3
    assert module.gamma_at(256, 16) == pytest.approx(0.0002 * 256**2 / 16)
    assert module.gamma_at(16, 4) == 0.5
    assert make_module(r1_gamma=7.0).gamma_at(16, 4) == 7.0


@pytest.mark.parametrize("interval", [1, 4])
def test_lazy_r1_weighs_the_same_on_average(interval, make_module, make_data, make_trainer):
    module = make_module(r1_interval=interval, r1_gamma=3.0)
    reals = torch.rand(4, 1, 16, 16)
    fakes, labels = torch.rand(4, 1, 16, 16), torch.zeros(4, 2, dtype=torch.int64)
    terms, total = module._discriminator_loss(Pass(reals, labels, 0, labels), fakes, 4)
    penalty = (total - terms["loss_d"]).item()
    assert penalty == pytest.approx(3.0 * interval * terms["r1"].item(), rel=1e-4)


def test_reals_are_cross_faded_as_the_discriminator_sees_them(make_module):
    module = make_module()
    images = torch.randint(256, (2, 1, 16, 16), dtype=torch.uint8)
    sharp = images.float() / 127.5 - 1
    assert torch.equal(module.prepare_reals(images), sharp)
    module.alpha = 0.0
    blocks = sharp.view(2, 1, 8, 2, 8, 2).mean(dim=(3, 5))
    soft = blocks.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(module.prepare_reals(images), soft)
    module.alpha = 0.25
    torch.testing.assert_close(module.prepare_reals(images), 0.75 * soft + 0.25 * sharp)
    module.resolution, module.alpha = 8, 0.5
    first = images[:, :, :8, :8]
    assert torch.equal(module.prepare_reals(first), first.float() / 127.5 - 1)


def test_style_mixing_uses_two_latents_as_often_as_asked(make_module, monkeypatch):
    import blastogan.modules.stylegan as home

    seen = []
    mix = home.mix_styles
    monkeypatch.setattr(home, "mix_styles", lambda *args: seen.append(args) or mix(*args))
    for prob, expected in ((0.0, 0.0), (1.0, 1.0), (0.5, 0.5)):
        module = make_module("stylegan", style_mixing_prob=prob)
        draws = SampleDraws(0, (), 0, 400, torch.device("cpu"))
        module.generate_fakes(torch.zeros(400, 2, dtype=torch.int64), draws)
        _, _, crossover, layers = seen[-1]
        share = (crossover < layers).float().mean().item()
        assert share == pytest.approx(expected, abs=0.1)
        assert crossover.min() >= 1


@BOTH
def test_a_checkpoint_brings_back_weights_and_growth(
    name, make_module, make_data, make_trainer, tmp_path
):
    module = make_module(name)
    make_trainer(max_epochs=2).fit(module, make_data())
    path = tmp_path / "run/checkpoints/last.ckpt"
    for loaded in (type(module).load_from_checkpoint(path), load_module(path)):
        assert same_weights(loaded, module)
        assert (loaded.images_shown, loaded.resolution, loaded.alpha) == (64, 16, 0.5)
        assert torch.equal(loaded.generate(2, "AA"), module.generate(2, "AA"))
        assert loaded.class_weights() == module.class_weights()


def test_checkpoints_hold_tensors_and_plain_values_only(
    make_module, make_data, make_trainer, tmp_path
):
    make_trainer(max_epochs=1).fit(make_module(), make_data())
    loaded = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert loaded["blastogan"]["architecture"] == "ProGANModule"
    assert loaded["hyper_parameters"]["latent_dim"] == 8


def test_wrong_checkpoints_are_refused(make_module, make_data, make_trainer, tmp_path):
    make_trainer(max_epochs=1).fit(make_module(), make_data())
    path = tmp_path / "run/checkpoints/last.ckpt"
    with pytest.raises(UserError, match="holds a ProGANModule, not a StyleGANModule"):
        StyleGANModule.load_from_checkpoint(path)
    with pytest.raises(UserError, match="no checkpoint at"):
        ProGANModule.load_from_checkpoint(tmp_path / "absent.ckpt")
    broken = tmp_path / "broken.ckpt"
    broken.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot read the checkpoint"):
        load_module(broken)
    torch.save({"state_dict": {}}, broken)
    with pytest.raises(UserError, match="checkpoint of blastogan"):
        load_module(broken)
    other = make_module(channel_cap=4)
    with pytest.raises(UserError, match="channel_cap is 8 in the checkpoint and 4"):
        other.on_load_checkpoint(torch.load(path, weights_only=True))


class Bomb:
    def __reduce__(self):
        import pathlib

        return pathlib.Path.touch, (pathlib.Path("exploded"),)


def test_a_checkpoint_that_runs_code_is_refused_and_does_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"blastogan": Bomb()}, tmp_path / "bomb.ckpt")
    with pytest.raises(UserError, match="not loaded for safety"):
        load_module(tmp_path / "bomb.ckpt")
    assert not (tmp_path / "exploded").exists()


def test_optimizers_are_any_of_torch_optim_and_nothing_else():
    default = build_optimizer(None, weights())
    assert isinstance(default, torch.optim.Adam)
    assert default.defaults["betas"] == (0.0, 0.99)
    settings = {"class_path": "torch.optim.AdamW", "init_args": {"betas": [0, 0.9]}}
    assert build_optimizer(settings, weights()).defaults["betas"] == (0.0, 0.9)
    for path in ("os.system", "torch.optim.lr_scheduler.StepLR", "evil.Adam", ""):
        with pytest.raises(UserError, match=r"torch\.optim"):
            build_optimizer({"class_path": path}, weights())
    with pytest.raises(UserError, match="refuses"):
        build_optimizer({"class_path": "Adam", "init_args": {"speed": 1}}, weights())


def test_wrong_settings_are_refused(make_module):
    with pytest.raises(UserError, match="loss"):
        make_module(loss="mse")
    with pytest.raises(UserError, match="r1_interval"):
        make_module(r1_interval=0)
    with pytest.raises(UserError, match="r1_gamma"):
        make_module(r1_gamma=-1)


@pytest.mark.parametrize("batch", [2, 4, 8])
def test_scoring_both_at_once_mixes_no_statistics(batch, make_module):
    module = make_module()
    labels = torch.zeros(batch, 2, dtype=torch.int64)
    reals, fakes = torch.randn(2, batch, 1, 16, 16)
    real, fake = score_both(
        module._score,
        reals,
        fakes,
        Pass(reals, labels, 0, labels),
        module.discriminator.stddev_group,
    )
    torch.testing.assert_close(real, module._score(reals, labels))
    torch.testing.assert_close(fake, module._score(fakes, labels))


def test_a_module_prints_its_state_first(make_module):
    assert "resolution=16 of 16, alpha=1, images_shown=0" in repr(make_module()).splitlines()[1]
