"""Training steps and samples of public GAN code, for the benchmarks to time next to ours.

Each adapter imports the code from a checkout given by the user, builds its networks with the widths
of a `Setting`, and runs its own training step. This file contains none of that code. It has its own
licences, which you have to keep (those of huangzh13 and NVIDIA are for non-commercial use only).
Tried on torch 2.14 with these commits:

========== ====================================================== =======
huangzh13  https://github.com/huangzh13/StyleGAN.pytorch          b1dfc47
rosinality https://github.com/rosinality/style-based-gan-pytorch  07fa60b
akanimax   https://github.com/akanimax/pro_gan_pytorch            6206613
gan-zoo    https://github.com/facebookresearch/pytorch_GAN_zoo    b75dee4
stylegan2  https://github.com/NVlabs/stylegan2-ada-pytorch        d72cc7d
========== ====================================================== =======

The checkouts are not changed: what current torch no longer accepts (integer betas, a missing
argument) is fixed from here.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import io
import math
import random
import sys
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from copy import deepcopy
from dataclasses import dataclass
from functools import partial, partialmethod
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Setting:
    """Sizes at which a training step is measured."""

    resolution: int
    batch: int
    channel_base: int
    channel_cap: int
    latent_dim: int
    device: torch.device
    img_channels: int = 3

    @property
    def resolutions(self) -> list[int]:
        """4, 8, ... up to the resolution of the images."""
        return [2**k for k in range(2, self.resolution.bit_length())]

    def width(self, resolution: int) -> int:
        """Channels at a resolution."""
        return min(2 * self.channel_base // resolution, self.channel_cap)

    def images(self) -> Tensor:
        """The batch of every step: noise in [-1, 1]."""
        shape = (self.batch, self.img_channels, self.resolution, self.resolution)
        return torch.rand(shape, device=self.device) * 2 - 1

    def latents(self) -> Tensor:
        """A fresh batch of latents."""
        return torch.randn(self.batch, self.latent_dim, device=self.device)


@dataclass(frozen=True)
class Peer:
    """One training step of public code on a fixed random batch."""

    step: Callable[[], None]
    """D step, regulariser, G step and EMA, on fully grown networks."""
    generator: nn.Module
    discriminator: nn.Module
    period: int
    """Steps after which the cost repeats: 1, or 16 with lazy regularisation."""
    sample: Callable[[], Tensor]
    """Draws a batch of images with the averaged generator; call it without gradients."""


@contextmanager
def checkout(path: Path) -> Iterator[None]:
    """Import from the checkout quietly; leave no trace in it or in `sys.modules`."""
    names = {entry.stem for entry in path.iterdir() if entry.is_dir() or entry.suffix == ".py"}

    def take_out() -> dict[str, ModuleType]:
        found = [name for name in sys.modules if name.partition(".")[0] in names]
        return {name: sys.modules.pop(name) for name in found}

    others, wrote_bytecode = take_out(), sys.dont_write_bytecode
    sys.path.insert(0, str(path))
    sys.dont_write_bytecode = True
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        sys.dont_write_bytecode = wrote_bytecode
        sys.path.remove(str(path))
        take_out()
        sys.modules.update(others)


def module(name: str) -> Any:
    """A module of the current checkout."""
    return importlib.import_module(name)


def float_adam(params: Any, *, betas: Any, **options: Any) -> torch.optim.Adam:
    """Adam with float betas: it no longer accepts an integer next to a float."""
    return torch.optim.Adam(params, betas=(float(betas[0]), float(betas[1])), **options)


def huangzh13(path: Path, setting: Setting) -> Peer:
    """StyleGAN with the logistic loss and R1 at every step, as in the authors' configurations.

    Styles are truncated during training, the default there. The discriminator needs equal widths at
    4x4 and 8x8.
    """
    blur = {"blur_filter": [1, 2, 1]}
    widths = {"fmap_base": setting.channel_base, "fmap_max": setting.channel_cap}
    mapping = {"mapping_layers": 8, "mapping_fmaps": setting.latent_dim}
    latent = {"latent_size": setting.latent_dim, "dlatent_size": setting.latent_dim}
    adam = {"learning_rate": 0.003, "beta_1": 0.0, "beta_2": 0.99, "eps": 1e-8}
    with checkout(path):
        gan = module("models.GAN")
        # the generator does not pass the size of styles on to its synthesis network
        gan.GSynthesis = partial(gan.GSynthesis, dlatent_size=setting.latent_dim)
        model = gan.StyleGAN(
            structure="linear",
            resolution=setting.resolution,
            num_channels=setting.img_channels,
            latent_size=setting.latent_dim,
            g_args={**latent, **mapping, **widths, **blur},
            d_args={**widths, **blur},
            g_opt_args=adam,
            d_opt_args=adam,
            loss="logistic",
            use_ema=True,
            device=setting.device,
        )
    images = setting.images()

    def step() -> None:
        latents = setting.latents()
        model.optimize_discriminator(latents, images, model.depth - 1, 1)
        model.optimize_generator(latents, images, model.depth - 1, 1)

    def sample() -> Tensor:
        images: Tensor = model.gen_shadow.eval()(setting.latents(), model.depth - 1, 1)
        return images

    return Peer(step, model.gen, model.dis, 1, sample)


def rosinality_networks(code: Any, setting: Setting) -> tuple[Any, Any]:
    """Generator and discriminator with widths of our choice; the code has constants."""
    latent, colours = setting.latent_dim, setting.img_channels
    width = {r: setting.width(r) for r in setting.resolutions}
    steps = [(r // 2, r, r >= 128) for r in setting.resolutions[1:]]
    generator, discriminator = code.StyledGenerator(latent), code.Discriminator()

    block = partial(code.StyledConvBlock, kernel_size=3, padding=1, style_dim=latent)
    blocks = [block(width[4], width[4], initial=True)]
    blocks += [block(width[a], width[b], upsample=True, fused=fused) for a, b, fused in steps]
    generator.generator.progression = nn.ModuleList(blocks)
    to_rgb = [code.EqualConv2d(width[r], colours, 1) for r in width]
    generator.generator.to_rgb = nn.ModuleList(to_rgb)

    block = partial(code.ConvBlock, kernel_size=3, padding=1)
    blocks = [block(width[b], width[a], downsample=True, fused=f) for a, b, f in reversed(steps)]
    blocks += [block(width[4] + 1, width[4], kernel_size2=4, padding2=0)]
    discriminator.progression, discriminator.n_layer = nn.ModuleList(blocks), len(blocks)
    from_rgb = [code.EqualConv2d(colours, width[r], 1) for r in reversed(width)]
    from_rgb = [nn.Sequential(convolution, nn.LeakyReLU(0.2)) for convolution in from_rgb]
    discriminator.from_rgb = nn.ModuleList(from_rgb)
    discriminator.linear = code.EqualLinear(width[4], 1)
    return generator.to(setting.device), discriminator.to(setting.device)


def rosinality(path: Path, setting: Setting) -> Peer:
    """StyleGAN with R1 at every step and style mixing; the step is ours, theirs is in a script."""
    with checkout(path):
        generator, discriminator = rosinality_networks(module("model"), setting)
    average = deepcopy(generator).eval()
    styles = {"params": generator.style.parameters(), "lr": 1e-5}
    synthesis = {"params": generator.generator.parameters()}
    g_optimizer = float_adam([synthesis, styles], lr=1e-3, betas=(0, 0.99))
    d_optimizer = float_adam(discriminator.parameters(), lr=1e-3, betas=(0, 0.99))
    images, grown = setting.images(), {"step": len(setting.resolutions) - 1, "alpha": 1}

    def fake_scores(mixed: int) -> Any:
        codes = [setting.latents() for _ in range(mixed)]
        return discriminator(generator(codes, **grown), **grown)

    def step() -> None:
        mixed = 2 if random.random() < 0.9 else 1
        generator.requires_grad_(False)
        discriminator.requires_grad_(True).zero_grad()
        real = images.detach().requires_grad_()
        scores = discriminator(real, **grown)
        F.softplus(-scores).mean().backward(retain_graph=True)
        (slopes,) = torch.autograd.grad(scores.sum(), real, create_graph=True)
        penalty = 5 * slopes.flatten(1).norm(dim=1).square().mean()
        penalty.backward()
        F.softplus(fake_scores(mixed)).mean().backward()
        d_optimizer.step()

        generator.requires_grad_(True).zero_grad()
        discriminator.requires_grad_(False)
        F.softplus(-fake_scores(mixed)).mean().backward()
        g_optimizer.step()
        with torch.no_grad():
            for mean, value in zip(average.parameters(), generator.parameters(), strict=True):
                mean.mul_(0.999).add_(value, alpha=0.001)

    return Peer(step, generator, discriminator, 1, lambda: average([setting.latents()], **grown))


@contextmanager
def akanimax_imports() -> Iterator[None]:
    """Provide a name that the package forgets to import, and TensorBoard if it is missing."""
    name, absent = "torch.utils.tensorboard", importlib.util.find_spec("tensorboard") is None
    vars(builtins)["Tuple"] = typing.Tuple  # noqa: UP006
    if absent:
        sys.modules[name] = ModuleType(name)
        vars(sys.modules[name])["SummaryWriter"] = None
    try:
        yield
    finally:
        del vars(builtins)["Tuple"]
        if absent:
            del sys.modules[name]


def akanimax(path: Path, setting: Setting) -> Peer:
    """ProGAN with WGAN-GP; the average is updated between the two steps, as in its loop."""
    package, size = "pro_gan_pytorch", (setting.img_channels, setting.latent_dim)
    depth = int(math.log2(setting.resolution))
    with checkout(path), akanimax_imports():
        networks, layers = module(f"{package}.networks"), module(f"{package}.custom_layers")
        gan, losses = module(f"{package}.gan"), module(f"{package}.losses")
        widths = {"fmap_base": setting.channel_base, "fmap_max": setting.channel_cap}
        networks.nf = partial(networks.nf, **widths)
        # torch has since added an argument to this method
        padding = partialmethod(nn.ConvTranspose2d._output_padding, num_spatial_dims=2)
        layers.EqualizedConvTranspose2d._output_padding = padding
        pair = networks.Generator(depth, *size), networks.Discriminator(depth, *size)
        model = gan.ProGAN(*pair, device=setting.device)
    g_optimizer = float_adam(model.gen.parameters(), lr=0.003, betas=(0, 0.99))
    d_optimizer = float_adam(model.dis.parameters(), lr=0.003, betas=(0, 0.99))
    loss, images = losses.WganGP(), setting.images()

    def step() -> None:
        latents = setting.latents()
        model.optimize_discriminator(loss, d_optimizer, latents, images, depth, 1)
        gan.update_average(model.gen_shadow, model.gen, beta=model.ema_beta)
        model.optimize_generator(loss, g_optimizer, latents, images, depth, 1)

    return Peer(
        step, model.gen, model.dis, 1, lambda: model.gen_shadow(setting.latents(), depth, 1)
    )


def gan_zoo(path: Path, setting: Setting) -> Peer:
    """ProGAN with WGAN-GP and the defaults of its configuration."""
    with checkout(path):
        progressive_gan = module("models.progressive_gan")
        progressive_gan.optim = SimpleNamespace(Adam=float_adam)
        model = progressive_gan.ProgressiveGAN(
            dimLatentVector=setting.latent_dim,
            depthScale0=setting.width(4),
            perChannelNormalization=True,
            miniBatchStdDev=True,
            dimOutput=setting.img_channels,
            useGPU=setting.device.type == "cuda",
            lossMode="WGANGP",
            lambdaGP=10.0,
            epsilonD=0.001,
        )
        for resolution in setting.resolutions[1:]:  # alpha stays 0, which means fully grown here
            model.addScale(setting.width(resolution))
    images = setting.images()

    def step() -> None:
        model.optimizeParameters(images)

    networks = model.getOriginalG(), model.getOriginalD()
    return Peer(step, *networks, 1, lambda: model.getOriginalAvgG()(setting.latents()))


def lazy_adam(network: nn.Module, interval: int) -> torch.optim.Adam:
    """Adam corrected for the extra steps of lazy regularisation."""
    share = interval / (interval + 1)
    return float_adam(network.parameters(), lr=0.002 * share, betas=(0, 0.99**share))


def stylegan2(path: Path, setting: Setting) -> Peer:
    """StyleGAN2 in float32 without augmentation: its networks and loss in our loop."""
    image = {"img_resolution": setting.resolution, "img_channels": setting.img_channels, "c_dim": 0}
    latent = {"z_dim": setting.latent_dim, "w_dim": setting.latent_dim}
    widths = {"channel_base": 2 * setting.channel_base, "channel_max": setting.channel_cap}
    widths["num_fp16_res"] = 0
    with checkout(path):
        networks, losses = module("training.networks"), module("training.loss")
        depth = {"mapping_kwargs": {"num_layers": 8}}
        generator = networks.Generator(**latent, **image, **depth, synthesis_kwargs=widths)
        grouped = {"epilogue_kwargs": {"mbstd_group_size": 4}}
        discriminator = networks.Discriminator(**image, **widths, **grouped)
        generator = generator.requires_grad_(False).to(setting.device)
        discriminator = discriminator.requires_grad_(False).to(setting.device)
        average = deepcopy(generator).eval()
        parts = generator.mapping, generator.synthesis, discriminator
        loss = losses.StyleGAN2Loss(setting.device, *parts, r1_gamma=10, pl_weight=2)
    g_optimizer, d_optimizer = lazy_adam(generator, 4), lazy_adam(discriminator, 16)
    images, labels = setting.images(), torch.zeros(setting.batch, 0, device=setting.device)
    phases = {
        "Gmain": (generator, g_optimizer, 1),
        "Greg": (generator, g_optimizer, 4),
        "Dmain": (discriminator, d_optimizer, 1),
        "Dreg": (discriminator, d_optimizer, 16),
    }
    decay, done = 0.5 ** (setting.batch / 10_000), 0

    def run_phase(name: str, interval: int) -> None:
        network, optimizer, _ = phases[name]
        optimizer.zero_grad(set_to_none=True)
        network.requires_grad_(True)
        batch = (images, labels, setting.latents(), labels)
        loss.accumulate_gradients(name, *batch, sync=True, gain=interval)
        network.requires_grad_(False)
        for parameter in network.parameters():
            if parameter.grad is not None:
                torch.nan_to_num_(parameter.grad, nan=0.0, posinf=1e5, neginf=-1e5)
        optimizer.step()

    def step() -> None:
        nonlocal done
        for name, (_, _, interval) in phases.items():
            if done % interval == 0:
                run_phase(name, interval)
        for mean, value in zip(average.parameters(), generator.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)
        for mean, value in zip(average.buffers(), generator.buffers(), strict=True):
            mean.copy_(value)
        done += 1

    return Peer(step, generator, discriminator, 16, lambda: average(setting.latents(), labels))


PEERS: dict[str, Callable[[Path, Setting], Peer]] = {
    "huangzh13": huangzh13,
    "rosinality": rosinality,
    "akanimax": akanimax,
    "gan-zoo": gan_zoo,
    "stylegan2": stylegan2,
}

# a file of each checkout, and a definition in it
MARKS = {
    "huangzh13": ("models/GAN.py", "class StyleGAN"),
    "rosinality": ("model.py", "class StyledGenerator"),
    "akanimax": ("pro_gan_pytorch/gan.py", "class ProGAN"),
    "gan-zoo": ("models/progressive_gan.py", "class ProgressiveGAN"),
    "stylegan2": ("training/loss.py", "class StyleGAN2Loss"),
}


def load_peer(name: str, path: Path, setting: Setting) -> Peer:
    """The training step of a peer, from its checkout.

    Raises:
        SystemExit: If the peer is unknown, or the path is not a checkout of it.
    """
    if name not in PEERS:
        raise SystemExit(f"unknown peer {name!r}: expected one of {', '.join(PEERS)}")
    file, definition = MARKS[name]
    marked = path / file
    if not marked.is_file() or definition not in marked.read_text(encoding="utf-8"):
        raise SystemExit(
            f"{path} is not a checkout of {name}: {file} with {definition!r} is missing"
        )
    return PEERS[name](path.resolve(), setting)
