import dataclasses

import pytest
import record_factory as factory

from vnbench.analysis.trials.compute import summarize_compute
from vnbench.records.readings import CanvasReading, Stop
from vnbench.records.record import TrialRecord

SPEC = factory.compute_spec(micro_batch_size=2, canvas_sizes=((40, 64), (32, 32)))


def reading(height: int, width: int, **changes) -> CanvasReading:
    stop = Stop(
        rule=changes.pop("rule", "noise-target"),
        noise_target=0.01,
        relative_half_width=0.01,
        num_steps=3,
        num_observations=3,
        measuring_s=12.0,
    )
    values = {
        "first_seen_s": 12.0,
        "peak_allocated_bytes": None,
        "peak_reserved_bytes": 100,
        "host_growth_bytes": 5,
        "flop_per_step": 8_000,
        "stop": stop,
    }
    return CanvasReading(height=height, width=width, **(values | changes))


def worked_record(factor: float = 1.0, **changes) -> TrialRecord:
    """On 64 x 64: warm-up 12 s, then 3, 4, 5 s times a factor. On 32 x 32: warm-up 9 s, then 1 s three times."""
    large = factory.steps_of(
        [12.0, 3.0 * factor, 4.0 * factor, 5.0 * factor],
        valid_pixels=[2 * 40 * 64] * 4,
        padded_pixels=[2 * 64 * 64] * 4,
        num_warm_up=1,
        num_examples=2,
    )
    small = factory.steps_of(
        [9.0, factor, factor, factor],
        valid_pixels=[2 * 32 * 32] * 4,
        padded_pixels=[2 * 32 * 32] * 4,
        num_warm_up=1,
        num_examples=2,
    )
    large |= {"canvas_height": (64,) * 4, "canvas_width": (64,) * 4}
    small |= {"canvas_height": (32,) * 4, "canvas_width": (32,) * 4}
    values = {
        "steps": {name: (*large[name], *small[name]) for name in large},
        "canvases": (reading(64, 64), reading(32, 32, first_seen_s=9.0)),
    }
    return factory.record_of(SPEC, **(values | changes))


def test_a_canvas_has_the_figures_of_its_own_measured_steps() -> None:
    (row,) = summarize_compute([worked_record()])
    large, small = row.canvases
    assert (large.height, large.width) == (64, 64)
    assert large.step_time.value == 4
    assert small.step_time.value == 1
    assert large.num_steps == 3
    assert large.valid_px_per_s == 2 * 40 * 64 / 4
    assert large.padded_px_per_s == 2 * 64 * 64 / 4
    assert large.examples_per_s == 0.5
    assert large.flop_per_s == 2_000
    assert large.phases_s == {
        "forward": pytest.approx(1.2),
        "backward": pytest.approx(2.4),
        "optimizer": pytest.approx(0.002),
    }


def test_the_first_step_on_a_canvas_stands_against_the_mean_of_the_later_ones() -> None:
    (row,) = summarize_compute([worked_record()])
    assert [canvas.first_seen_s for canvas in row.canvases] == [12, 9]
    assert [canvas.first_seen_ratio for canvas in row.canvases] == [3, 9]


def test_one_process_has_the_interval_of_its_steps() -> None:
    (row,) = summarize_compute([worked_record()])
    large, small = row.canvases
    # Standard error 1 / sqrt(3) with two degrees of freedom.
    assert large.step_time.half_width == pytest.approx(4.302652729911275 / 3**0.5)
    assert small.step_time.half_width == 0
    assert row.spread is None


def test_processes_are_pooled_canvas_by_canvas() -> None:
    records = [worked_record(factor, replicate=n) for n, factor in enumerate((0.5, 1.0, 1.5))]
    (row,) = summarize_compute(records)
    large, small = row.canvases
    assert (row.num_processes, large.num_steps) == (3, 9)
    assert large.step_time.value == pytest.approx(4)
    assert small.step_time.num_processes == 3
    assert row.spread is not None
    assert row.spread.relative == pytest.approx(0.5)
    assert small.step_time.half_width > 0


def test_the_largest_peak_and_growth_of_the_processes_count_and_every_stop_rule() -> None:
    canvases = (reading(64, 64, peak_reserved_bytes=300, host_growth_bytes=2, rule="max-steps"), reading(32, 32))
    (row,) = summarize_compute([worked_record(), worked_record(replicate=1, canvases=canvases)])
    large = row.canvases[0]
    assert (large.peak_reserved_bytes, large.host_growth_bytes) == (300, 5)
    assert large.stop_rules == ("noise-target", "max-steps")


def test_what_no_instrument_told_is_missing() -> None:
    canvases = (
        reading(64, 64, peak_reserved_bytes=None, host_growth_bytes=None, flop_per_step=None),
        reading(32, 32),
    )
    (row,) = summarize_compute([worked_record(canvases=canvases)])
    large = row.canvases[0]
    assert (large.peak_reserved_bytes, large.host_growth_bytes, large.flop_per_s) == (None, None, None)
    assert row.power_w is None


def test_steps_that_the_scaler_skipped_are_left_out_and_a_canvas_of_them_too() -> None:
    record = worked_record()
    assert record.steps is not None
    skipped = (False, True, False, False, False, True, True, True)
    (row,) = summarize_compute([worked_record(steps={**record.steps, "is_skipped_by_scaler": skipped})])
    (large,) = row.canvases
    assert large.step_time.value == 4.5


def test_failed_trials_have_their_reason_and_no_canvas() -> None:
    (row,) = summarize_compute([worked_record(status="oom")])
    assert (row.status, row.cause, row.canvases) == ("oom", "made to end oom", ())
    (row,) = summarize_compute([worked_record(), worked_record(status="timeout", replicate=1)])
    assert (row.status, row.num_processes, row.failures) == ("ok", 1, ("timeout: made to end timeout",))


def test_a_trial_whose_allocator_retried_has_no_times() -> None:
    cuda = dataclasses.replace(SPEC, device="cuda")
    memory = factory.reading_of(cuda, peak_bytes=10, num_alloc_retries=2)
    (row,) = summarize_compute([worked_record(memory=memory)])
    assert row.canvases == ()
    assert row.cause == "the allocator retried 2 times: its timing is not valid"


def test_other_kinds_of_trial_have_no_row() -> None:
    assert summarize_compute(factory.cpu_sweep()) == ()


def test_power_is_that_of_the_whole_measured_span() -> None:
    (row, *_) = summarize_compute(factory.compute_sweep())
    assert row.power_w == pytest.approx(factory.POWER_W)
