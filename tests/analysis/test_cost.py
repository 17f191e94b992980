import math

import pytest

from vnbench.analysis.statistics.estimate import Estimate, student_t
from vnbench.analysis.statistics.process_spread import Spread, mean_of_processes
from vnbench.analysis.trials.compute import CanvasSummary
from vnbench.analysis.trials.cost import cost_of_epoch, split_by_range, time_of_passes


def canvas(padded_pixels: int, time_s: float, *, error: float | None = 0.0, processes: int = 1) -> CanvasSummary:
    within = Estimate(value=time_s, se=None if error is None else error * time_s, dof=20)
    time = mean_of_processes(within, spread=None, num_processes=processes)
    return CanvasSummary(
        height=32,
        width=padded_pixels // 32,
        num_examples=1,
        valid_pixels=padded_pixels,
        padded_pixels=padded_pixels,
        step_time=time,
        figures=(),
        num_steps=5,
        first_seen_s=None,
        peak_allocated_bytes=None,
        peak_reserved_bytes=None,
        host_growth_bytes=None,
        flop_per_step=None,
        stop_rules=(),
    )


def test_an_hour_costs_its_price_and_a_kilowatt_for_an_hour_is_a_kilowatt_hour() -> None:
    epoch = cost_of_epoch(Estimate(value=7200.0, se=720.0), price_per_hour=3.0, power_w=500.0)
    assert epoch.cost is not None
    assert epoch.energy_kwh is not None
    assert (epoch.cost.value, epoch.energy_kwh.value) == pytest.approx((6.0, 1.0))
    assert (epoch.cost.relative_error, epoch.energy_kwh.relative_error) == pytest.approx((0.1, 0.1))


def test_what_nothing_tells_is_missing() -> None:
    epoch = cost_of_epoch(Estimate(value=7200.0), price_per_hour=None, power_w=None)
    assert (epoch.cost, epoch.energy_kwh) == (None, None)


def test_a_price_of_nothing_costs_nothing() -> None:
    assert cost_of_epoch(Estimate(value=60.0), price_per_hour=0.0, power_w=None).cost == Estimate(value=0)


def test_a_pass_between_canvases_takes_a_time_on_the_line_between_them() -> None:
    canvases = [canvas(3000, 6.0), canvas(1000, 1.0), canvas(2000, 2.0)]
    # 1000 -> 1, 1500 -> 1.5, 2000 -> 2, 2250 -> 3, 3000 -> 6
    epoch = time_of_passes(canvases, [1000, 1500, 2000, 2250, 3000], spread=None)
    assert epoch.value == pytest.approx(13.5)


def test_canvases_of_equal_pixels_and_different_shape_count_with_their_mean() -> None:
    epoch = time_of_passes([canvas(1000, 1.0), canvas(1000, 3.0), canvas(2000, 4.0)], [1000, 1500], spread=None)
    assert epoch.value == pytest.approx(2.0 + 3.0)


def test_one_canvas_prices_passes_of_its_own_size() -> None:
    assert time_of_passes([canvas(1000, 1.5)], [1000] * 4, spread=None).value == pytest.approx(6.0)


def test_errors_of_canvases_add_up_as_independent_ones() -> None:
    # Weights 1.5 and 0.5: errors 1.5 x 0.1 and 0.5 x 0.4 of a total of 3.5.
    epoch = time_of_passes([canvas(1000, 1.0, error=0.1), canvas(2000, 4.0, error=0.1)], [1000, 1500], spread=None)
    within = math.hypot(0.15, 0.2) / 3.5
    assert epoch.relative_within == pytest.approx(within)
    assert epoch.relative_half_width == pytest.approx(student_t(20) * within)


def test_what_differs_between_processes_shifts_all_canvases_alike() -> None:
    spread = Spread(
        relative=0.05,
        relative_within=0.03,
        degrees_of_freedom=2,
        num_specs=1,
        num_processes=3,
    )
    canvases = [canvas(1000, 1.0, processes=3), canvas(2000, 2.0, processes=3)]
    few, many = (time_of_passes(canvases, [1500] * n, spread=spread) for n in (1, 1000))
    expected = mean_of_processes(Estimate(value=1.0, se=0.0, dof=20), spread=spread, num_processes=3)
    assert [few.relative_error, many.relative_error] == pytest.approx([expected.se] * 2)
    assert few.dof == many.dof == expected.dof
    assert few.relative_between == pytest.approx(0.04)


def test_a_canvas_of_one_step_leaves_the_epoch_without_an_interval() -> None:
    canvases = [canvas(1000, 1.0, error=None), canvas(2000, 2.0)]
    assert time_of_passes(canvases, [1500], spread=None).relative_half_width is None
    assert time_of_passes(canvases, [2000], spread=None).relative_half_width == 0


@pytest.mark.parametrize("outside", [999, 3001])
def test_passes_outside_the_measured_range_are_refused_with_their_number(outside) -> None:
    canvases = [canvas(1000, 1.0), canvas(3000, 3.0)]
    with pytest.raises(ValueError, match="1 of 3 passes lie outside the measured 1000 to 3000 pixels"):
        time_of_passes(canvases, [1000, outside, 2000], spread=None)


@pytest.mark.parametrize(("canvases", "passes"), [([], [1000]), ([canvas(1000, 1.0)], [])])
def test_an_epoch_of_nothing_is_refused(canvases, passes) -> None:
    with pytest.raises(ValueError, match="canvases and passes"):
        time_of_passes(canvases, passes, spread=None)


def test_passes_are_told_apart_by_the_measured_range_with_its_ends() -> None:
    canvases = [canvas(3000, 3.0), canvas(1000, 1.0)]
    assert split_by_range(canvases, [999, 1000, 2000, 3000, 3001]) == ([1000, 2000, 3000], [999, 3001])
    assert split_by_range([], [5]) == ([], [5])
