from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from vnbench.analysis.comparison.paired import Side, SweepNoise, compare_speed, sweep_noise
from vnbench.analysis.statistics.estimate import Estimate, student_t
from vnbench.analysis.statistics.process_spread import Spread
from vnbench.analysis.trials.steps_seen import SeenProcess, Shapes, StepNoise, equal_steps, step_noise

PIXELS = np.array([2.35, 3.87, 6.92, 5.88, 4.63, 3.13]) * 1e6
ALONE = tuple((i,) for i in range(6))
IN_PAIRS = ((0, 5), (1, 4), (2, 3))


def process(*epochs_s: Sequence[float], pixels: Sequence[float] = (1000, 2000), error: float = 0.1) -> SeenProcess:
    """Return a process with given step times; valid pixels are a thousand in all."""
    shapes: Shapes = tuple((1, int(count), int(count), 32, int(count)) for count in pixels)
    mean_s = sum(map(sum, epochs_s)) / len(epochs_s)
    time = Estimate(value=mean_s / 1000, se=error * mean_s / 1000, dof=len(pixels) - 1)
    return SeenProcess(time=time, shapes=shapes, epochs_s=tuple(map(tuple, epochs_s)))


def side(*processes: SeenProcess) -> Side:
    return Side(processes=processes)


UNKNOWN = SweepNoise(spread=None, steps=None)
SPREAD = Spread(relative=0.02, relative_within=0.0, degrees_of_freedom=2, num_specs=1, num_processes=3)


def test_a_side_that_takes_the_same_factor_longer_on_every_canvas_is_known_exactly() -> None:
    ratio = compare_speed(side(process([2.5, 7.5])), side(process([2.0, 6.0])), noise=UNKNOWN)
    assert ratio.value == pytest.approx(0.8)
    assert ratio.log.se == pytest.approx(0.0, abs=1e-12)
    assert ratio.is_told_apart
    assert ratio.inverse.value == pytest.approx(1.25)


def test_steps_on_the_same_examples_are_paired_one_by_one() -> None:
    # y = (1.3, 2.2), x = (1, 2): R = 3.5 / 3; residuals 1.3 - R = 0.1333 and 2.2 - 2 R = -0.1333;
    # standard error sqrt(2 * 0.01778 / (2 * 1)) / 1.5 = 0.0889, relative to R 0.0762, one degree of freedom.
    ratio = compare_speed(side(process([1.3, 2.2])), side(process([1.0, 2.0])), noise=UNKNOWN)
    assert ratio.value == pytest.approx(3 / 3.5)
    assert ratio.log.se == pytest.approx(0.0762, abs=1e-4)
    assert ratio.log.dof == 1


def test_the_centre_s_several_processes_count_as_several() -> None:
    several = side(*(process([2.0, 6.0]) for _ in range(3)))
    ratio = compare_speed(side(process([2.5, 7.5])), several, noise=SweepNoise(spread=SPREAD, steps=None))
    assert ratio.log.se == pytest.approx(0.02 * math.sqrt(1 + 1 / 3))
    assert ratio.half_width == pytest.approx(4.303 * 0.02 * math.sqrt(4 / 3), rel=1e-3)
    assert ratio.interval == pytest.approx((0.8 / math.exp(0.0994), 0.8 * math.exp(0.0994)), rel=1e-3)


def test_what_steps_explain_beyond_the_spread_is_added_to_it() -> None:
    # Of the steps 0.05^2 each side, of the spread 0.02^2 each, of which steps explain nothing.
    noise = SweepNoise(spread=SPREAD, steps=None)
    uneven = equal_steps(((1, 1000, 1000, 32, 1000), (1, 2000, 2000, 32, 2000)))
    known = StepNoise(relative=0.05 * math.sqrt(uneven), degrees_of_freedom=50)
    one, other = process([1.0, 2.0]), process([1.5, 1.5], pixels=(1500, 1500))
    without = compare_speed(side(one), side(other), noise=noise)
    within = compare_speed(side(one), side(other), noise=SweepNoise(spread=SPREAD, steps=known))
    of_steps = 0.05**2 + 0.05**2 * uneven / 2
    assert within.log.se == pytest.approx(math.sqrt(2 * 0.02**2 + of_steps), rel=1e-6)
    assert within.log.dof > 2
    # Without a step that is repeated anywhere the steps are draws, canvases of different cost included.
    assert without.log.se == pytest.approx(math.sqrt(2 * 0.02**2 + 2 * 0.1**2), rel=1e-6)


def test_a_spread_that_steps_explain_is_no_more_than_they_say() -> None:
    explained = Spread(relative=0.02, relative_within=0.03, degrees_of_freedom=2, num_specs=1, num_processes=3)
    one = process([1.0, 2.0], [1.0, 2.0], [1.0, 2.0])
    noise = SweepNoise(spread=explained, steps=StepNoise(relative=0.0, degrees_of_freedom=10))
    ratio = compare_speed(side(one), side(one), noise=noise)
    assert ratio.log.se == pytest.approx(0.03 * math.sqrt(2))
    assert ratio.log.dof > 2


def test_a_single_step_a_side_tells_no_error() -> None:
    bare = SeenProcess(time=Estimate(value=1e-3))
    ratio = compare_speed(side(bare), side(bare), noise=UNKNOWN)
    assert (ratio.value, ratio.half_width, ratio.interval, ratio.is_told_apart) == (1.0, None, None, False)


def test_the_noise_of_steps_is_what_differs_between_epochs_and_not_between_canvases() -> None:
    # Residuals are +-0.1 s on canvases of 1 and 3 s, two degrees of freedom: a step has 0.04 / 2 s^2, an epoch of two
    # twice that, which is 0.2 s of 4 s.
    found = step_noise([process([1.1, 2.9], [0.9, 3.1], pixels=(1000, 1000))])
    assert found is not None
    assert found.relative / math.sqrt(2) == pytest.approx(0.2 / 4)
    assert found.degrees_of_freedom == 2


def test_a_process_that_is_slower_as_a_whole_adds_nothing_to_the_noise_of_its_steps() -> None:
    found = step_noise([process([1.0, 2.0]), process([1.2, 2.4]), process([1.1, 2.2])])
    assert found is not None
    assert found.relative == pytest.approx(0.0, abs=1e-12)


def test_one_epoch_of_one_process_repeats_nothing() -> None:
    assert step_noise([process([1.0, 2.0])]) is None
    assert sweep_noise([side(process([1.0, 2.0])), side(process([3.0, 4.0]))]) == UNKNOWN


def test_uneven_steps_count_as_fewer() -> None:
    assert equal_steps(((1, 9, 10, 1, 1), (1, 9, 10, 1, 1))) == pytest.approx(2)
    assert equal_steps(((1, 9, 10, 1, 1), (1, 9, 30, 1, 1))) == pytest.approx(1600 / 1000)


def simulated_side(
    random: np.random.Generator,
    groups: Sequence[tuple[int, ...]],
    *,
    cost: float,
    processes: int,
    epochs: int,
    between: float,
    within: float,
) -> tuple[Side, float]:
    """Return processes of a configuration whose larger canvases cost more per pixel, and its true time per pixel."""
    pixels = np.array([PIXELS[list(group)].sum() for group in groups])
    largest = np.array([PIXELS[list(group)].max() for group in groups])
    true_s = cost * 1e-6 * pixels * (1 + largest / 1e7)
    shapes: Shapes = tuple(
        (len(group), int(count), int(count), 640, int(count) // 640)
        for group, count in zip(groups, pixels, strict=True)
    )
    seen = []
    for _ in range(processes):
        level = math.exp(random.normal(0, between))
        epochs_s = true_s * level * np.exp(random.normal(0, within, (epochs, len(groups))) - within**2 / 2)
        per_pixel = float(epochs_s.sum()) / epochs / float(PIXELS.sum())
        time = Estimate(value=per_pixel, se=0.2 * per_pixel, dof=2)
        seen.append(SeenProcess(time=time, shapes=shapes, epochs_s=tuple(map(tuple, epochs_s.tolist()))))
    return Side(processes=tuple(seen)), float(true_s.sum() / PIXELS.sum())


def coverage(
    processes: tuple[int, int], groups: Sequence[tuple[int, ...]], *, epochs: int, between: float, within: float
) -> tuple[float, float]:
    """Return the share of intervals that hold the true ratio, and their median half-width."""
    random = np.random.Generator(np.random.Philox(24))
    held, half_widths = 0, []
    num_sweeps = 600
    for _ in range(num_sweeps):
        common = {"epochs": epochs, "between": between, "within": within}
        centre, centre_s = simulated_side(random, ALONE, cost=1.0, processes=processes[1], **common)
        other, other_s = simulated_side(random, groups, cost=1.27, processes=processes[0], **common)
        # A third configuration that ran three times: without one nothing tells how far single processes differ.
        third, _ = simulated_side(random, ALONE, cost=2.0, processes=3, **common)
        sides = [centre, other] if max(processes) > 1 else [centre, other, third]
        ratio = compare_speed(other, centre, noise=sweep_noise(sides))
        assert ratio.interval is not None
        assert ratio.half_width is not None
        held += ratio.interval[0] <= centre_s / other_s <= ratio.interval[1]
        half_widths.append(ratio.half_width)
    return held / num_sweeps, float(np.median(half_widths))


@pytest.mark.parametrize("groups", [ALONE, IN_PAIRS], ids=["paired steps", "paired epochs"])
@pytest.mark.parametrize(
    ("processes", "epochs", "between", "within"),
    [
        ((1, 3), 1, 0.01, 0.01),
        ((1, 3), 1, 0.0, 0.05),
        ((1, 3), 1, 0.03, 0.02),
        ((1, 3), 2, 0.02, 0.05),
        ((2, 2), 1, 0.02, 0.05),
        ((3, 3), 2, 0.01, 0.02),
        ((1, 1), 1, 0.01, 0.03),
    ],
)
def test_about_95_per_cent_of_the_intervals_hold_the_true_ratio(
    groups: Sequence[tuple[int, ...]], processes: tuple[int, int], epochs: int, between: float, within: float
) -> None:
    share, half_width = coverage(processes, groups, epochs=epochs, between=between, within=within)
    assert 0.93 <= share <= 0.985
    # What processes of the centre differ by, all told: no more than five times that, three processes against one.
    spread = math.hypot(between, within / math.sqrt(5.2 * epochs))
    assert half_width <= (5.0 if processes != (1, 1) else 7.0) * spread


def test_intervals_from_two_processes_are_wide_enough() -> None:
    share, _ = coverage((1, 2), ALONE, epochs=1, between=0.02, within=0.02)
    assert share >= 0.93


def test_the_half_width_is_below_8_per_cent_where_processes_differ_by_less_than_1_5_per_cent() -> None:
    assert student_t(2) * 0.015 * math.sqrt(4 / 3) < 0.08
    _, half_width = coverage((1, 3), ALONE, epochs=1, between=0.012, within=0.02)
    assert half_width <= 0.08
