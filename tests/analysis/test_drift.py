import math

import numpy as np
import pytest

from vnbench.analysis.statistics.estimate import Estimate, student_t
from vnbench.analysis.trials.drift import TimedFigure, fit_drift

HOUR = 3600.0


def runs(*points: tuple[float, float]) -> list[TimedFigure]:
    """Figures by hours after the start."""
    return [TimedFigure(time_s=hours * HOUR, figure=Estimate(value=value)) for hours, value in points]


def test_a_trial_that_gets_slower_by_the_hour_has_that_slope() -> None:
    drift = fit_drift([runs((0, 99.0), (1, 100.0), (2, 101.0))], length_s=2 * HOUR)
    assert drift is not None
    assert drift.per_hour.value == pytest.approx(0.01)
    assert drift.change.value == pytest.approx(0.02)
    assert drift.per_hour.half_width == pytest.approx(0, abs=1e-12)
    assert drift.is_told_apart


def test_the_slope_has_the_hand_worked_interval() -> None:
    # Deviations -0.01, 0.02, -0.01 at hours -1, 0, 1: slope 0, residual variance 0.0006 / (3 - 1 - 1).
    drift = fit_drift([runs((0, 99.0), (1, 102.0), (2, 99.0))], length_s=2 * HOUR)
    assert drift is not None
    assert drift.per_hour.value == pytest.approx(0)
    assert drift.per_hour.half_width == pytest.approx(student_t(1) * math.sqrt(0.0006) / math.sqrt(2))
    assert drift.change.half_width == pytest.approx(2 * (drift.per_hour.half_width or 0))
    assert not drift.is_told_apart


def test_every_spec_has_a_level_of_its_own() -> None:
    drift = fit_drift(
        [runs((0, 10.0)), runs((0.5, 1.98), (1.5, 2.02)), runs((0, 98.0), (1, 100.0), (2, 102.0))], length_s=2 * HOUR
    )
    assert drift is not None
    assert drift.per_hour.value == pytest.approx(0.02)
    assert drift.reference_index == 2
    assert [point.figure.value for point in drift.reference] == pytest.approx([-0.02, 0, 0.02])
    assert [point.time_s for point in drift.others] == [0.5 * HOUR, 1.5 * HOUR]
    assert drift.per_hour.dof == 5 - 2 - 1


def test_two_runs_have_a_slope_without_an_interval() -> None:
    drift = fit_drift([runs((0, 99.0), (1, 101.0))], length_s=HOUR)
    assert drift is not None
    assert drift.per_hour.value == pytest.approx(0.02)
    assert drift.per_hour.half_width is None
    assert drift.change.half_width is None
    assert not drift.is_told_apart
    assert (drift.line_at(0).value, drift.line_at(0).half_width) == (pytest.approx(-0.01), None)


@pytest.mark.parametrize("specs", [[], [runs((0, 9.0))], [runs((1, 9.0), (1, 10.0))]])
def test_nothing_repeated_or_all_at_one_time_is_no_drift(specs) -> None:
    assert fit_drift(specs, length_s=HOUR) is None


def test_the_line_runs_through_the_mean_of_the_reference_and_is_surest_there() -> None:
    drift = fit_drift([runs((1, 99.0), (2, 102.0), (3, 99.5))], length_s=3 * HOUR)
    assert drift is not None
    middle, end = drift.line_at(2 * HOUR), drift.line_at(3 * HOUR)
    assert middle.value == pytest.approx(0)
    assert middle.se is not None
    assert end.se is not None
    assert middle.se < end.se
    assert drift.residual is not None
    assert middle.half_width == pytest.approx(student_t(1) * drift.residual / math.sqrt(3))


def test_errors_are_relative_to_the_mean_of_the_spec() -> None:
    figures = [
        TimedFigure(time_s=0, figure=Estimate(value=90.0, se=9.0)),
        TimedFigure(time_s=HOUR, figure=Estimate(value=110.0)),
    ]
    drift = fit_drift([figures], length_s=HOUR)
    assert drift is not None
    assert [point.figure.se for point in drift.reference] == [pytest.approx(0.09), None]


def test_the_slopes_interval_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.Generator(np.random.Philox(key=5))
    hits = 0
    for _ in range(600):
        specs = []
        for level in (1.0, 3.0):
            hours = np.sort(random.uniform(0, 2, size=4))
            values = level * (1 + 0.02 * hours) * random.normal(1, 0.01, size=4)
            specs.append(runs(*zip(hours.tolist(), values.tolist(), strict=True)))
        drift = fit_drift(specs, length_s=2 * HOUR)
        assert drift is not None
        assert drift.per_hour.half_width is not None
        # Relative to the spec's mean over the sweep, which lies 2 % above its start.
        hits += abs(drift.per_hour.value - 0.02 / 1.02) <= drift.per_hour.half_width
    assert 0.92 <= hits / 600 <= 0.98
