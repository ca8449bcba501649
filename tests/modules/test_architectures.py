"""What an architecture gets from the base class: options, registry, regulariser of G."""

from __future__ import annotations

import inspect

import pytest
import torch
from helpers.small_modules import MODULES
from helpers.steps import run_steps
from jsonargparse import ArgumentError, ArgumentParser

from blastogan import ProGANModule, StyleGANModule
from blastogan.errors import UserError
from blastogan.modules import ARCHITECTURES, BaseGANModule
from blastogan.modules.step.draws import SampleDraws

BASE = list(inspect.signature(BaseGANModule).parameters)
OWN = {
    "ProGANModule": [],
    "StyleGANModule": ["w_dim", "mapping_layers", "mapping_lr_multiplier", "style_mixing_prob"],
}
ALL = pytest.mark.parametrize("name", list(ARCHITECTURES))


@ALL
def test_the_command_line_knows_every_option_with_its_type_and_help(name):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(ARCHITECTURES[name], "model")
    actions = {a.dest[6:]: a for a in parser._actions if a.dest.startswith("model.")}
    assert set(actions) == {*BASE, *OWN[name]}
    assert all(action.help for action in actions.values())
    with pytest.raises(ArgumentError, match="loss"):
        parser.parse_object({"model": {"loss": "mse"}})


@ALL
def test_hyper_parameters_are_all_options(name):
    kind = ARCHITECTURES[name]
    sizes = {**dict(MODULES.values())[kind], "img_channels": 3}
    module = kind(16, **sizes)
    assert set(module.hparams) == {*BASE, *OWN[name]}
    assert {key: module.hparams[key] for key in sizes} == sizes
    assert module.hparams["start_resolution"] == (8 if kind is StyleGANModule else 4)
    assert module.generator.start_resolution == module.hparams["start_resolution"]
    assert module.generator.resolution == module.discriminator.resolution == 16


@ALL
def test_unknown_options_are_refused(name):
    with pytest.raises(TypeError, match="speed"):
        ARCHITECTURES[name](16, speed=2)


class Dimmed(ProGANModule):
    """Penalises bright fakes at every second step."""

    def generator_regularizer(self, fakes, part):
        assert len(fakes) == len(part.reals)
        return 10.0 * fakes.square().mean() if self.images_shown % 8 == 0 else None


def test_a_regularizer_of_the_generator_is_minimised_and_logged(make_module):
    plain = make_module()
    module = Dimmed(**plain.hparams)
    for network in ("generator", "generator_ema", "discriminator"):
        getattr(module, network).load_state_dict(getattr(plain, network).state_dict())
    logged, expected = run_steps(module, 2), run_steps(plain, 2)
    assert ["generator_regularizer" in terms for terms in logged] == [True, False]
    assert torch.equal(logged[0]["loss_g"], expected[0]["loss_g"])
    assert not torch.equal(logged[0]["grad_norm_g"], expected[0]["grad_norm_g"])
    assert torch.equal(logged[0]["grad_norm_d"], expected[0]["grad_norm_d"])
    labels = torch.zeros(4, 2, dtype=torch.int64)
    brightness = [
        each.generate_fakes(labels, SampleDraws(0, (), 0, 4, labels.device)).square().mean()
        for each in (module, plain)
    ]
    assert brightness[0] < brightness[1]


def test_the_base_class_alone_asks_for_an_architecture():
    with pytest.raises(UserError, match="class_path"):
        BaseGANModule()
