"""Help of the commands that train: one screen, then every option, without loading torch."""

from __future__ import annotations

import argparse
import inspect
import re

import pytest
from helpers.command import blastogan

from blastogan.callbacks.defaults import DEFAULT_CALLBACKS
from blastogan.cli.gan import BlastoganCLI
from blastogan.cli.grade import GradeCLI
from blastogan.cli.screens import SCREENS
from blastogan.modules import ARCHITECTURES


def printed(capsys, *args):
    assert blastogan(*args) == 0
    return capsys.readouterr().out


def named(text):
    return set(re.findall(r"^  --([\w.]+)", text, re.M))


@pytest.mark.parametrize("command", SCREENS)
def test_a_screen_fits_and_names_options_of_the_command(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    shown = printed(capsys, *command.split(), "--help")
    assert len(shown.splitlines()) <= 30
    assert max(map(len, shown.splitlines())) <= 80
    assert named(shown) <= named(printed(capsys, *command.split(), "--help", "all"))


class Parsed(Exception):
    """Carries the parser of a command."""


def options_of(kind, command, monkeypatch):
    """Options that a command parses, without those that links set."""

    def stop(self, parser, args):
        raise Parsed(parser)

    monkeypatch.setattr(kind, "parse_arguments", stop)
    with pytest.raises(Parsed) as found:
        kind([command, "--help"])
    (choices,) = (
        action.choices
        for action in found.value.args[0]._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    names = {name.lstrip("-").rstrip("+") for name in choices[command]._option_string_actions}
    return {name for name in names if ".schedule" not in name and not name.endswith("help")}


LINKED = {
    "fit": {
        *("data.seed", "model.init_args.resolution", "model.init_args.start_resolution"),
        *("model.init_args.img_channels", "model.init_args.generator_optimizer"),
        "model.init_args.discriminator_optimizer",
    },
    "grade fit": {"data.seed", "model.resolution", "model.img_channels"},
}
"""Options that the command line sets by others."""


def model_options():
    """Arguments of all architectures."""
    classes = {base for kind in ARCHITECTURES.values() for base in kind.__mro__}
    names = {name for each in classes for name in inspect.signature(each.__init__).parameters}
    return {f"model.init_args.{name}" for name in names - {"self", "args", "kwargs", "training"}}


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), [(BlastoganCLI, "fit"), (GradeCLI, "grade fit")])
def test_help_all_has_every_option_and_no_other(kind, name, capsys, monkeypatch):
    parsed = options_of(kind, "fit", monkeypatch)
    if kind is BlastoganCLI:
        parsed |= model_options()
    groups = {each.partition(".")[0] for each in parsed if "." in each} | set(DEFAULT_CALLBACKS)
    shown = named(printed(capsys, *name.split(), "--help", "all"))
    assert parsed - groups - LINKED[name] - {"h", "c"} == shown - {
        *("model", "verbose", "return_predictions")
    }


@pytest.mark.parametrize(
    ("args", "option"),
    [
        (["--help", "model"], "model.init_args.r1_gamma"),
        (["--model.help"], "model.init_args.r1_gamma"),
        (["--model.help", "StyleGANModule"], "model.init_args.w_dim"),
        (["--config", "demo", "--help=data"], "data.root"),
        (["-h", "trainer"], "trainer.precision"),
        (["--help", "r1_gam"], "model.init_args.r1_gamma"),
        (["--help", "half-life"], "model.init_args.ema_kimg"),
    ],
)
def test_a_group_or_a_word_is_found(args, option, capsys):
    shown = printed(capsys, "fit", *args)
    assert option in named(shown)
    assert "data.root" not in named(shown) or option == "data.root"


def test_a_word_that_no_option_has_is_refused_with_a_near_one(capsys):
    assert blastogan("fit", "--help", "r2_gamma") == 2
    assert "r1_gamma" in capsys.readouterr().err
