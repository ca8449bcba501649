"""The truth about phantoms: masks that fit the picture, and laws that can be read from them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from blastogan.grades import CLASSES, Grade
from blastogan.phantoms.ranges import (
    EMBRYO_RADIUS,
    EXPANSION_RANGES,
    ICM_RANGES,
    MICROMETRES,
    TE_RANGES,
)
from blastogan.phantoms.rendering import anatomy_of, render_phantom
from blastogan.phantoms.truth import MASKS, phantom_numbers, phantom_truth
from blastogan.phantoms.view import View


def view(embryo=0, name="AA", expansion=4, **more):
    return View(embryo, Grade(name[0], name[1], expansion), **more)


def uniform(span):
    return stats.uniform(span[0], span[1] - span[0]).cdf


def share(mask):
    return np.mean(mask == 255)


@pytest.mark.parametrize("framing", ["embryo", "well"])
def test_no_pixel_belongs_to_two_parts(framing):
    for n in range(12):
        shown = view(n, CLASSES[n % 10], 1 + n % 6)
        truth = phantom_truth(1, shown, 64, framing)
        assert tuple(truth.masks) == MASKS
        for mask in truth.masks.values():
            assert mask.shape == (64, 64)
            assert mask.dtype == np.uint8
            assert set(np.unique(mask)) <= {0, 255}
        assert (np.sum([mask > 0 for mask in truth.masks.values()], axis=0) <= 1).all()


def test_masks_are_the_same_at_every_resolution():
    for n in range(4):
        truths = [phantom_truth(0, view(n, "AB", 3 + n), side).masks for side in (64, 256)]
        for name in ("icm", "te", "cavity"):
            assert share(truths[0][name]) == pytest.approx(share(truths[1][name]), abs=0.012)


def test_parts_lie_where_they_belong():
    for n in range(6):
        shown = view(n, "AA", 3)
        masks, numbers = phantom_truth(0, shown, 128).masks, phantom_numbers(0, shown)
        axis = (np.arange(128) + 0.5) / 128
        distance = np.hypot(axis[None] - numbers["x"], axis[:, None] - numbers["y"])
        distance /= numbers["radius"]
        mean = {name: distance[masks[name] > 0].mean() for name in MASKS}
        assert mean["zona"] > mean["te"] > mean["icm"] > 0.2
        assert distance[masks["zona"] > 0].max() < 1.06
        rows, columns = np.nonzero(masks["icm"])
        angle = np.degrees(
            np.arctan2(axis[rows].mean() - numbers["y"], axis[columns].mean() - numbers["x"])
        )
        assert abs((angle - numbers["icm_angle"] + 180) % 360 - 180) < 8


def test_masks_are_seen_in_the_picture():
    """The inner cell mass is rough and the cavity smooth, where the masks say so."""
    for n in range(6):
        shown = view(n, "AA", 4, clinic="dic-1")
        rough = np.hypot(*np.gradient(render_phantom(0, shown, 128).astype(float)))
        masks = phantom_truth(0, shown, 128).masks
        assert rough[masks["icm"] > 0].mean() > 1.5 * rough[masks["cavity"] > 0].mean()
        assert rough[masks["te"] > 0].mean() > 1.3 * rough[masks["cavity"] > 0].mean()


def test_degenerate_embryos_have_neither_icm_nor_te():
    for n in range(5):
        truth = phantom_truth(0, view(n, "DD", 3), 64)
        assert {name for name in MASKS if truth.masks[name].any()} == {"zona"}
        assert truth.numbers["icm_cells"] == truth.numbers["te_cells"] == 0
        assert truth.numbers["fragments"] >= 16


def test_hatching_opens_the_zona_and_leaves_it():
    def parts(expansion):
        return phantom_truth(0, view(3, "AA", expansion), 128, "well").masks

    full, hatching, hatched = parts(4), parts(5), parts(6)
    assert hatching["te"].sum() > full["te"].sum()
    assert not hatched["zona"].any()
    shown = view(3, "AA", 5)
    hernia = anatomy_of(0, shown).rims[1]
    numbers = phantom_numbers(0, shown, "well")
    column, row = (
        int((numbers[axis] + getattr(hernia, axis) * numbers["radius"]) * 128) for axis in "xy"
    )
    assert hatching["te"][row, column] or hatching["cavity"][row, column]
    assert not hatching["zona"][row, column]


def test_cavity_grows_and_zona_thins_with_expansion():
    masks = [phantom_truth(0, view(2, "AA", each), 128).masks for each in range(1, 7)]
    cavities = [share(each["cavity"]) for each in masks]
    zonas = [share(each["zona"]) for each in masks]
    assert cavities[0] < cavities[1] < cavities[2] < cavities[3]
    assert zonas == sorted(zonas, reverse=True)
    assert zonas[-1] == 0


@pytest.mark.parametrize(("part", "laws"), [("icm_cells", ICM_RANGES), ("te_cells", TE_RANGES)])
def test_letters_govern_the_number_of_cells_and_neighbours_overlap(part, laws):
    means = {}
    for letter in "ABC":
        name = letter + "B" if part == "icm_cells" else "A" + letter
        counts = [phantom_numbers(4, view(n, name, 4))[part] for n in range(200)]
        assert (min(counts), max(counts)) == laws[letter].cells
        means[letter] = np.mean(counts)
    assert means["A"] > 1.4 * means["B"] > 1.8 * means["C"]
    assert laws["A"].cells[0] <= laws["B"].cells[1]
    assert laws["B"].cells[0] <= laws["C"].cells[1]


def test_inner_cells_pack_more_tightly_with_the_letter():
    apart = {}
    for letter in "ABC":
        spread = []
        for n in range(60):
            cells = anatomy_of(4, view(n, letter + "B")).inner
            area = np.ptp(cells.x) * np.ptp(cells.y)
            spread.append(area / (cells.along * cells.across).sum())
        apart[letter] = np.median(spread)
    assert apart["A"] < apart["B"] < apart["C"]


def test_inner_cells_touch_the_wall_and_stay_inside():
    for n in range(50):
        anatomy = anatomy_of(6, view(n))
        distance = np.hypot(anatomy.inner.x, anatomy.inner.y)
        assert 0.7 * anatomy.rim_radius < distance.max() < anatomy.rim_radius


# one in a thousand sets of embryos would fail each of these by chance
LEVEL = 1e-3


@pytest.mark.parametrize("expansion", [1, 3, 4])
def test_size_and_zona_read_from_masks_follow_their_laws(expansion):
    radii, zonas = [], []
    for n in range(60):
        masks = phantom_truth(7, view(n, "AA", expansion), 256).masks
        # the perivitelline space has no mask: fill from the zona's own inner border
        zona = masks["zona"] > 0
        rows, columns = np.nonzero(zona)
        axis = np.arange(256) + 0.5
        distance = np.hypot(axis[None] - columns.mean() - 0.5, axis[:, None] - rows.mean() - 0.5)
        inside = distance < distance[zona].mean()
        outer = np.sqrt((inside | zona).sum() / np.pi)
        inner = np.sqrt((inside & ~zona).sum() / np.pi)
        radii.append(outer / 256)
        zonas.append(1 - inner / outer)
    assert stats.kstest(radii, uniform(EMBRYO_RADIUS)).pvalue > LEVEL
    assert stats.kstest(zonas, uniform(EXPANSION_RANGES[expansion].zona)).pvalue > LEVEL


@pytest.mark.parametrize("letter", "ABC")
def test_thickness_of_the_trophectoderm_read_from_masks_follows_its_law(letter):
    thickness = []
    for n in range(60):
        shown = view(n, "A" + letter, 4)
        numbers = phantom_numbers(8, shown)
        unit = numbers["radius"] * 256
        radius = 1 - numbers["zona"] / MICROMETRES
        area = (phantom_truth(8, shown, 256).masks["te"] > 0).sum() / unit**2
        thickness.append(radius - np.sqrt(radius**2 - area / np.pi))
    assert stats.kstest(thickness, uniform(TE_RANGES[letter].thickness)).pvalue > LEVEL


def test_the_inner_cell_mass_may_lie_in_any_direction():
    angles = [phantom_numbers(9, view(n))["icm_angle"] for n in range(300)]
    assert stats.kstest(angles, uniform((-180, 180))).pvalue > LEVEL
