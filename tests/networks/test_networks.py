from __future__ import annotations

import pytest
import torch

from blastogan.errors import UserError
from blastogan.networks import (
    ProGANDiscriminator,
    ProGANGenerator,
    StyleGANDiscriminator,
    StyleGANGenerator,
)
from blastogan.networks.layers import downsample, upsample
from blastogan.networks.progressive import Widths

SMALL = {"channel_base": 128, "channel_cap": 16}
GENERATORS = {
    "progan": lambda **kw: ProGANGenerator(32, latent_dim=8, **SMALL, **kw),
    "stylegan": lambda **kw: StyleGANGenerator(
        32, latent_dim=8, w_dim=8, mapping_layers=2, **SMALL, **kw
    ),
}
DISCRIMINATORS = {"progan": ProGANDiscriminator, "stylegan": StyleGANDiscriminator}
BOTH = pytest.mark.parametrize("name", ["progan", "stylegan"])


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def make_d(name, **settings):
    return DISCRIMINATORS[name](32, **SMALL, **settings)


def run_g(name, generator, z, labels=None, **stage):
    """Run a generator with the noise that belongs to the resolution, and not to chance."""
    if name == "stylegan":
        shapes = generator.synthesis.noise_shapes(stage.get("resolution"))
        rng = torch.Generator().manual_seed(0)
        stage["noise"] = [torch.randn(len(z), 1, *shape, generator=rng) for shape in shapes]
        for block in generator.synthesis.blocks.values():
            for epilogue in (block.epilogue_up, block.epilogue):
                epilogue.noise.strength.data.fill_(0.1)
    return generator(z, labels, **stage)


@pytest.mark.parametrize(
    ("network", "count"),
    [
        (ProGANGenerator, 23_079_115),
        (ProGANDiscriminator, 23_087_249),
        (StyleGANGenerator, 26_219_627),
        (StyleGANDiscriminator, 23_087_249),
    ],
)
def test_parameter_counts_of_the_papers_at_1024(network, count):
    with torch.device("meta"):
        parameters = network(resolution=1024).parameters()
    assert sum(p.numel() for p in parameters) == count


def test_channel_rule():
    assert [Widths()(r) for r in (4, 16, 32, 64, 256, 1024)] == [512, 512, 512, 256, 64, 16]
    assert Widths(1024, 96)(32) == 64


@BOTH
def test_alpha_zero_is_exactly_the_resized_stage_before(name):
    generator, z = GENERATORS[name](), torch.randn(3, 8)
    before = run_g(name, generator, z, resolution=16)
    assert torch.equal(run_g(name, generator, z, resolution=32, alpha=0.0), upsample(before))
    discriminator, images = make_d(name), torch.randn(4, 3, 32, 32)
    logits = discriminator(downsample(images), resolution=16)
    assert torch.equal(discriminator(images, alpha=0.0), logits)


@BOTH
def test_between_the_stages_images_blend_linearly(name):
    generator, z = GENERATORS[name](), torch.randn(2, 8)
    old, new, half = (run_g(name, generator, z, alpha=a) for a in (0.0, 1.0, 0.25))
    torch.testing.assert_close(half, 0.75 * old + 0.25 * new)


@BOTH
def test_alpha_one_does_not_touch_the_path_before(name):
    generator, z = GENERATORS[name](), torch.randn(2, 8)
    to_rgb = generator.to_rgb if name == "progan" else generator.synthesis.to_rgb
    first = run_g(name, generator, z)
    to_rgb["16"].weight.data.normal_()
    assert torch.equal(run_g(name, generator, z), first)


@BOTH
@pytest.mark.parametrize(("alpha", "blocks", "ends"), [(1.0, "8 16", "16"), (0.5, "8 16", "8 16")])
def test_gradients_reach_the_active_blocks_only(name, alpha, blocks, ends):
    generator = GENERATORS[name]()
    body = generator if name == "progan" else generator.synthesis
    discriminator = make_d(name)
    images = run_g(name, generator, torch.randn(4, 8), resolution=16, alpha=alpha)
    discriminator(images, resolution=16, alpha=alpha).sum().backward()
    for modules, expected in (
        (body.blocks, blocks if name == "progan" else "4 " + blocks),
        (body.to_rgb, ends),
        (discriminator.blocks, blocks),
        (discriminator.from_rgb, ends),
    ):
        reached = [key for key, m in modules.items() if _has_gradient(m)]
        assert " ".join(reached) == expected


def _has_gradient(module):
    return any(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())


@BOTH
def test_state_has_the_same_keys_at_every_stage_from_the_start_resolution(name):
    generator = GENERATORS[name](start_resolution=16)
    assert generator.image_resolutions == (16, 32)
    with pytest.raises(UserError, match="this network has 16, 32"):
        generator(torch.randn(1, 8), resolution=8)
    keys = generator.state_dict().keys()
    run_g(name, generator, torch.randn(1, 8), resolution=16)
    assert generator.state_dict().keys() == keys
    assert not any("to_rgb.8" in key for key in keys)


@BOTH
def test_labels_change_the_image_and_the_score(name):
    labels = torch.tensor([[0, 1], [0, 2], [3, 3], [0, 1]])
    generator = GENERATORS[name](label_sizes=(4, 4))
    z = torch.randn(1, 8).expand(4, -1)
    images = run_g(name, generator, z, labels)
    assert not torch.allclose(images[0], images[1])
    discriminator = make_d(name, label_sizes=(4, 4))
    logits = discriminator(images[:1].expand(4, -1, -1, -1), labels)
    assert logits.shape == (4,)
    assert logits[0] != logits[1]
    torch.testing.assert_close(logits[0], logits[3])


@BOTH
def test_at_the_first_resolution_there_is_nothing_to_fade(name):
    generator, z = GENERATORS[name](start_resolution=16), torch.randn(4, 8)
    whole, faded = (run_g(name, generator, z, resolution=16, alpha=a) for a in (1.0, 0.5))
    assert torch.equal(whole, faded)
    discriminator = make_d(name, start_resolution=16)
    scores = [discriminator(whole, resolution=16, alpha=a) for a in (1.0, 0.5)]
    assert torch.equal(*scores)


def test_labels_enter_the_discriminator_by_projection():
    discriminator = make_d("progan", label_sizes=(4, 4))
    images, labels = torch.randn(4, 3, 32, 32), torch.randint(4, (4, 2))
    features = []
    discriminator.head.register_forward_hook(lambda *args: features.append(args[2]))
    logits = discriminator(images, labels)
    plain = discriminator.score(features[0]).squeeze(1)
    inner = (discriminator.embedding(labels) * features[0]).sum(dim=1)
    torch.testing.assert_close(logits, plain + inner / features[0].shape[1] ** 0.5)


@BOTH
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "needs labels of shape \\(2, 2\\)"),
        (torch.zeros(2, dtype=torch.int64), "labels have shape \\(2,\\)"),
        (torch.zeros(2, 2), "dtype torch.float32"),
    ],
)
def test_wrong_labels_are_refused(name, labels, message):
    with pytest.raises(UserError, match=message):
        GENERATORS[name](label_sizes=(4, 4))(torch.randn(2, 8), labels)
    with pytest.raises(UserError, match=message):
        make_d(name, label_sizes=(4, 4))(torch.randn(2, 3, 32, 32), labels)


@BOTH
def test_arguments_out_of_range_are_refused(name):
    generator, z = GENERATORS[name](), torch.randn(1, 8)
    with pytest.raises(UserError, match=r"alpha is 1\.5"):
        generator(z, alpha=1.5)
    with pytest.raises(UserError, match="resolution is 64"):
        generator(z, resolution=64)
    with pytest.raises(UserError, match="unconditional network"):
        generator(z, torch.zeros(1, 2, dtype=torch.int64))
    with pytest.raises(UserError, match="img_channels is 2"):
        make_d(name, img_channels=2)
    with pytest.raises(UserError, match=r"expected \(B, \*\(3, 32, 32\)\)"):
        make_d(name)(torch.randn(1, 1, 32, 32))
    with pytest.raises(UserError, match="power of two"):
        DISCRIMINATORS[name](48)


def test_progan_normalises_its_latent():
    generator, z = GENERATORS["progan"](), torch.randn(2, 8)
    torch.testing.assert_close(generator(z * 5), generator(z), atol=1e-4, rtol=1e-4)


def test_mapping_and_synthesis_are_usable_alone():
    generator, z = GENERATORS["stylegan"](), torch.randn(2, 8)
    w = generator.mapping(z)
    noise = [torch.zeros(2, 1, *s) for s in generator.synthesis.noise_shapes()]
    images = generator.synthesis(w, noise=noise)
    ws = w[:, None].expand(-1, generator.synthesis.num_layers(), -1)
    assert torch.equal(generator.synthesis(ws, noise=noise), images)
    assert torch.equal(generator(z, noise=noise), images)
    with pytest.raises(UserError, match="8 layers run at 32"):
        generator.synthesis(ws[:, :3])


def test_truncation_draws_styles_to_their_running_mean():
    generator, z = GENERATORS["stylegan"](), torch.randn(2, 8)
    for _ in range(2000):
        generator.update_w_avg(torch.full((4, 8), 3.0))
    torch.testing.assert_close(generator.w_avg, torch.full((8,), 3.0), atol=1e-3, rtol=0)
    ws = torch.randn(2, 8, 8)
    torch.testing.assert_close(generator.truncate(ws, 1.0), ws)
    assert torch.equal(generator.truncate(ws, 0.0), generator.w_avg.expand(2, 8, 8))
    partly = generator.truncate(ws, 0.0, cutoff=2)
    assert torch.equal(partly[:, 2:], ws[:, 2:])
    noise = [torch.zeros(2, 1, *s) for s in generator.synthesis.noise_shapes()]
    mean_image = generator(z, truncation_psi=0.0, noise=noise)
    torch.testing.assert_close(mean_image[0], mean_image[1])


def test_noise_is_drawn_anew_unless_given():
    generator, z = GENERATORS["stylegan"](), torch.randn(1, 8)
    run_g("stylegan", generator, z)
    assert not torch.equal(generator(z), generator(z))
    assert torch.equal(run_g("stylegan", generator, z), run_g("stylegan", generator, z))
