"""First screens of help: the options that matter of each command that trains or tests."""

from __future__ import annotations

from typing import NamedTuple


class Shown(NamedTuple):
    """An option as a screen shows it."""

    option: str
    value: str
    text: str


class Screen(NamedTuple):
    """A command with its purpose, its most common form, and the options that matter."""

    usage: str
    purpose: str
    options: tuple[Shown, ...]


_CONFIG = Shown("--config", "NAME", "preset or YAML file; of several, the last wins")
_SEED = Shown("--seed_everything", "N", "seed of weights, data and order (default: 0)")
_PRINT = Shown("--print_config", "", "print the whole configuration, and end")
_ROOT = Shown("--data.root", "FOLDER", "graded images; without it, phantoms are drawn")
_RUN = Shown("--run_dir", "FOLDER", "folder of the run (default: new, under runs/)")
_RESUME = Shown("--resume", "", "continue the run in --run_dir, or the newest")
_CHECKPOINT = Shown("--ckpt_path", "FILE", "checkpoint, such as RUN/checkpoints/last.ckpt")
_YES = Shown("--yes", "", "begin although a CPU will take days")
_DRY_RUN = Shown("--dry_run", "", "show phases, time, disk and memory, and end")
_DEVICES = Shown("--trainer.devices", "N", "number of devices (default: all GPUs)")
_EXTRACTOR = Shown("--fidelity.extractor", "NAME", "for FID and KID: auto (default), grader, none")
_WEIGHTS = Shown("--fidelity.weights", "FILE", "its weights, such as a grader's best.ckpt")

GENERAL = (
    _CONFIG,
    _PRINT,
    _SEED,
    _RUN,
    _RESUME,
    _YES,
    _DRY_RUN,
    Shown("--wandb", "MODE", "log to Weights & Biases: off, online or offline"),
    Shown("--recipe", "", "choose settings from the training images, and print why"),
    Shown("--scale_batch", "", "schedule.batch_size is that of one device, not of all"),
    _CHECKPOINT,
    Shown("--weights_only", "", "always true: checkpoints cannot run code"),
    Shown("--verbose", "", "with validate and test: print Lightning's table too"),
    Shown("--return_predictions", "", "with predict: always false, images are written at once"),
    Shown("--model", "CLASS", "ProGANModule or StyleGANModule, see --help model"),
    Shown("--generator_optimizer", "SETTINGS", "class_path and init_args of torch.optim"),
    Shown("--discriminator_optimizer", "SETTINGS", "likewise for the discriminator"),
)
"""Options that belong to no group; a command has those that make sense for it."""

SCREENS = {
    "fit": Screen(
        "blastogan fit --config demo --data.root FOLDER",
        "Train a ProGAN or a StyleGAN. Presets: demo (minutes on a CPU); progan,\n"
        "stylegan, paper-progan, paper-stylegan (for a GPU).",
        (
            _CONFIG,
            _ROOT,
            _RUN,
            _RESUME,
            _DRY_RUN,
            _YES,
            Shown("--recipe", "", "choose settings by the number of images"),
            Shown("--schedule.hold_kimg", "K", "thousands of images at each resolution"),
            Shown("--schedule.batch_size", "N", "images in a step, or a number by resolution"),
            Shown("--data.crop", "embryo", "crop around the embryo instead of the centre"),
            Shown("--data.val_fraction", "X", "share of the embryos held out (default: 0.1)"),
            Shown("--data.balance", "sqrt", "show rare grades more often"),
            Shown("--model.init_args.r1_gamma", "G", "weight of R1: first to try if it goes wrong"),
            Shown("--model.init_args.augment", "NAME", "grade-preserving helps with few images"),
            _EXTRACTOR,
            Shown("--checkpoints.keep_last", "N", "checkpoints kept besides best and phases"),
            Shown("--wandb", "MODE", "log to Weights & Biases: online or offline"),
            _DEVICES,
            _SEED,
            _PRINT,
        ),
    ),
    "validate": Screen(
        "blastogan validate --ckpt_path RUN/checkpoints/last.ckpt",
        "Compare generated images with the validation images of a run, whose settings and\n"
        "images are taken from its folder.",
        (_CHECKPOINT, _CONFIG, _ROOT, _DEVICES),
    ),
    "test": Screen(
        "blastogan test --ckpt_path RUN/checkpoints/last.ckpt",
        "Compare many generated images with the training images and the test images of a\n"
        "run, whose settings and images are taken from its folder.",
        (
            _CHECKPOINT,
            _EXTRACTOR,
            _WEIGHTS,
            Shown("--fidelity.num_test_fakes", "N", "images to generate (default: 50,000)"),
            _CONFIG,
            _ROOT,
            _DEVICES,
        ),
    ),
    "predict": Screen(
        "blastogan predict --ckpt_path RUN/checkpoints/last.ckpt --run_dir OUT",
        "Generate images on any number of devices; on one, blastogan generate is simpler.",
        (
            _CHECKPOINT,
            Shown("--run_dir", "OUT", "folder of the images (default: under runs/)"),
            Shown("--data.predict_count", "N", "images to generate (default: 100)"),
            Shown("--data.predict_grades", "G", "balanced (default), like-data, AB, AA:20,CC:5"),
            Shown("--data.predict_seed", "N", "seed of the images (default: 0)"),
            _CONFIG,
            _DEVICES,
        ),
    ),
    "grade fit": Screen(
        "blastogan grade fit --data.root FOLDER",
        "Train a network that reads grades. Its features serve FID and KID.",
        (
            _ROOT,
            Shown("--data.resolution", "R", "side of the images in pixels (default: 64)"),
            Shown("--data.batch_size", "N", "images in a step (default: 32)"),
            Shown("--trainer.max_epochs", "N", "epochs of --data.epoch_kimg (default: 10)"),
            Shown("--model.lr", "X", "learning rate of AdamW"),
            _RUN,
            _RESUME,
            _DEVICES,
            _SEED,
            _PRINT,
        ),
    ),
    "grade validate": Screen(
        "blastogan grade validate --ckpt_path RUN/checkpoints/best.ckpt",
        "Measure how well a grader reads the validation images of its run.",
        (_CHECKPOINT, _ROOT, _DEVICES),
    ),
    "grade test": Screen(
        "blastogan grade test --ckpt_path RUN/checkpoints/best.ckpt",
        "Measure how well a grader reads the test images of its run.",
        (_CHECKPOINT, _ROOT, _DEVICES),
    ),
}
"""Screens by command."""
