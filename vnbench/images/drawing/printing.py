"""The form before curves are plotted: aged paper, grid, depths and heading."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vnbench.images.drawing.layout import Layout, Track
from vnbench.images.drawing.lettering import stamp, turned
from vnbench.images.drawing.value_noise import value_noise

Gray = NDArray[np.uint8]

PAPER_GRAYS = (188, 226)
"""Range of the gray of bare paper: scans of aged paper are not white."""
PAPER_SWING = (3, 6)
"""Gray levels by which the paper varies across and along the strip."""

LIGHT, MEDIUM, HEAVY = range(3)

LINE_GRAYS = ((150, 186), (118, 158), (86, 122))
"""Range of the gray of light, medium and heavy lines."""

FEET = (2, 10, 50)
"""Depth in feet between light, medium and heavy lines."""
CLOSEST = 5
"""Minimum distance in pixels between lines of one weight: closer ones are left out, as on coarse scales."""

DIVISIONS = 10
"""Divisions of a linear scale."""
LOG_POSITIONS = (0, 301, 477, 602, 699, 778, 845, 903, 954)
"""Positions of 1 to 9 in thousandths of a decade."""

COMPANIES = ("HALVORSEN OIL CO.", "PRAIRIE STAR PETR.", "BLUE MESA ENERGY", "KESTREL EXPL. LTD", "TIDEWATER & SONS")
WELLS = ("STATE UNIT 3-14", "FEE NO. 2", "HAGEN A-1", "ROCK CREEK 27", "L. DUPREE 1")
FIELDS = ("WILDCAT", "EAST BEND", "SAND HILLS", "COLD LAKE", "MIDWAY")
LOGS = ("INDUCTION LOG", "GAMMA RAY NEUTRON", "ELECTRICAL SURVEY", "SONIC LOG", "MICROLOG")
SCALES = (("SP", "-160", "40"), ("GR API", "0", "150"), ("CAL IN", "6", "16"))
DEEP_SCALES = (("RES OHMM", "0.2", "2000"), ("RHOB", "1.95", "2.95"), ("DT US/FT", "140", "40"), ("NPHI", "45", "-15"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Press:
    """Gray levels of one printing."""

    paper: int
    """Gray of the paper."""
    lines: tuple[int, int, int]
    """Gray of light, medium and heavy lines."""
    text: int
    """Gray of letters."""


def choose_press(rng: np.random.Generator) -> Press:
    """Return the gray levels of one printing."""
    light, medium, heavy = (int(rng.integers(*grays, endpoint=True)) for grays in LINE_GRAYS)
    return Press(
        paper=int(rng.integers(*PAPER_GRAYS, endpoint=True)),
        lines=(light, medium, heavy),
        text=int(rng.integers(56, 96)),
    )


def print_form(rng: np.random.Generator, layout: Layout, press: Press, *, height: int, width: int) -> Gray:
    """Return a printed form without curves, uint8 (H, W)."""
    image_HW = _paper(rng, press, height=height, width=width)
    across_W = _depth_lines(layout, press, width=width)
    for track in layout.tracks:
        along_H = _scale_lines(track, press)
        place_HW = image_HW[track.top : track.bottom, layout.header :]
        np.minimum(place_HW, along_H[:, None], out=place_HW)
        np.minimum(place_HW, across_W[None, layout.header :], out=place_HW)
    _print_depths(image_HW, layout, press)
    if layout.header:
        _print_heading(rng, image_HW, layout, press)
    return image_HW


def _paper(rng: np.random.Generator, press: Press, *, height: int, width: int) -> Gray:
    """Return uneven paper, lighter or darker towards its edges."""
    across, along = PAPER_SWING
    rows_H = value_noise(rng, length=height, spacing=max(height // 3, 1), swing=across)
    columns_W = value_noise(rng, length=width, spacing=701, swing=along)
    columns_W += value_noise(rng, length=width, spacing=89, swing=along // 2)
    return np.add.outer((press.paper + rows_H).astype(np.uint8), (columns_W + along * 2).astype(np.uint8))


def _depth_lines(layout: Layout, press: Press, *, width: int) -> Gray:
    """Return the gray of the lines across the depth axis in each column, white where there is no line."""
    level_W = np.full(width, 255, dtype=np.uint8)
    for weight, feet in enumerate(FEET):
        pitch_100 = layout.columns_per_100_ft * feet
        if pitch_100 < CLOSEST * 100:
            continue
        lines = layout.header + np.arange(width * 100 // pitch_100 + 1) * pitch_100 // 100
        for thickness in range(2 if weight == HEAVY else 1):
            level_W[(lines + thickness)[lines + thickness < width]] = press.lines[weight]
    return level_W


def _scale_lines(track: Track, press: Press) -> Gray:
    """Return the gray of the lines along the depth axis in each row of a track, white where there is no line."""
    level_H = np.full(track.height, 255, dtype=np.uint8)
    last = track.height - 1
    if last < 2 * DIVISIONS:
        return level_H
    if track.scale == "linear":
        for division in range(DIVISIONS + 1):
            level_H[last * division // DIVISIONS] = press.lines[MEDIUM if division % 5 == 0 else LIGHT]
    else:
        for decade in range(track.decades):
            for index, thousandths in enumerate(LOG_POSITIONS):
                row = last * (1000 * decade + thousandths) // (1000 * track.decades)
                level_H[row] = press.lines[LIGHT if index else MEDIUM]
    level_H[:2] = level_H[-2:] = press.lines[HEAVY]
    return level_H


def _print_depths(image_HW: Gray, layout: Layout, press: Press) -> None:
    """Print the depth at each heavy line, or at fewer of them where they are close together."""
    pitch_100 = layout.columns_per_100_ft * FEET[HEAVY]
    every = next((n for n in (1, 2, 5, 10) if pitch_100 * n >= 3500), 20)
    for line in range(every, image_HW.shape[1] * 100 // pitch_100 + 1, every):
        ink_HW = turned(str(layout.first_depth_ft + FEET[HEAVY] * line))
        row = (layout.depth_column.top + layout.depth_column.bottom - ink_HW.shape[0]) // 2
        if ink_HW.shape[0] + 4 > layout.depth_column.height:
            continue
        column = layout.header + line * pitch_100 // 100 - ink_HW.shape[1] // 2
        stamp(image_HW, ink_HW, row=row, column=column, gray=press.text)


def _print_heading(rng: np.random.Generator, image_HW: Gray, layout: Layout, press: Press) -> None:
    """Print the heading: a frame with the well's data, then the scale of each track where the track begins."""
    height = image_HW.shape[0]
    inset = layout.header - 52
    for column in (2, inset, layout.header - 2):
        image_HW[2 : height - 2, column : column + 2] = press.lines[HEAVY]
    for row in (2, height - 4):
        image_HW[row : row + 2, 2 : layout.header] = press.lines[HEAVY]
    texts = [names[int(rng.integers(len(names)))] for names in (LOGS, COMPANIES, WELLS, FIELDS)]
    labels = ("", "COMPANY ", "WELL ", "FIELD ")
    lines = [label + text for label, text in zip(labels, texts, strict=True)]
    lines.append(f"DATE {int(rng.integers(1, 13)):02d}-{int(rng.integers(1, 29)):02d}-{int(rng.integers(47, 98))}")
    lines.append(
        f"RUN {int(rng.integers(1, 5))}   BIT {int(rng.integers(6, 13))} IN   KB {int(rng.integers(200, 5000))} FT"
    )
    column = 12
    for index, line in enumerate(lines):
        ink_HW = turned(line, scale=2 if index == 0 else 1)
        if column + ink_HW.shape[1] > inset:
            break
        stamp(image_HW, ink_HW, row=height - 14 - ink_HW.shape[0], column=column, gray=press.text)
        column += ink_HW.shape[1] + 7
    for number, track in enumerate(layout.tracks):
        scales = SCALES if number == 0 else DEEP_SCALES
        name, left, right = scales[int(rng.integers(len(scales)))]
        for offset, text in ((16, name), (32, f"{left} - {right}")):
            ink_HW = turned(text)
            row = (track.top + track.bottom - ink_HW.shape[0]) // 2
            if ink_HW.shape[0] + 4 <= track.height:
                stamp(image_HW, ink_HW, row=row, column=inset + offset - 8, gray=press.text)
