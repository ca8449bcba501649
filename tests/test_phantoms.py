"""Known answers about phantoms: which pictures are equal, and what they must show."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from blastogan.data.phantom_laws import INNER_LAWS, RIM_LAWS
from blastogan.data.phantoms import (
    EXPANSION_LAW,
    PHANTOM_LAW,
    PhantomImages,
    phantom_anatomy,
    phantom_grade,
    render_phantom,
)
from blastogan.errors import UserError
from blastogan.grades import CLASSES, Grade

FRAMINGS = ("embryo", "well")


def shrunk(picture, side):
    factor = len(picture) // side
    return picture.astype(float).reshape(side, factor, side, factor).mean(axis=(1, 3))


def roughness(picture):
    """Length of the grey gradient at each pixel."""
    return np.hypot(*np.gradient(picture.astype(float)))


@pytest.mark.parametrize("framing", FRAMINGS)
def test_picture_does_not_depend_on_what_was_drawn_before(framing):
    images = PhantomImages(8, seed=3, resolution=32, framing=framing)
    forwards = [images[i][0] for i in range(8)]
    np.random.seed(1)  # noqa: NPY002 - the global generator must have no say
    backwards = [images[i][0] for i in reversed(range(8))][::-1]
    alone = [render_phantom(3, i, 32, framing=framing) for i in range(8)]
    for one, two, three in zip(forwards, backwards, alone, strict=True):
        assert one.tobytes() == two.tobytes() == three.tobytes()


def test_global_generator_is_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    render_phantom(0, 0, 32)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_seed_and_index_each_give_another_picture():
    grade = Grade("A", "B", expansion=4)
    pictures = [render_phantom(s, i, 32, grade=grade) for s in range(4) for i in range(4)]
    for first in range(16):
        for second in range(first):
            assert np.abs(pictures[first].astype(int) - pictures[second]).mean() > 4


def test_seed_and_index_are_no_sum():
    assert render_phantom(1, 2, 32).tobytes() != render_phantom(2, 1, 32).tobytes()


@pytest.mark.parametrize("other", [Grade("A", "C", 4), Grade("C", "A", 4), Grade("A", "A", 3)])
def test_another_grade_changes_the_picture(other):
    own = render_phantom(0, 5, 32, grade=Grade("A", "A", 4)).astype(int)
    assert np.abs(own - render_phantom(0, 5, 32, grade=other)).mean() > 4


def test_own_grade_given_explicitly_changes_nothing():
    own = render_phantom(0, 5, 32)
    assert np.array_equal(own, render_phantom(0, 5, 32, grade=phantom_grade(0, 5)))


def test_grade_without_expansion_keeps_the_phantoms_own():
    own = phantom_grade(0, 5)
    assert phantom_anatomy(0, 5, Grade("C", "B")).grade == Grade("C", "B", own.expansion)
    assert phantom_anatomy(0, 5, Grade("C", "B", 1)).grade.expansion == 1


def test_classes_follow_the_law():
    count = 5000
    grades = [phantom_grade(11, i) for i in range(count)]
    assert tuple(PHANTOM_LAW) == CLASSES
    assert PHANTOM_LAW["AA"] > 0.5 * sum(PHANTOM_LAW.values())
    assert max(PHANTOM_LAW[name] for name in ("CA", "CB", "CC")) < PHANTOM_LAW["BC"]
    for law, seen in (
        (PHANTOM_LAW, Counter(grade.name for grade in grades)),
        (EXPANSION_LAW, Counter(grade.expansion for grade in grades)),
    ):
        total = sum(law.values())
        expected = {name: count * weight / total for name, weight in law.items()}
        assert set(seen) == set(law)
        surplus = sum((seen[n] - e) ** 2 / e for n, e in expected.items())
        # 99.9 % point of chi-square with nine degrees of freedom
        assert surplus < 27.9


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("resolution", [32, 64, 128])
def test_resolutions_show_the_same_embryo(framing, resolution):
    other = []
    for index in range(6):
        large = shrunk(render_phantom(2, index, 256, framing=framing), resolution)
        small = render_phantom(2, index, resolution, framing=framing)
        assert np.abs(small - large).mean() < 0.04 * 255
        neighbour = render_phantom(2, index + 1, resolution, framing=framing)
        other.append(np.abs(neighbour - large).mean())
    assert min(other) > 0.04 * 255


@pytest.mark.parametrize(("part", "laws"), [("inner", INNER_LAWS), ("rim", RIM_LAWS)])
def test_letters_govern_the_number_of_cells(part, laws):
    means = {}
    for letter in "ABC":
        grade = Grade(letter, "B") if part == "inner" else Grade("A", letter)
        counts = [len(getattr(phantom_anatomy(4, i, grade), part)) for i in range(200)]
        assert (min(counts), max(counts)) == laws[letter].cells
        means[letter] = np.mean(counts)
    assert means["A"] > 1.4 * means["B"] > 1.8 * means["C"]
    anatomy = phantom_anatomy(4, 0, Grade("D", "D"))
    assert len(getattr(anatomy, part)) == 0
    assert len(anatomy.fragments) > 0


def test_inner_cells_pack_more_tightly_with_the_letter():
    reach = {}
    for letter in "ABC":
        spreads = []
        for index in range(100):
            cells = phantom_anatomy(4, index, Grade(letter, "B", 4)).inner
            area = np.ptp(cells.x) * np.ptp(cells.y)
            spreads.append(area / (cells.along * cells.across).sum())
        reach[letter] = np.median(spreads)
    assert reach["A"] < reach["B"] < reach["C"]


def test_inner_cells_touch_the_wall_and_stay_inside():
    for index in range(50):
        anatomy = phantom_anatomy(6, index, Grade("A", "A", 4))
        distance = np.hypot(anatomy.inner.x, anatomy.inner.y)
        assert distance.max() < anatomy.rim_radius
        assert distance.max() > 0.7 * anatomy.rim_radius


def test_zona_thins_and_cavity_grows_with_expansion():
    anatomies = [phantom_anatomy(0, 1, Grade("A", "A", e)) for e in range(1, 7)]
    zonas = [anatomy.zona for anatomy in anatomies]
    assert zonas == sorted(zonas, reverse=True)
    assert zonas[-1] == 0
    cavities = [anatomy.cavity[2] for anatomy in anatomies]
    assert cavities == sorted(cavities)
    assert len(anatomies[1].mass) > 0
    assert len(anatomies[2].mass) == 0
    assert len(anatomies[4].hatching) > 0


def test_embryo_is_centred():
    axis = (np.arange(64) + 0.5) / 64
    centroids = []
    for index in range(20):
        x, y, radius = phantom_anatomy(0, index).placement("embryo")
        assert abs(x - 0.5) < 0.02
        assert abs(y - 0.5) < 0.02
        assert 0.36 <= radius <= 0.44
        weight = roughness(render_phantom(0, index, 64, grade=Grade("C", "A", 4)))
        weight = np.maximum(weight - 10, 0)
        centroids.append((weight.sum(0) @ axis, weight.sum(1) @ axis) / weight.sum())
    assert np.abs(np.array(centroids) - 0.5).max() < 0.1
    # the lit side of a phantom has a little more contrast than the other
    assert np.abs(np.mean(centroids, axis=0) - 0.5).max() < 0.045


def test_embryo_lies_anywhere_within_the_well():
    axis = (np.arange(64) + 0.5) / 64
    offsets = []
    for index in range(30):
        anatomy = phantom_anatomy(0, index)
        x, y, radius = anatomy.placement("well")
        offsets.append((x - 0.5, y - 0.5))
        assert radius < 0.32
        assert np.hypot(x - 0.5, y - 0.5) + radius < radius * anatomy.well.radius
        picture = render_phantom(0, index, 64, framing="well")
        distance = np.hypot(axis[None] - x, axis[:, None] - y)
        floor = np.hypot(axis[None] - 0.5, axis[:, None] - 0.5) < 0.33
        inside = roughness(picture)[distance < radius].mean()
        assert inside > 2 * roughness(picture)[(distance > 1.25 * radius) & floor].mean()
    assert np.mean(np.hypot(*np.transpose(offsets)) > 0.05) > 0.7
    assert np.all(np.abs(np.mean(offsets, axis=0)) < 0.06)


def test_well_has_a_bright_arc_above_and_black_below():
    for index in range(5):
        picture = render_phantom(0, index, 64, framing="well")
        assert picture[:6].max() > 220
        assert picture[-3:].mean() < 30


def test_pictures_fill_the_grey_range():
    pictures = np.stack([render_phantom(0, i, 64) for i in range(40)])
    low, high = np.percentile(pictures, [1, 99])
    assert low < 50
    assert high > 200
    assert np.mean((pictures == 0) | (pictures == 255)) < 0.01


@pytest.mark.parametrize("resolution", [16, 31, np.int64(128), 512])
def test_resolutions_that_work(resolution):
    picture = render_phantom(0, 0, resolution)
    assert picture.shape == (resolution, resolution)
    assert picture.dtype == np.uint8
    assert picture.std() > 15


@pytest.mark.parametrize("resolution", [15, 513, 64.0, "64", True, None])
def test_resolutions_that_are_refused(resolution):
    with pytest.raises(UserError, match=r"resolution .* 16 to 512"):
        render_phantom(0, 0, resolution)
    with pytest.raises(UserError, match=r"resolution .* 16 to 512"):
        PhantomImages(1, resolution=resolution)


def test_unknown_framing_and_negative_numbers_are_refused():
    with pytest.raises(UserError, match="'embryo' or 'well'"):
        render_phantom(0, 0, framing="dish")
    with pytest.raises(UserError, match="seed of a phantom is -1"):
        render_phantom(-1, 0)
    with pytest.raises(UserError, match="index of a phantom is -2"):
        phantom_grade(0, -2)


def test_sequence_ends_and_counts_from_the_end():
    images = PhantomImages(3, seed=9, resolution=16)
    assert len(images) == len(list(images)) == 3
    assert images[0][1] == phantom_grade(9, 0)
    assert np.array_equal(images[-1][0], images[2][0])
    for beyond in (3, -4):
        with pytest.raises(IndexError):
            images[beyond]


def test_sequence_draws_the_grades_it_is_given():
    grades = [Grade("D", "D"), Grade("A", "A", 4)]
    images = PhantomImages(2, resolution=16, grades=grades)
    assert [grade for _, grade in images] == grades
    assert np.array_equal(images[0][0], render_phantom(0, 0, 16, grade=grades[0]))
    with pytest.raises(UserError, match="2 grades for 3 phantoms"):
        PhantomImages(3, grades=grades)
