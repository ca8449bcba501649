from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import avg_pool2d, pad

from blastogan.errors import UserError
from blastogan.metrics import to_float
from blastogan.metrics.augmentation_leaks import KINDS, LeakDetector, _turned, leaks, to_grid
from blastogan.phantoms.dataset import PhantomDataset, render_phantoms


def phantoms(seed, count):
    """Phantoms under light from one side, each of its own embryo."""
    settings = {"counts": "balanced", "resolution": 32, "style": "dic"}
    return to_float(render_phantoms(PhantomDataset(count, seed=seed, **settings), 1, 0))


@pytest.fixture(scope="module")
def reals():
    return phantoms(0, 200)


@pytest.fixture(scope="module")
def fakes():
    return phantoms(1, 100)


def symmetric(images, seed=0):
    """Each image under any of the eight symmetries of the square."""
    drawn = torch.randint(8, (len(images),), generator=torch.Generator().manual_seed(seed))
    mirrored = [x.flip(-1) if n % 2 else x for x, n in zip(images, drawn.tolist(), strict=True)]
    return torch.stack([x.rot90(n // 2, (1, 2)) for x, n in zip(mirrored, drawn, strict=True)])


def shifted(images, y=4, x=-4):
    return pad(images, (4, 4, 4, 4), "reflect")[..., 4 + y : 36 + y, 4 + x : 36 + x]


def darkened(images):
    return (images - 0.5).clamp(-1, 1)


LEAKS = {
    "mirrored": ("turned", lambda images: images.flip(-1)),
    "turned": ("turned", lambda images: images.rot90(2, (2, 3))),
    "shifted": ("shifted", shifted),
    "shifted down": ("shifted", lambda images: shifted(images, y=4, x=0)),
    "darkened": ("dark", darkened),
}


def test_other_images_of_the_same_law_have_no_leak(reals, fakes):
    row = leaks(reals, fakes)
    for kind in KINDS:
        assert row[f"{kind}_generated"] == pytest.approx(row[f"{kind}_real"], abs=0.07)
        assert row[f"{kind}_real"] < 0.09
    assert row["leak"] < 0
    # what is right has no size, and no colour
    larger = fakes.repeat_interleave(2, 2).repeat_interleave(2, 3).expand(-1, 3, -1, -1)
    assert leaks(reals, larger) == pytest.approx(row, abs=0.011)


@pytest.mark.parametrize("name", LEAKS)
def test_a_share_that_leaks_is_found(name, reals, fakes):
    kind, spoil = LEAKS[name]
    detector, found, certain = LeakDetector(to_grid(reals)), [], []
    for count in (0, 20, 40, 80):
        spoilt = torch.cat([spoil(fakes[:count]), fakes[count:]])
        row = detector.compare(to_grid(spoilt))
        found.append(row[f"{kind}_generated"])
        certain.append(row["leak"])
        others = [row[f"{other}_generated"] for other in KINDS if other != kind]
        assert max(others) < 0.12
    assert found == sorted(found)
    for count, share in zip((20, 40, 80), found[1:], strict=True):
        assert 0.6 * count / 100 < share - found[0] <= count / 100
    assert certain[0] < 0 < certain[2] < certain[3]


def test_the_leak_is_the_largest_excess_beyond_chance(reals, fakes):
    row = leaks(reals, torch.cat([fakes[:60].flip(-1), fakes[60:]]))
    shares = [(row["turned_real"], 200), (row["turned_generated"], 100)]
    excess = shares[1][0] - shares[0][0]
    # one more of each kind in the error, which is never 0
    more = [((share * count + 1) / (count + 2), count + 2) for share, count in shares]
    error = math.sqrt(sum(share * (1 - share) / count for share, count in more))
    assert row["leak"] == pytest.approx(excess - 3 * error)
    few = leaks(reals, torch.cat([fakes[:6].flip(-1), fakes[60:64]]))
    assert few["leak"] < row["leak"] - 0.15


def test_nothing_leaks_that_reals_do_themselves(reals, fakes):
    detector = LeakDetector(to_grid(symmetric(reals)))
    for samples in (symmetric(fakes, seed=1), fakes.flip(-1), fakes):
        row = detector.compare(to_grid(samples))
        assert row["turned_generated"] == pytest.approx(row["turned_real"], abs=0.12)
        assert row["leak"] < 0


def test_turns_are_all_symmetries_of_the_square_but_none():
    square = torch.arange(9.0).view(1, 1, 3, 3)
    turned = _turned(square)
    assert len({tuple(each.flatten().tolist()) for each in [square, *turned]}) == 8


def test_poor_samples_are_not_taken_for_turned_ones(reals, fakes):
    detector = LeakDetector(to_grid(reals))
    noise = torch.rand(fakes.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    round_blobs = torch.stack([f.rot90(n, (2, 3)) for f in (fakes, fakes.mT) for n in range(4)])
    blurred = avg_pool2d(fakes, 5, 1, 2, count_include_pad=False)
    for samples in (noise, round_blobs.mean(dim=0), blurred, torch.zeros_like(fakes)):
        row = detector.compare(to_grid(samples))
        assert row["turned_generated"] < 0.05
    assert detector.compare(to_grid(noise))["shifted_generated"] < 0.05
    assert detector.compare(to_grid((fakes + fakes.roll(1, 0)) / 2))["leak"] < 0


def test_images_of_an_embryo_are_not_judged_by_each_other(reals):
    """A model that has seen an embryo finds it in place, however rare its position is."""
    odd = symmetric(reals[:100])
    often = to_grid(odd.repeat_interleave(6, 0))
    embryos = [n // 6 for n in range(600)]
    none = torch.zeros(100, 1, 16, 16)
    apart = LeakDetector(often, embryos).compare(none)["turned_real"]
    together = LeakDetector(often).compare(none)["turned_real"]
    assert apart > together + 0.1


def test_alike_images_break_nothing(fakes):
    row = leaks(torch.zeros(64, 1, 32, 32), fakes)
    assert all(math.isfinite(value) for value in row.values())


def test_too_small_and_too_few_images_are_refused(reals):
    with pytest.raises(UserError, match=r"images of 8 pixels .* expected 16 or more"):
        to_grid(reals[..., :8, :8])
    with pytest.raises(UserError, match=r"31 images of 31 embryos .* expected 32 or more"):
        LeakDetector(to_grid(reals[:31]))
    with pytest.raises(UserError, match=r"200 images of 1 embryos"):
        LeakDetector(to_grid(reals), ["one"] * 200)
