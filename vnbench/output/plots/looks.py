"""How a value of a lever is drawn, wherever it is: one table, and a cycle for values that nobody has given a look."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from matplotlib.colors import to_rgb

from vnbench.records.spec.precisions import PRECISIONS

BLUE, ORANGE, VERMILLION, GREEN = "#0072B2", "#E69F00", "#D55E00", "#009E73"
PURPLE, SKY, YELLOW = "#CC79A7", "#56B4E9", "#F0E442"
"""The palette of Okabe and Ito, Color universal design (2008), safe for the common colour blindnesses."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """What tells one value of a lever from the others, in colour and without."""

    colour: str
    marker: str
    """Of points and lines."""
    hatch: str
    """Of bars."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """What tells lines of one look apart: the other levers."""

    fill: str
    """Of markers: a half or all of them, or ``none``."""
    line: Any
    """Dashes, as matplotlib takes them."""
    shade: float
    """How far the colour is from the look's: towards white, or with a minus towards black."""


CYCLE = (
    Look(colour=BLUE, marker="o", hatch="||||"),
    Look(colour=ORANGE, marker="s", hatch="++++"),
    Look(colour=VERMILLION, marker="^", hatch="oooo"),
    Look(colour=GREEN, marker="D", hatch="OOOO"),
    Look(colour=PURPLE, marker="v", hatch="\\\\\\\\"),
    Look(colour=SKY, marker="P", hatch="****"),
)
"""Looks of what has no value of its own, one after the other."""

LOOKS: Mapping[str, Look] = {
    **dict(zip(PRECISIONS, CYCLE, strict=False)),
    "random": Look(colour=SKY, marker="o", hatch=""),
    "step-sorted": Look(colour=YELLOW, marker="s", hatch="...."),
    "bucketed": Look(colour=ORANGE, marker="^", hatch="////"),
    # A cross for the sampler whose steps, and so repeats, are those of another.
    "pixel-budget": Look(colour=GREEN, marker="x", hatch="xxxx"),
    "sorted": Look(colour="#BBBBBB", marker="D", hatch="----"),
}
"""Looks that values keep from figure to figure; a value that is not here still has one (looks_of)."""

VARIANTS = (
    Variant(fill="full", line="-", shade=0.0),
    Variant(fill="none", line="--", shade=0.45),
    Variant(fill="left", line=":", shade=-0.4),
    Variant(fill="bottom", line="-.", shade=0.65),
    Variant(fill="right", line=(0, (6, 2)), shade=-0.65),
    Variant(fill="top", line=(0, (1, 3)), shade=0.25),
)


def looks_of(values: Iterable[str]) -> dict[str, Look]:
    """Return the look of each value in one figure: those of LOOKS in its order, then the others by name.

    The others take looks of CYCLE whose colours none of the former has; first those that no value keeps.
    """
    given = set(values)
    known = {value: look for value, look in LOOKS.items() if value in given}
    taken = {look.colour for look in known.values()}
    order = sorted(CYCLE, key=lambda look: look in LOOKS.values())
    free = cycle([look for look in order if look.colour not in taken] or CYCLE)
    return known | {value: next(free) for value in sorted(given - known.keys())}


def shaded(colour: str, variant: Variant) -> tuple[float, float, float]:
    """Return a colour as a variant of it is drawn, so that lines of one look differ in grayscale too."""
    end = 1.0 if variant.shade > 0 else 0.0
    red, green, blue = (part + abs(variant.shade) * (end - part) for part in to_rgb(colour))
    return red, green, blue
