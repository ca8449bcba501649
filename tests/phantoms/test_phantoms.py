"""Known answers about pictures of phantoms: which are equal, and what they must show."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from blastogan.errors import UserError
from blastogan.grades import CLASSES, Grade
from blastogan.phantoms.optics import compressed
from blastogan.phantoms.ranges import STUDY_COUNTS
from blastogan.phantoms.rendering import Scene, anatomy_of, pose_of, render_phantom
from blastogan.phantoms.styles import CLINICS
from blastogan.phantoms.view import View

FRAMINGS = ("embryo", "well")
AXIS = (np.arange(64) + 0.5) / 64


def view(embryo=0, name="AA", expansion=4, **more):
    return View(embryo, Grade(name[0], name[1], expansion), **more)


def alone(name, **more):
    """Views of embryos in a dish that have no neighbour."""
    views = (view(n, name, clinic="dic-1", **more) for n in range(100))
    return [each for each in views if pose_of(0, each).neighbour is None]


def shrunk(picture, side):
    factor = len(picture) // side
    return picture.astype(float).reshape(side, factor, side, factor).mean(axis=(1, 3))


def roughness(picture):
    """Length of the grey gradient at each pixel."""
    return np.hypot(*np.gradient(picture.astype(float)))


def difference(first, second):
    return np.abs(first.astype(float) - second).mean()


@pytest.mark.parametrize("framing", FRAMINGS)
def test_picture_does_not_depend_on_what_was_drawn_before(framing):
    forwards = [render_phantom(3, view(n), 32, framing) for n in range(6)]
    np.random.seed(1)  # noqa: NPY002 - the global generator must have no say
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    backwards = [render_phantom(3, view(n), 32, framing) for n in reversed(range(6))]
    for one, two in zip(forwards, reversed(backwards), strict=True):
        assert one.tobytes() == two.tobytes()
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


PICTURES = """
import sys
import numpy as np
from test_phantoms import all_looks
np.savez(sys.argv[1], *all_looks())
"""


def all_looks():
    """Pictures that between them use all that is drawn."""
    views = [
        view(n, CLASSES[n % 10], 1 + n % 6, clinic=clinic, plane=n % 3, focus=15.0 * (n % 3 - 1))
        for clinic in CLINICS
        for n in range(10)
    ]
    framings = [FRAMINGS[n // 10 % 2] for n in range(len(views))]
    pairs = list(zip(views, framings, strict=True))
    light = np.stack([Scene(1, each, framing).light(48) for each, framing in pairs])
    return light, np.stack([render_phantom(1, each, 48, framing) for each, framing in pairs])


def test_pictures_do_not_depend_on_the_processor(tmp_path):
    from numpy._core._multiarray_umath import __cpu_dispatch__

    file = tmp_path / "plain.npz"
    # NumPy takes the same paths as on a processor that has none of these instructions
    path = str(Path(__file__).parent)
    env = {**os.environ, "PYTHONPATH": path, "NPY_DISABLE_CPU_FEATURES": " ".join(__cpu_dispatch__)}
    subprocess.run([sys.executable, "-c", PICTURES, str(file)], env=env, check=True)
    for there, here in zip(np.load(file).values(), all_looks(), strict=True):
        assert np.array_equal(there, here)


def test_seed_embryo_and_shot_each_give_another_picture():
    pictures = [
        render_phantom(seed, view(embryo, shot=shot), 32)
        for seed in range(3)
        for embryo in range(3)
        for shot in range(2)
    ]
    for first in range(len(pictures)):
        for second in range(first):
            assert difference(pictures[first], pictures[second]) > 4


def test_seed_and_embryo_are_no_sum():
    assert render_phantom(1, view(2), 32).tobytes() != render_phantom(2, view(1), 32).tobytes()


def test_shots_show_the_same_embryo_turned():
    one, two = (anatomy_of(0, view(5, shot=shot)) for shot in (0, 1))
    assert len(one.inner) == len(two.inner)
    assert np.allclose(np.hypot(one.inner.x, one.inner.y), np.hypot(two.inner.x, two.inner.y))
    angle = pose_of(0, view(5, shot=1)).turn - pose_of(0, view(5)).turn
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    assert np.allclose(turn @ [one.inner.x, one.inner.y], [two.inner.x, two.inner.y])
    for first, second in zip(one.rims, two.rims, strict=True):
        assert np.array_equal(first.heights, second.heights)


@pytest.mark.parametrize("other", ["AC", "CA", "DD"])
def test_another_grade_changes_the_picture(other):
    own = render_phantom(0, view(5), 32)
    assert difference(own, render_phantom(0, view(5, other), 32)) > 4
    assert difference(own, render_phantom(0, view(5, expansion=3), 32)) > 4


@pytest.mark.parametrize("clinic", CLINICS)
def test_resolution_is_a_sampling(clinic):
    apart = []
    for n in range(10):
        shown = view(n, CLASSES[n % 10], 1 + n % 6, clinic=clinic)
        framing = FRAMINGS[n % 2]
        large = shrunk(render_phantom(2, shown, 256, framing), 64)
        apart.append(difference(large, render_phantom(2, shown, 64, framing)))
        neighbour = render_phantom(2, replace(shown, embryo=n + 1), 64, framing)
        assert difference(large, neighbour) > 2 * apart[-1]
    assert np.mean(apart) < 0.03 * 255


def test_noise_averages_out_as_the_camera_s_does():
    # a corner without well, embryo and JPEG
    shown = next(each for each in alone("DD") if pose_of(0, each).tilt < 0.05)
    spread = []
    for side in (256, 64):
        corner = render_phantom(0, shown, side)[: side // 16, : side // 16].astype(float)
        rows = np.diff(corner, axis=1)
        spread.append(rows.std() / np.sqrt(2) / 255)
    assert spread[0] == pytest.approx(CLINICS["dic-1"].noise, rel=0.25)
    # grey levels are whole, which adds a variance of a twelfth
    assert spread[1] == pytest.approx(np.hypot(CLINICS["dic-1"].noise / 4, 12**-0.5 / 255), rel=0.4)


def test_jpeg_takes_what_the_eye_would_not_miss():
    noise = np.random.default_rng(0).normal(128, 20, (64, 64)).astype(np.uint8)
    assert np.array_equal(compressed(noise, 0), noise)
    large = np.tile(noise, (8, 8))
    fine, coarse = (difference(large, compressed(large, quality)) for quality in (95, 40))
    assert 0 < fine < coarse / 3
    # a small picture of a camera's large one keeps more
    assert difference(noise, compressed(noise, 40)) < coarse / 2


@pytest.mark.parametrize(("clinic", "sign"), [("hoffman-1", 1), ("dic-2", 1), ("brightfield-1", 0)])
def test_relief_has_a_direction(clinic, sign):
    """Flanks towards the light are bright, those opposite dark; bright field knows no direction."""
    differences = []
    for n in range(12):
        shown = view(n, "CA", 6, clinic=clinic)
        pose = pose_of(4, shown)
        x, y, radius = pose.centred
        picture = render_phantom(4, shown, 64).astype(float)
        across, down = AXIS[None] - x, AXIS[:, None] - y
        distance = np.hypot(across, down)
        towards = (across * np.cos(pose.light) + down * np.sin(pose.light)) / distance
        rim = (distance < radius) & (distance > 0.93 * radius)
        lit, dark = picture[rim & (towards > 0.5)], picture[rim & (towards < -0.5)]
        differences.append(lit.mean() - dark.mean())
    # the light of the field falls off too
    assert abs(np.mean(differences)) > 15 if sign else abs(np.median(differences)) < 12
    if sign:
        assert np.mean(differences) > 0


def test_each_plane_is_sharp_at_its_own_depth():
    """The rim is sharpest in the middle, specks on the floor at the lowest plane."""
    rims, floors = [], []
    for focus in (-45.0, 0.0, 45.0):
        rim = floor = 0.0
        for shown in alone("AA", focus=focus)[:12]:
            picture = render_phantom(0, shown, 128, "well")
            x, y, radius = pose_of(0, shown).placement("well")
            axis = (np.arange(128) + 0.5) / 128
            distance = np.hypot(axis[None] - x, axis[:, None] - y)
            rough = roughness(picture)
            rim += rough[(distance < radius) & (distance > 0.8 * radius)].mean()
            free = rough[distance > 1.35 * radius]
            floor += np.percentile(free, 99.5)
        rims.append(rim)
        floors.append(floor)
    assert rims[1] > 1.25 * max(rims[0], rims[2])
    assert floors[0] > floors[1] > 0.98 * floors[2]


def test_planes_show_the_same_embryo():
    low, high = (render_phantom(0, view(3, focus=f, plane=p), 64) for p, f in ((0, -15), (1, 0)))
    other = render_phantom(0, view(4), 64)
    assert difference(low, high) < 0.6 * difference(high, other)
    assert low.tobytes() != high.tobytes()


def test_embryo_is_centred():
    for n in range(10):
        x, y, radius = pose_of(0, view(n)).placement("embryo")
        assert max(abs(x - 0.5), abs(y - 0.5)) <= 0.04
        assert 0.34 <= radius <= 0.44
        # a dish has nothing but the embryo
        rough = roughness(render_phantom(0, view(n, "CA", clinic="dic-1"), 64))
        distance = np.hypot(AXIS[None] - x, AXIS[:, None] - y)
        assert rough[distance < radius].mean() > 2 * rough[distance > 1.15 * radius].mean()


def test_embryo_lies_anywhere_within_the_well():
    offsets = []
    for n in range(30):
        pose = pose_of(0, view(n))
        x, y, radius = pose.placement("well")
        left, top, share = pose.framed
        offsets.append((x - left, y - top))
        assert np.hypot(x - left, y - top) + radius < share < 0.5
        picture = render_phantom(0, view(n), 64, "well")
        distance = np.hypot(AXIS[None] - x, AXIS[:, None] - y)
        floor = np.hypot(AXIS[None] - left, AXIS[:, None] - top) < 0.7 * share
        free = (distance > 1.25 * radius) & floor
        if free.sum() > 30:
            rough = roughness(picture)
            assert rough[distance < radius].mean() > 2 * rough[free].mean()
    assert np.mean(np.hypot(*np.transpose(offsets)) > 0.05) > 0.6
    assert np.all(np.abs(np.mean(offsets, axis=0)) < 0.08)


def test_well_has_a_bright_arc_above_and_black_below():
    for n in range(5):
        picture = render_phantom(0, view(n), 64, "well")
        assert picture[:8].max() > 220
        assert picture[-3:].mean() < 50


def test_a_dish_has_no_well_and_sometimes_a_neighbour():
    seen = 0
    for n in range(120):
        pose = pose_of(0, view(n, clinic="dic-1"))
        seen += pose.neighbour is not None
        assert pose_of(0, view(n)).neighbour is None
    assert 1 <= seen <= 18


@pytest.mark.parametrize("resolution", [16, 31, np.int64(128), 512])
def test_resolutions_that_work(resolution):
    picture = render_phantom(0, view(), resolution)
    assert picture.shape == (resolution, resolution)
    assert picture.dtype == np.uint8
    assert picture.std() > 15


@pytest.mark.parametrize("resolution", [15, 513, 64.0, "64", True, None])
def test_resolutions_that_are_refused(resolution):
    with pytest.raises(UserError, match=r"resolution .* 16 to 512"):
        render_phantom(0, view(), resolution)


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(UserError, match="'embryo' or 'well'"):
        render_phantom(0, view(), 32, "dish")
    with pytest.raises(UserError, match="seed of a phantom is -1"):
        render_phantom(-1, view(), 32)
    with pytest.raises(UserError, match="embryo of a phantom is -2"):
        render_phantom(0, view(-2), 32)
    with pytest.raises(UserError, match="clinic is 'zeiss': expected one of hoffman-1"):
        render_phantom(0, view(clinic="zeiss"), 32)
    with pytest.raises(UserError, match="grade AA names no expansion"):
        render_phantom(0, View(0, Grade("A", "A")), 32)


def test_the_study_s_law_is_long_tailed_and_sums_to_its_pictures():
    assert tuple(STUDY_COUNTS) == CLASSES
    assert sum(STUDY_COUNTS.values()) == 3800
    assert STUDY_COUNTS["AA"] > 1900
    assert max(STUDY_COUNTS[name] for name in ("CA", "CB", "CC")) < STUDY_COUNTS["BC"]
