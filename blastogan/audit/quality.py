"""Notes on how images were taken: focus, frame, drawings in them, and looks of microscopes.

The limits were tuned by eye on micrographs of three clinics (452 images) and on phantoms of every
style and framing (480), so that sound images are not noted; unsharp or cut ones are found in part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from blastogan.audit.contents import Audit, Finding

if TYPE_CHECKING:
    from blastogan.audit.measures import Measures

BLURRED = 0.5  # images with a lower sharpness are reported
CUT = 0.25  # embryos that reach further beyond the frame, in radii, are reported
DRAWN = 1e-4  # images with a larger share of pure colours are reported
COLOURFUL = 0.2  # images with a larger share of other colours than the light are reported
FLAT = 0.6  # images with a larger share of one grey are reported

MIN_IMAGES = 10  # fewer images are not divided into looks
MIN_SHARE = 0.02  # least share of the images of a look
APART = 5.0  # least distance of the means of two looks, in standard deviations (Ashman et al. 1994)
UNLIKE = (8.0, 8.0, 12.0, 12.0)  # least difference of their means in each of `_features`
_GREY = 0.3  # casts with a smaller range of channels, relative to the lightness, are called grey
_HUES = (
    "red", "orange", "yellow", "green", "green", "green",
    "turquoise", "blue", "blue", "purple", "purple", "red",
)  # fmt: skip

_LOOK_AT = "look at them (--figure); --write-exclude FILE lists them for --data.exclude FILE"


class _Rule(NamedTuple):
    """What is noted of single images.

    Attributes:
        name: Short name, for the figure and the table of noted images.
        what: What they are, in the plural.
        remedy: What to do.
    """

    name: str
    what: str
    remedy: str
    holds: Callable[[Measures], bool]


RULES: Mapping[str, _Rule] = {
    "blurred": _Rule(
        "out of focus",
        "images that are out of focus",
        f"they teach blur, and their grades cannot be seen; {_LOOK_AT}",
        lambda each: 0 < each.sharpness < BLURRED,
    ),
    "no-embryo": _Rule(
        "no embryo",
        "images in which no embryo is found",
        _LOOK_AT,
        lambda each: each.empty,
    ),
    "cropped": _Rule(
        "cut by the frame",
        "embryos that the frame cuts",
        f"a grade may be of what is not shown; {_LOOK_AT}",
        lambda each: each.outside > CUT,
    ),
    "two-embryos": _Rule(
        "two embryos",
        "images of two embryos",
        f"the grade is of one of them: cut it out, or leave them out; {_LOOK_AT}",
        lambda each: each.two,
    ),
    "overlay": _Rule(
        "drawn on",
        "images with something drawn on them in a pure colour, such as a crosshair or text",
        f"it would be learned, and may give the grade away; {_LOOK_AT}",
        lambda each: each.drawn > DRAWN and each.colourful <= COLOURFUL,
    ),
    "off-topic": _Rule(
        "unlike the others",
        "images that do not look like micrographs: of many colours, or mostly of one even tone",
        _LOOK_AT,
        lambda each: each.colourful > COLOURFUL or each.flat > FLAT,
    ),
}
"""Notes on single images, by kind of finding."""


def find_quality_notes(audit: Audit) -> Iterator[Finding]:
    """Notes on single images, and on looks that differ within the set."""
    for kind, names in noted_images(audit.measures).items():
        rule = RULES[kind]
        message = f"{rule.what} ({len(names):,}): {rule.remedy}"
        yield Finding(kind, "note", message, len(names), tuple(names))
    looks = find_looks(audit.measures)
    if looks:
        colours = len({look.colour for look in looks}) > 1
        remedy = "a generator learns each as it is, and a grader may read it in place of the embryo"
        if colours:
            remedy += "; --data.colour balance takes casts out of RGB images, grey all colour"
        message = f"looks that differ in light, contrast or colour ({len(looks)}): several "
        message += f"microscopes or settings in one set; {remedy}"
        yield Finding("looks", "note", message, len(looks), tuple(map(str, looks)))


def noted_images(measures: Mapping[str, Measures]) -> dict[str, list[str]]:
    """Names of the noted images by kind of note; kinds without any are left out."""
    noted = {
        kind: [name for name, each in measures.items() if rule.holds(each)]
        for kind, rule in RULES.items()
    }
    # the way of most images is that of the set
    if 2 * len(noted["off-topic"]) > len(measures):
        del noted["off-topic"]
    return {kind: names for kind, names in noted.items() if names}


def reasons(measures: Mapping[str, Measures]) -> dict[str, str]:
    """Why each noted image is noted, by name, in the order of the names."""
    found: dict[str, list[str]] = {}
    for kind, names in noted_images(measures).items():
        for name in names:
            found.setdefault(name, []).append(RULES[kind].name)
    return {name: "; ".join(found[name]) for name in sorted(found)}


class Look(NamedTuple):
    """Images of a similar light, contrast and colour.

    Attributes:
        images: Their names.
        colour: Name of the colour of the light.
        light: Median lightness, 0 to 100.
        contrast: Median contrast, 0 to 100.
    """

    images: tuple[str, ...]
    colour: str
    light: float
    contrast: float

    @property
    def name(self) -> str:
        """Description in a few words."""
        return f"{self.colour}, light {self.light:.0f} %, contrast {self.contrast:.0f} %"

    def __str__(self) -> str:
        return f"{self.name}: {len(self.images):,} images, such as {self.images[0]}"


def find_looks(measures: Mapping[str, Measures]) -> list[Look]:
    """Groups of images by light, contrast and colour, the largest first; none if all are alike.

    A group is divided in two where one of the features has two well separated peaks, and the parts
    again, until no feature has. The time grows as N log N.
    """
    names = list(measures)
    if len(names) < MIN_IMAGES:
        return []
    values = np.array([_features(measures[name]) for name in names])
    least = max(3, round(MIN_SHARE * len(names)))
    groups = [np.arange(len(names))]
    done = []
    while groups:
        group = groups.pop()
        parts = _divided(values[group], least)
        if parts is None:
            done.append(group)
        else:
            groups += [group[parts], group[~parts]]
    if len(done) == 1:
        return []
    done.sort(key=len, reverse=True)
    return [_look({names[n]: measures[names[n]] for n in group}) for group in done]


def _features(each: Measures) -> tuple[float, float, float, float]:
    """Lightness and contrast, 0 to 100, and red to green and blue to yellow in % of lightness."""
    red, green, blue = each.tint
    light = max(each.light, 1.0)
    opponents = (red - green) / light, (blue - (red + green) / 2) / light
    return each.light / 2.55, each.contrast / 2.55, 100 * opponents[0], 100 * opponents[1]


def _divided(values: NDArray[np.float64], least: int) -> NDArray[np.bool_] | None:
    """The lower part of values (N, F) by the best separated feature; None if none has two peaks.

    Each feature is divided by Otsu's criterion (1979), and parts count as separate from `APART`.
    """
    best, lower = APART, None
    count = len(values)
    for column, unlike in zip(values.T, UNLIKE, strict=True):
        if count < 2 * least:
            break
        ordered = np.sort(column)
        sizes = np.arange(least, count - least + 1)
        sums = np.cumsum(ordered)[sizes - 1]
        below, above = sums / sizes, (ordered.sum() - sums) / (count - sizes)
        place = int(np.argmax(sizes * (count - sizes) * (above - below) ** 2))
        parts = ordered[: sizes[place]], ordered[sizes[place] :]
        # values are of 8 bits: an even part is as wide as their rounding
        width = np.sqrt(sum(max(part.var(), 0.1) for part in parts) / 2)
        difference = float(above[place] - below[place])
        if difference >= unlike and difference / width > best:
            best, lower = difference / width, column < ordered[sizes[place]]
    return lower if lower is not None and lower.any() else None


def _look(group: Mapping[str, Measures]) -> Look:
    tints = np.median([each.tint for each in group.values()], axis=0)
    contrast = float(np.median([each.contrast for each in group.values()]))
    return Look(tuple(group), colour_name(*tints), float(tints.mean()) / 2.55, contrast / 2.55)


def colour_name(red: float, green: float, blue: float) -> str:
    """Name of the hue of a colour; ``grey`` if it is nearly so."""
    tones = {"red": red, "green": green, "blue": blue}
    least, most = min(tones.values()), max(tones.values())
    if most - least <= _GREY * max(sum(tones.values()) / 3, 1.0):
        return "grey"
    # the hues lie at equal angles of the colour circle
    x, y = red - (green + blue) / 2, (green - blue) * 3**0.5 / 2
    return _HUES[round(float(np.degrees(np.arctan2(y, x))) / 30) % len(_HUES)]
