from __future__ import annotations

import math
import random
import statistics

import pytest

from vnbench.analysis.models.step_fit import ASSUMED_BETWEEN, CONFIDENCE, StepFit, fit_steps
from vnbench.analysis.models.step_model import Form, StepPoint, choose_form, fit_step_model, leave_one_size_out
from vnbench.analysis.statistics.estimate import Estimate
from vnbench.analysis.statistics.process_spread import spread_of

MPX = 1e6
SIZES = tuple(size * MPX for size in (1.5, 2.3, 3.1, 3.9, 4.7, 5.5, 6.3, 7.1, 8.2))


def points_of(time, sizes=SIZES, *, processes: int = 1) -> list[StepPoint]:
    return [
        StepPoint(padded_pixels=size, step_time_s=time(size), process=process)
        for process in range(processes)
        for size in sizes
    ]


def line(size: float) -> float:
    return 0.02 + 0.1 * size / MPX


def hinged(size: float) -> float:
    return line(size) + 0.08 * max(0.0, size - 4.7 * MPX) / MPX


def quadratic(size: float) -> float:
    return line(size) + 0.01 * (size / MPX) ** 2


def test_a_line_worked_by_hand() -> None:
    # 3 = a + b, 5 = a + 2 b.
    model = fit_step_model(
        [StepPoint(padded_pixels=p, step_time_s=t, process=0) for p, t in ((1, 3), (2, 5))], "linear"
    )
    assert model.coefficients == pytest.approx((1, 2))
    assert model.time_s(1.5) == pytest.approx(4)
    assert model.overhead_s == pytest.approx(1)
    assert model.s_per_pixel == pytest.approx(2)


@pytest.mark.parametrize(("truth", "form"), [(line, "linear"), (quadratic, "quadratic"), (hinged, "hinge")])
def test_known_coefficients_are_recovered(truth, form: Form) -> None:
    model = fit_step_model(points_of(truth), form)
    assert model.form == form
    for size in SIZES:
        assert model.time_s(size) == pytest.approx(truth(size), rel=1e-6)
    assert model.overhead_s == pytest.approx(0.02, rel=1e-4)
    if form == "hinge":
        assert model.hinge_pixels == pytest.approx(4.7 * MPX)
        assert model.coefficients[1:] == pytest.approx((0.1 / MPX, 0.18 / MPX), rel=1e-4)


@pytest.mark.parametrize(("truth", "form"), [(line, "linear"), (quadratic, "quadratic"), (hinged, "hinge")])
def test_the_form_that_the_data_bear_is_chosen(truth, form: Form) -> None:
    generator = random.Random(1)
    noisy = [
        StepPoint(padded_pixels=p.padded_pixels, step_time_s=p.step_time_s * generator.gauss(1, 0.002), process=0)
        for p in points_of(truth)
    ]
    assert choose_form(noisy) == form


def test_noise_of_kernels_is_no_bend() -> None:
    bends = 0
    for seed in range(100):
        generator = random.Random(seed)
        bends += choose_form(points_of(lambda size, g=generator: line(size) * g.gauss(1, 0.02))) != "linear"
    assert bends <= 10


def test_terms_are_never_negative() -> None:
    model = fit_step_model(points_of(lambda size: 0.1 * size / MPX - 0.05), "linear")
    assert model.coefficients[0] == 0
    falling = fit_step_model(points_of(lambda size: 2 - 0.1 * size / MPX), "linear")
    assert falling.coefficients[1] == 0


def test_an_error_at_a_size_left_out_is_that_of_a_model_without_it() -> None:
    # A size of twice the line's time: left out, the line says half of it.
    def outlier(size: float) -> float:
        return line(size) * (2 if size == 3.9 * MPX else 1)

    errors = {one.padded_pixels: one.error for one in leave_one_size_out(points_of(outlier), "linear")}
    assert len(errors) == len(SIZES)
    assert errors[3.9 * MPX] == pytest.approx(-0.5)


def test_too_few_sizes_for_a_form_are_refused_and_have_no_error() -> None:
    with pytest.raises(ValueError, match="1 sizes are too few for a linear model"):
        fit_step_model(points_of(line, SIZES[:1]), "linear")
    assert leave_one_size_out(points_of(line, SIZES[:2]), "linear") == ()
    assert choose_form(points_of(line, SIZES[:3])) == "linear"


def test_outside_of_the_sizes_lies_extrapolation() -> None:
    model = fit_steps(points_of(line), spread=None).model
    assert [model.is_extrapolated(pixels) for pixels in (4 * MPX, 9 * MPX)] == [False, True]


def test_without_repeats_the_spread_between_processes_is_assumed_and_said_to_be() -> None:
    fit = fit_steps(points_of(line), spread=None)
    assert not fit.is_between_measured
    assert fit.between == ASSUMED_BETWEEN
    forecast = fit.forecast([4 * MPX])
    # The line is exact, so the interval is that of processes alone: z = 1.645 times 3 % times sqrt(2).
    assert forecast.margin(CONFIDENCE) == pytest.approx(1.645 * 0.03 * 2**0.5 * forecast.value, rel=0.01)


def test_two_sizes_leave_nothing_to_tell_an_interval_from() -> None:
    fit = fit_steps(points_of(line, SIZES[:2]), spread=None)
    assert (fit.size_error, fit.forecast([2 * MPX]).se, fit.loo_error_max) == (None, None, None)


def test_many_sizes_are_known_better_together_than_each_alone() -> None:
    generator = random.Random(0)
    fit = fit_steps(points_of(lambda size: line(size) * generator.gauss(1, 0.02)), spread=None)
    alone, together = fit.forecast([4 * MPX]), fit.forecast([2 * MPX, 3 * MPX, 4 * MPX, 5 * MPX, 6 * MPX])
    assert together.relative_error is not None
    assert alone.relative_error is not None
    assert together.relative_error < alone.relative_error
    with pytest.raises(ValueError, match="at least one step"):
        fit.forecast([])


def simulated(generator: random.Random, *, num_processes: int) -> tuple[StepFit, float, float]:
    """Return a fit, and the time of a size and a process that took no part in it.

    Libraries choose kernels per size (2 %, the same in every process), processes differ by 3 %, means by 0.3 %.
    """
    unseen = generator.uniform(2, 8) * MPX
    of_size = {size: generator.gauss(1, 0.02) for size in (*SIZES, unseen)}
    factors = [generator.gauss(1, 0.03) for _ in range(num_processes + 1)]
    points = [
        StepPoint(
            padded_pixels=size,
            step_time_s=line(size) * of_size[size] * factors[process] * generator.gauss(1, 0.003),
            process=process,
        )
        for process in range(num_processes)
        for size in SIZES
    ]
    by_size = [[Estimate(value=p.step_time_s) for p in points if p.padded_pixels == size] for size in SIZES]
    return fit_steps(points, spread=spread_of([by_size])), unseen, line(unseen) * of_size[unseen] * factors[-1]


@pytest.mark.parametrize("num_processes", [3, 6])
def test_intervals_of_ninety_percent_hold_a_size_and_a_process_never_seen(num_processes: int) -> None:
    generator = random.Random(num_processes)
    held, widths = 0, []
    for _ in range(600):
        fit, unseen, truth = simulated(generator, num_processes=num_processes)
        low, high = fit.forecast([unseen]).interval(CONFIDENCE) or (math.nan, math.nan)
        held += low <= truth <= high
        widths.append(2 * (high - low) / (high + low))
    assert 0.85 <= held / 600 <= 0.95
    assert statistics.median(widths) < 0.35
