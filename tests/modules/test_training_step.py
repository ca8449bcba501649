"""The training step: its numbers are those of the plain formulas, and it does nothing twice."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from helpers.steps import ARCHITECTURES, batches, run_steps
from lightning_fabric import Fabric
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from blastogan.augment import OPERATIONS
from blastogan.callbacks import TF32
from blastogan.modules.step.draws import SampleDraws
from blastogan.modules.step.freezing import frozen
from blastogan.networks import layers, progan, progressive, stylegan, synthesis

ALL = dict.fromkeys(OPERATIONS, 1.0)
FEW_IMAGES = {"augment": ALL, "ramp_kimg": [0, 1]}
CHEAP = {"augment": "diffaugment", "fake_labels": "balanced"}


# -- the same numbers as the plain formulas ------------------------------------------------------


def plain_convolution(self, features):
    weight = self.weight * self.scale
    if self.resample == "up":
        features = F.conv2d(F.interpolate(features, scale_factor=2), weight, padding=1)
        features = features if self.blur is None else self.blur(features)
    elif self.resample == "down":
        features = features if self.blur is None else self.blur(features)
        features = F.avg_pool2d(F.conv2d(features, weight, padding=1), 2)
    else:
        features = F.conv2d(features, weight, padding=self.padding)
    return features if self.bias is None else features + self.bias.view(1, -1, 1, 1)


def plain_pixel_norm(self, features):
    return features / (features.pow(2).mean(dim=1, keepdim=True) + self.EPS).sqrt()


def plain_adain(self, features, w):
    scale, mean = self.affine(w)[:, :, None, None].chunk(2, dim=1)
    centred = features - features.mean(dim=(2, 3), keepdim=True)
    deviation = (centred.pow(2).mean(dim=(2, 3), keepdim=True) + self.EPS).sqrt()
    return centred / deviation * (scale + 1) + mean


def plain_noise(self, features, noise):
    if noise is None:
        noise = torch.randn(len(features), 1, *features.shape[2:])
    return features + self.strength.view(1, -1, 1, 1) * noise


@pytest.fixture
def plainly(monkeypatch):
    """Networks that compute their layers by the formulas of the papers, one operation each."""

    def patch():
        monkeypatch.setattr(layers.EqualizedConv2d, "forward", plain_convolution)
        monkeypatch.setattr(layers.PixelNorm, "forward", plain_pixel_norm)
        monkeypatch.setattr(synthesis.AdaIN, "forward", plain_adain)
        monkeypatch.setattr(synthesis.NoiseInput, "forward", plain_noise)
        for home in (progan, progressive, stylegan, synthesis):
            monkeypatch.setattr(
                home, "activation", lambda features: F.leaky_relu(features, layers.LEAKY_SLOPE)
            )

    return patch


def losses_and_gradients(make_module, name, alpha):
    """What two steps log, the first with R1, and all gradients after each."""
    module = make_module(
        name,
        r1_interval=2,
        r1_gamma=1.0,
        channel_base=256,
        channel_cap=32,
        # weights stay: else those of the second step would follow from rounding in the first
        generator_optimizer={"class_path": "SGD", "init_args": {"lr": 0.0}},
        discriminator_optimizer={"class_path": "SGD", "init_args": {"lr": 0.0}},
    )
    module.alpha = alpha
    prepare = module.prepare_reals
    module.prepare_reals = lambda images: prepare(images).to(torch.get_default_dtype())
    torch.manual_seed(3)
    for weights in module.generator.parameters():
        weights.data.add_(0.1 * torch.randn_like(weights))
    found = []

    def look():
        for network in (module.generator, module.discriminator):
            found.append([p.grad.clone() for p in network.parameters() if p.grad is not None])

    return run_steps(module, 2, after=look), found


@pytest.mark.parametrize("alpha", [1.0, 0.3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_losses_and_gradients_are_those_of_the_plain_formulas(
    name, dtype, alpha, make_module, plainly, monkeypatch
):
    tolerance = 1e-9
    if dtype == torch.float32:
        # at a kink, a rounding flips a gradient
        monkeypatch.setattr(layers, "LEAKY_SLOPE", 0.9999)
        tolerance = 1e-4
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        logged, found = losses_and_gradients(make_module, name, alpha)
        plainly()
        expected_logged, expected = losses_and_gradients(make_module, name, alpha)
    finally:
        torch.set_default_dtype(before)
    assert "r1" in logged[0]
    assert "r1" not in logged[1]
    for mine, theirs in zip(logged, expected_logged, strict=True):
        assert {k: v.item() for k, v in mine.items()} == pytest.approx(
            {k: v.item() for k, v in theirs.items()}, rel=tolerance, abs=tolerance
        )
    for mine, theirs in zip(found, expected, strict=True):
        assert len(mine) == len(theirs) > 10
        assert {gradient.dtype for gradient in mine} == {dtype}
        whole = torch.cat([gradient.flatten() for gradient in theirs]).norm()
        for gradient, plain in zip(mine, theirs, strict=True):
            assert (gradient - plain).norm() <= tolerance * (plain.norm() + 0.1 * whole)


def test_statistics_are_taken_in_float32_under_autocast():
    features = 30 + 0.1 * torch.randn(2, 8, 16, 16)
    adain = synthesis.AdaIN(8, 4)
    norm = layers.PixelNorm()
    rounded = features.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        styled, normed = adain(rounded, torch.zeros(2, 4)), norm(rounded)
    assert styled.dtype == normed.dtype == torch.bfloat16
    # what is left is the rounding of the input and the result, not of sums
    exact = adain(rounded.float(), torch.zeros(2, 4))
    torch.testing.assert_close(styled.float(), exact, rtol=0.01, atol=0.01)
    torch.testing.assert_close(normed.float(), norm(rounded.float()), rtol=0.01, atol=0)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_networks_return_float32_under_autocast(name, make_module):
    module = make_module(name)
    labels = torch.zeros(4, 2, dtype=torch.int64)
    with torch.autocast("cpu", torch.bfloat16):
        images = module.generate_fakes(labels, SampleDraws(0, (), 0, 4, labels.device))
        logits = module.discriminator(images, labels)
    assert images.dtype == logits.dtype == torch.float32
    # with the eight bits of bfloat16 they would not change
    assert not torch.equal(images, images.bfloat16().float())
    assert not torch.equal(logits, logits.bfloat16().float())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_bfloat16_trains_every_weight_that_float32_trains(
    name, make_module, make_data, make_trainer
):
    trained = []
    for precision in ("32-true", "bf16-mixed"):
        module = make_module(name, reuse_fakes=False)
        make_trainer(max_epochs=1, precision=precision).fit(module, make_data())
        trained.append({n for n, p in module.named_parameters() if p.grad is not None})
    assert trained[0] == trained[1]


# -- nothing twice, nothing in vain --------------------------------------------------------------


class Waiting(TorchDispatchMode):
    """Notes operations for which a program waits until the device has computed a value."""

    NAMES = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "is_nonzero", "equal")

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ in self.NAMES:
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("settings", [{}, {"regularizer": "gradient_penalty"}, FEW_IMAGES, CHEAP])
def test_a_step_never_waits_for_the_device(name, settings, make_module):
    module = (
        make_module(name, r1_interval=2, style_mixing_prob=0.5, **settings)
        if (name == "stylegan")
        else make_module(name, r1_interval=2, **settings)
    )
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.setup(module, *module.configure_optimizers())
    steps = list(batches(2))
    with Waiting() as mode:
        for batch in steps:
            module.training_step(batch, 0)
    assert not mode.found


@pytest.mark.parametrize(("reuse", "passes"), [(True, 1), (False, 2)])
def test_fakes_are_made_once_for_both_networks_or_anew(reuse, passes, make_module):
    module = make_module(reuse_fakes=reuse)
    calls = []
    module.generator.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    run_steps(module, 3)
    assert calls == ([True] if passes == 1 else [False, True]) * 3


def test_both_networks_see_the_same_fakes_when_they_are_reused(make_module):
    module = make_module(r1_interval=100, reuse_fakes=True)
    module.images_shown = 4  # not R1's turn: reals and fakes are scored together
    seen = []
    module.discriminator.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    run_steps(module, 1)
    both, fakes = seen
    assert torch.equal(both[len(fakes) :], fakes)


def test_the_smallest_networks_train(make_module):
    module = make_module(resolution=4, start_resolution=4)
    run_steps(module, 2, resolution=4)
    assert module.images_shown == 8


def test_the_generators_step_leaves_the_discriminator_alone(make_module):
    module = make_module(discriminator_optimizer={"class_path": "SGD", "init_args": {"lr": 0.0}})
    taken = []
    backward = module.manual_backward

    def watch(loss):
        module_backward(loss)
        taken.append([copy.copy(p.grad) for p in module.discriminator.parameters()])

    module_backward, module.manual_backward = backward, watch
    run_steps(module, 1)
    first, second = taken
    for before, after in zip(first, second, strict=True):
        assert before is None or torch.equal(before, after)


def test_a_frozen_network_gets_back_what_was_trained_before(make_module):
    network = make_module().discriminator
    network.score.requires_grad_(False)
    before = [p.requires_grad for p in network.parameters()]
    with frozen(network):
        assert not any(p.requires_grad for p in network.parameters())
    assert [p.requires_grad for p in network.parameters()] == before
    with pytest.raises(RuntimeError, match="broken"), frozen(network):
        raise RuntimeError("broken")
    assert [p.requires_grad for p in network.parameters()] == before


def test_layers_keep_one_tensor_each_for_the_backward_pass(make_module):
    discriminator = make_module(resolution=32, channel_base=512, channel_cap=16).discriminator
    images = torch.rand(4, 1, 32, 32)
    weights = {p.data_ptr() for p in discriminator.parameters()}
    kept = {}

    def keep(tensor):
        if tensor.dim() == 4 and tensor.data_ptr() not in weights and len(tensor) == len(images):
            kept[tensor.data_ptr()] = tensor
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        discriminator(images, torch.zeros(4, 2, dtype=torch.int64))
    # from_rgb, then two to each block and two to the head
    sizes = [32**2, *(side**2 for r in (32, 16, 8) for side in (r, r // 2)), 4**2, 1]
    features = sum(16 * size * len(images) for size in sizes)
    assert sum(tensor.numel() for tensor in kept.values()) <= 1.1 * features + images.numel()


# -- torch.compile -------------------------------------------------------------------------------


@pytest.fixture
def traced(monkeypatch):
    """`torch.compile` that traces and differentiates as always, but generates no code."""
    compile_ = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda network, mode: compile_(network, backend="aot_eager")
    )
    torch._dynamo.reset()
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        yield torch._dynamo.utils.counters
    torch._dynamo.reset()


@pytest.mark.slow(seconds=12)
def test_compiled_steps_are_plain_ones(traced, make_module):
    # R1 in the first; the fourth begins another stage
    alphas = [0.4, 0.5, 0.6, 1.0]
    small = {"resolution": 8, "start_resolution": 4, "mapping_layers": 1, "r1_interval": 8}
    ends, graphs = [], []
    for mode in ("off", "default"):
        module = make_module("stylegan", compile_mode=mode, **small)
        coming = iter([*alphas[1:], 1.0])
        module.alpha = alphas[0]

        def go_on(module=module, coming=coming):
            module.alpha = next(coming)
            graphs.append(traced["stats"]["unique_graphs"])

        ends.append(run_steps(module, len(alphas), after=go_on, resolution=8))
        assert module._compiler.active == (mode == "default")
    # the third step has another alpha than the second, and nothing to compile
    assert 0 < graphs[-4] < graphs[-3] == graphs[-2] < graphs[-1]
    assert not traced["graph_break"]
    for plain, compiled in zip(*ends, strict=True):
        assert {k: v.item() for k, v in compiled.items()} == pytest.approx(
            {k: v.item() for k, v in plain.items()}, rel=1e-3, abs=1e-4
        )


def test_training_continues_when_the_compiler_fails(make_module, monkeypatch, caplog):
    from torch._dynamo.exc import TorchDynamoException

    def fail(network, mode):
        def call(*args, **kwargs):
            raise TorchDynamoException("no C++ compiler\nat length")

        return call

    monkeypatch.setattr(torch, "compile", fail)
    module = make_module(compile_mode="default")
    run_steps(module, 2)
    (message,) = [r.message for r in caplog.records if "compile" in r.message]
    assert message.endswith("no C++ compiler")
    assert module.images_shown == 8


def test_unknown_modes_of_compilation_are_refused(make_module):
    from blastogan.errors import UserError

    with pytest.raises(UserError, match="compile_mode"):
        make_module(compile_mode="fast")


# -- precision of float32 on CUDA ----------------------------------------------------------------


@pytest.mark.parametrize("tf32", [True, False])
def test_tf32_is_set_for_a_run_and_given_back(tf32, make_module, make_data, make_trainer):
    matrices, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matrices.allow_tf32, convolutions.allow_tf32
    seen = []
    module = make_module()
    module.on_train_batch_start = lambda *_: seen.append(
        (matrices.allow_tf32, convolutions.allow_tf32)
    )
    make_trainer(TF32(tf32), max_epochs=1).fit(module, make_data())
    assert set(seen) == {(tf32, tf32)}
    assert (matrices.allow_tf32, convolutions.allow_tf32) == before


def test_a_spread_kernel_sums_its_shifts():
    matrix = layers.spreading(3)
    assert matrix.shape == (9, 16)
    kernel = torch.randn(3, 3)
    wide = (kernel.flatten() @ matrix).view(4, 4)
    expected = sum(
        F.pad(kernel, (left, 1 - left, top, 1 - top)) for left in (0, 1) for top in (0, 1)
    )
    torch.testing.assert_close(wide, expected)
    assert math.isclose(wide.sum().item(), 4 * kernel.sum().item(), rel_tol=1e-4, abs_tol=1e-5)
