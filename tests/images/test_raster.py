from __future__ import annotations

import hashlib

import numpy as np
import pytest

from vnbench.images.drawing.curves import CODES, MAX_LINE_THICKNESS, SOLID, choose_codes, draw_curve
from vnbench.images.drawing.layout import Band, choose_layout
from vnbench.images.drawing.lettering import letters, stamp, turned
from vnbench.images.drawing.printing import choose_press, print_form
from vnbench.images.drawing.raster import GENERATOR_VERSION, draw_example
from vnbench.images.drawing.scan import Feed, choose_feed, feed, wear
from vnbench.images.drawing.value_noise import value_noise
from vnbench.records.spec.words import Task

HEIGHT, WIDTH = 560, 2400


def rng_of(index: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=np.array([7, index], dtype=np.uint64)))


@pytest.mark.parametrize(("task", "classes"), [("multiclass", [0, 1, 2]), ("binary", [0, 1])])
def test_mask_holds_the_classes_of_its_task(task: Task, classes: list[int]) -> None:
    image_HW, mask_HW = draw_example(seed=0, index=0, height=96, width=500, task=task)
    assert image_HW.shape == mask_HW.shape == (96, 500)
    assert image_HW.dtype == mask_HW.dtype == np.uint8
    assert np.unique(mask_HW).tolist() == classes


def test_both_tasks_see_the_same_image_and_foreground() -> None:
    multiclass = draw_example(seed=3, index=1, height=96, width=500, task="multiclass")
    binary = draw_example(seed=3, index=1, height=96, width=500, task="binary")
    assert np.array_equal(multiclass[0], binary[0])
    assert np.array_equal(multiclass[1] > 0, binary[1] > 0)


def test_drawing_depends_on_seed_and_index_alone() -> None:
    first = draw_example(seed=5, index=2, height=60, width=200, task="multiclass")
    draw_example(seed=5, index=3, height=61, width=200, task="multiclass")
    again = draw_example(seed=5, index=2, height=60, width=200, task="multiclass")
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    for seed, index in ((6, 2), (5, 3)):
        other = draw_example(seed=seed, index=index, height=60, width=200, task="multiclass")
        assert not np.array_equal(first[1], other[1])


def test_a_changed_drawing_has_another_version() -> None:
    """Pixels that change without it would pass for the old ones in corpora that are there already."""
    image_HW, mask_HW = draw_example(seed=1, index=2, height=HEIGHT, width=WIDTH, task="multiclass")
    drawn = hashlib.sha256(image_HW.tobytes() + mask_HW.tobytes()).hexdigest()[:16]
    assert (GENERATOR_VERSION, drawn) == (3, "13a8661c5dc6501c")


def test_about_three_percent_of_a_corpus_is_foreground() -> None:
    shares = [
        float((draw_example(seed=0, index=index, height=HEIGHT, width=WIDTH, task="binary")[1] > 0).mean())
        for index in range(24)
    ]
    assert 0.025 < np.mean(shares) < 0.035
    assert max(shares) > 2 * min(shares), "lively curves and lazy ones"


@pytest.mark.parametrize("index", range(8))
def test_solid_curves_are_connected_and_one_to_three_pixels_thick(index: int) -> None:
    band = Band(top=40, bottom=400)
    stroke = draw_curve(rng_of(index), band, number=1, code=SOLID, first_column=100, width=1500)
    curve_HW = np.zeros((440, 1500), dtype=bool)
    curve_HW[stroke.rows, stroke.columns] = True
    assert not curve_HW[:40].any()
    assert not curve_HW[400:].any()
    assert not curve_HW[:, :100].any()
    inside_HW = curve_HW[40:400, 100:]
    assert inside_HW.any(axis=0).all(), "each column is crossed"
    # On the cylinder that wrapping makes of the track, neighbouring columns share a row.
    assert (inside_HW[:, :-1] & inside_HW[:, 1:]).any(axis=0).all()
    side = MAX_LINE_THICKNESS + 1
    blocks = np.lib.stride_tricks.sliding_window_view(inside_HW, (side, side))
    assert blocks.all(axis=(2, 3)).mean() < 1e-4, "hardly a block of 4 x 4 px fits into the line, and only at a turn"


def test_a_curve_that_leaves_its_track_comes_in_on_the_other_side() -> None:
    band = Band(top=10, bottom=110)
    wrapped = 0
    for index in range(12):
        stroke = draw_curve(rng_of(index), band, number=0, code=SOLID, first_column=0, width=3000)
        in_column = np.zeros((120, 3000), dtype=bool)
        in_column[stroke.rows, stroke.columns] = True
        wrapped += int((in_column[10] & in_column[109]).sum())
    assert wrapped > 0


@pytest.mark.parametrize("code", [code for code in CODES if code != SOLID])
def test_a_coded_line_is_a_part_of_the_solid_one_with_its_share_of_ink(code: tuple[int, int]) -> None:
    band = Band(top=0, bottom=300)
    solid, coded = (
        draw_curve(rng_of(3), band, number=0, code=kind, first_column=0, width=4000) for kind in (SOLID, code)
    )
    places = {*zip(solid.rows.tolist(), solid.columns.tolist(), strict=True)}
    assert {*zip(coded.rows.tolist(), coded.columns.tolist(), strict=True)} < places
    assert len(coded.rows) / len(solid.rows) == pytest.approx(code[0] / sum(code), rel=0.15)


def test_two_curves_are_coded_differently_or_both_solid() -> None:
    pairs = [choose_codes(rng_of(index)) for index in range(200)]
    assert all(first != second or first == SOLID for first, second in pairs)
    assert {code for pair in pairs for code in pair} == set(CODES)


def test_lines_of_both_scales_lie_where_the_scale_has_them() -> None:
    kinds = set()
    for index in range(20):
        rng = rng_of(index)
        layout = choose_layout(rng, height=HEIGHT, width=WIDTH)
        press = choose_press(rng)
        image_HW = print_form(rng, layout, press, height=HEIGHT, width=WIDTH)
        assert layout.tracks[0].bottom == layout.depth_column.top
        assert layout.tracks[-1].bottom == HEIGHT
        for track in layout.tracks:
            kinds.add((track.scale, track.decades))
            # The gray that most of a row has tells its line; paper is lighter than any line.
            rows_H = np.median(image_HW[track.top : track.bottom, layout.header :], axis=1)
            lines = np.flatnonzero(rows_H < 187)
            if track.scale == "linear":
                assert np.diff(lines[(lines > 2) & (lines < track.height - 3)]).std() < 1, "ten even divisions"
            else:
                assert len(lines) >= 8 * track.decades
    assert kinds == {("linear", 0), ("logarithmic", 2), ("logarithmic", 4)}


def test_depths_are_printed_in_their_column_and_headings_only_on_long_strips() -> None:
    layouts = [choose_layout(rng_of(index), height=HEIGHT, width=WIDTH) for index in range(20)]
    assert {layout.header > 0 for layout in layouts} == {True, False}
    assert not any(choose_layout(rng_of(index), height=64, width=320).header for index in range(20))
    rng = rng_of(0)
    layout = choose_layout(rng, height=HEIGHT, width=WIDTH)
    press = choose_press(rng)
    image_HW = print_form(rng, layout, press, height=HEIGHT, width=WIDTH)
    column_HW = image_HW[layout.depth_column.top + 2 : layout.depth_column.bottom - 2, layout.header + 2 :]
    assert (column_HW == press.text).any()


def test_letters_are_read_from_bottom_to_top_and_never_cut() -> None:
    assert turned("6450").shape == letters("6450").shape[::-1]
    assert letters("6450", scale=2).shape == (22, 48)
    image_HW = np.full((20, 20), 200, dtype=np.uint8)
    stamp(image_HW, letters("6450"), row=0, column=0, gray=60)
    assert (image_HW == 200).all(), "24 px do not fit into 20"
    stamp(image_HW, letters("64"), row=5, column=5, gray=60)
    assert (image_HW == 60).sum() == letters("64").sum()


def test_the_scanner_moves_image_and_mask_alike() -> None:
    strip_HW = np.zeros((200, 900), dtype=np.uint8)
    strip_HW[60:63] = 9
    strip_HW[:, 450] = 9
    way = choose_feed(rng_of(4), height=200, width=900)
    seen_HW = feed(strip_HW, way, beyond=0)
    assert np.array_equal(feed(strip_HW * 7, way, beyond=0), seen_HW * 7)
    assert not np.array_equal(seen_HW, strip_HW)
    # Nothing is lost or doubled but for a row or two where the strip is stretched.
    assert (seen_HW > 0).sum() == pytest.approx((strip_HW > 0).sum(), rel=0.02)
    straight = Feed(np.zeros(900, dtype=np.int64), 0, np.zeros(200, dtype=np.int64), 240)
    assert np.array_equal(feed(strip_HW, straight, beyond=1), strip_HW)


def test_what_lies_beyond_the_strip_is_neither_image_nor_curve() -> None:
    strip_HW = np.full((50, 60), 3, dtype=np.uint8)
    way = Feed(np.full(60, 5), 0, np.full(50, -4), 240)
    seen_HW = feed(strip_HW, way, beyond=0)
    assert (seen_HW[:5] == 0).all()
    assert (seen_HW[:, -4:] == 0).all()
    assert (seen_HW[5:, :-4] == 3).all()


def test_wear_darkens_and_lightens_but_never_wraps_round() -> None:
    for index in range(20):
        image_HW = np.full((300, 3000), 230, dtype=np.uint8)
        wear(rng_of(index), image_HW)
        assert image_HW.min() >= 20
        assert image_HW.max() <= 246
    black_HW = np.zeros((300, 3000), dtype=np.uint8)
    wear(rng_of(1), black_HW)
    assert black_HW.max() <= 34


def test_a_path_in_whole_numbers_turns_at_its_knots() -> None:
    path = value_noise(rng_of(0), length=100, spacing=10, swing=50)
    assert path.dtype == np.int64
    assert abs(path).max() <= 50
    slopes = np.diff(path).reshape(-1)[:90].reshape(9, 10)
    assert (np.ptp(slopes, axis=1) <= 1).all(), "straight between the knots, but for rounding"


def test_curves_are_darker_than_their_surroundings() -> None:
    image_HW, mask_HW = draw_example(seed=0, index=0, height=HEIGHT, width=WIDTH, task="binary")
    assert np.median(image_HW[mask_HW == 1]) < np.percentile(image_HW[mask_HW == 0], 2)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 40), (2, 3), (50, 1), (7, 300), (1300, 200)])
def test_images_of_any_size_can_be_drawn(height: int, width: int) -> None:
    for index in range(8):
        image_HW, mask_HW = draw_example(seed=0, index=index, height=height, width=width, task="multiclass")
        assert image_HW.shape == mask_HW.shape == (height, width)
        assert mask_HW.max() <= 2


def test_image_without_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 px"):
        draw_example(seed=0, index=0, height=0, width=10, task="binary")
