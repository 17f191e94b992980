import dataclasses
import math

import pytest
import record_factory as factory

from vnbench.analysis.trials.summary import latest_attempts, summarize, summarize_memory
from vnbench.records.record import Status, TrialRecord, TrialWarning

T_2 = 4.302652729911275


def worked_record(**changes) -> TrialRecord:
    """Warm-up 9 s; measured 2, 4, 6 s over 1,000 padded pixels each, of which 800, 700, 600 are valid."""
    steps = factory.steps_of(
        [9.0, 2.0, 4.0, 6.0],
        valid_pixels=[1, 800, 700, 600],
        padded_pixels=[1, 1000, 1000, 1000],
        data_wait_s=[9.0, 0.5, 0.5, 2.0],
        num_warm_up=1,
    )
    plan = factory.account(valid_pixels=75_000, padded_pixels=100_000, lower_bound=0.05)
    values = {"steps": steps, "block": factory.block_of(steps), "batching": plan}
    return factory.record_of(**({"spec": factory.training_spec()} | values | changes))


def test_throughput_is_the_blocks_pixels_over_its_wall_clock() -> None:
    (row,) = summarize([worked_record()])
    assert row.valid_px_per_s.value == pytest.approx(2100 / 12)
    assert row.padded_px_per_s.value == pytest.approx(3000 / 12)


def test_padded_half_width_is_that_of_a_ratio_over_the_measured_steps() -> None:
    # Equal pixels: relative half-width of the mean time, t * (2 / sqrt(3)) / 4.
    (row,) = summarize([worked_record()])
    assert row.padded_px_per_s.relative_half_width == pytest.approx(T_2 * 2 / math.sqrt(3) / 4)


def test_valid_half_width_accounts_for_the_valid_pixels_of_each_step() -> None:
    # R = 12 / 2100 s per pixel; residuals y - R x = -18/7, 0, 18/7; mean(x) = 700
    (row,) = summarize([worked_record()])
    standard_error = math.sqrt(2 * (18 / 7) ** 2 / 6) / 700
    assert row.valid_px_per_s.relative_half_width == pytest.approx(T_2 * standard_error / (12 / 2100))


def test_step_time_leaves_out_the_warm_up() -> None:
    (row,) = summarize([worked_record()])
    assert row.step_time.value == 4
    assert row.step_time.half_width == pytest.approx(T_2 * 2 / math.sqrt(3))
    assert (row.num_steps, row.num_skipped_steps) == (3, 0)


def test_steps_that_the_scaler_skipped_are_counted_and_not_averaged() -> None:
    steps = factory.steps_of([9.0, 1.0, 4.0, 6.0], num_warm_up=1, skipped=[0, 1])
    (row,) = summarize([worked_record(steps=steps, block=factory.block_of(steps))])
    assert row.step_time.value == 5
    assert (row.num_steps, row.num_skipped_steps) == (2, 1)


def test_a_block_of_skipped_steps_only_has_no_step_time() -> None:
    steps = factory.steps_of([1.0, 2.0], skipped=[0, 1])
    (row,) = summarize([worked_record(steps=steps, block=factory.block_of(steps))])
    assert row.step_time is None
    assert (row.status, row.num_processes) == ("ok", 0)
    assert row.cause == "the gradient scaler skipped every measured step"


def test_data_wait_is_a_share_of_the_steps_time() -> None:
    (row,) = summarize([worked_record()])
    assert row.data_wait_ratio == pytest.approx(3 / 12)


def test_padding_of_the_plan_and_of_the_subset_stand_apart() -> None:
    (row,) = summarize([worked_record()])
    assert row.padding_ratio == pytest.approx(0.25)
    assert row.subset_padding_ratio == pytest.approx(0.3)
    assert row.lower_bound_padding_ratio == 0.05


def test_epoch_time_is_scaled_by_padded_pixels_with_their_interval() -> None:
    (row,) = summarize([worked_record()])
    assert row.epoch_time.value == pytest.approx(12 / 3000 * 100_000)
    assert row.epoch_time.half_width == pytest.approx(400 * T_2 * 2 / math.sqrt(3) / 4)
    assert row.num_examples == 100


def test_one_measured_step_gives_figures_without_intervals() -> None:
    steps = factory.steps_of([2.0])
    (row,) = summarize([worked_record(steps=steps, block=factory.block_of(steps))])
    assert (row.step_time.value, row.step_time.half_width) == (2, None)
    assert row.valid_px_per_s.relative_half_width is None
    assert row.epoch_time is not None
    assert row.epoch_time.half_width is None


def test_a_column_with_a_missing_value_gives_no_figure() -> None:
    record = worked_record()
    assert record.steps is not None
    (row,) = summarize([worked_record(steps={**record.steps, "data_wait_s": (None,) * 4})])
    assert row.data_wait_ratio is None
    assert row.step_time.value == 4


@pytest.mark.parametrize("status", ["oom", "timeout", "crashed", "skipped", "wrong"])
def test_a_trial_that_did_not_end_ok_has_no_timing_but_its_plan_and_cause(status) -> None:
    (row,) = summarize([dataclasses.replace(factory.record_of(factory.training_spec(), status=status))])
    assert row.cause == f"made to end {status}"
    assert row.valid_px_per_s is None
    assert row.padding_ratio is None
    (row,) = summarize([worked_record(status=status)])
    assert row.padding_ratio is not None
    timing = [row.valid_px_per_s, row.padded_px_per_s, row.step_time, row.data_wait_ratio, row.epoch_time]
    assert timing == [None] * 5


def test_a_trial_whose_allocator_retried_has_no_timing() -> None:
    spec = factory.training_spec(device="cuda")
    retried = factory.reading_of(spec, peak_bytes=10, num_alloc_retries=3)
    record = dataclasses.replace(factory.measured_training_record(spec), memory=retried)
    (row,) = summarize([record])
    assert row.status == "ok"
    assert row.valid_px_per_s is None
    assert row.cause == "the allocator retried 3 times: its timing is not valid"


def test_a_record_without_steps_has_no_figures_and_a_reason() -> None:
    (row,) = summarize([factory.record_of(factory.training_spec())])
    figures = dataclasses.asdict(row)
    for name in ("spec", "status", "warnings"):
        del figures[name]
    assert (figures.pop("cause"), figures.pop("failures")) == (
        "no measured step in the record",
        ("ok: no measured step in the record",),
    )
    assert figures.pop("num_processes") == 0
    assert set(figures.values()) == {None}


def test_a_trial_whose_clock_stepped_backwards_has_no_timing() -> None:
    record = worked_record()
    assert record.steps is not None
    (row,) = summarize([worked_record(steps={**record.steps, "step_time_s": (9.0, 2.0, None, 6.0)}, block=None)])
    assert row.step_time is None
    assert row.cause == "the clock stepped backwards: its timing is not valid"


def test_warnings_are_handed_on() -> None:
    warning = TrialWarning(code="few-steps", message="three steps")
    (row,) = summarize([worked_record(warnings=(warning,))])
    assert row.warnings == (warning,)


def test_only_the_last_attempt_of_a_replicate_counts() -> None:
    first = worked_record(status="crashed", attempt=0)
    second = worked_record(attempt=1)
    other = worked_record(replicate=1)
    assert latest_attempts([second, first, other]) == (second, other)
    (row,) = summarize([first, other, second])
    assert (row.num_processes, row.failures) == (2, ())


@pytest.mark.parametrize("status", ["crashed", "timeout", "skipped"])
def test_a_repeat_without_figures_does_not_displace_an_attempt_that_had_them(status: Status) -> None:
    measured = worked_record(attempt=0)
    repeat = worked_record(status=status, cause="killed by the host", attempt=1)
    assert latest_attempts([measured, repeat]) == latest_attempts([repeat, measured]) == (measured,)


@pytest.mark.parametrize("status", ["oom", "wrong"])
def test_a_repeat_that_shows_a_fault_of_the_configuration_counts(status: Status) -> None:
    repeat = worked_record(status=status, cause="shown by the repeat", attempt=1)
    assert latest_attempts([worked_record(attempt=0), repeat]) == (repeat,)


def test_worst_case_memory_is_joined_by_family() -> None:
    training = factory.training_spec(batch_size=4, micro_batch_size=2)
    same_family = factory.training_spec(batch_size=2, sampler="bucketed", num_workers=2)
    other_family = factory.training_spec(batch_size=2, precision="bf16")
    rows = summarize(
        [
            factory.record_of(training),
            factory.record_of(same_family),
            factory.record_of(other_family),
            factory.measured_memory_record(training),
        ]
    )
    peak = 2 * 640 * 12_800 * factory.BYTES_PER_PIXEL["cpu"]
    assert [row.worst_case_peak_bytes for row in rows] == [peak, peak, None]
    assert [row.worst_case_status for row in rows] == ["ok", "ok", None]
    assert [row.capacity_bytes for row in rows] == [24 * factory.GIB, 24 * factory.GIB, None]


@pytest.mark.parametrize(
    ("device", "changes", "peak"),
    [
        ("cpu", {}, 930),
        ("cuda", {"peak_allocated_bytes": 800}, 930),
        ("cuda", {"peak_reserved_bytes": None}, None),
        ("cpu", {"instrument": "traced-tensors"}, 930),
        ("cpu", {"instrument": "process"}, None),
    ],
)
def test_peak_is_reserved_on_cuda_and_tracked_on_the_cpu(device, changes, peak) -> None:
    spec = factory.memory_spec(factory.training_spec(device=device))
    record = factory.record_of(spec, memory=factory.reading_of(spec, peak_bytes=930, **changes))
    (family,) = summarize_memory([record])
    assert family.peak_bytes == peak


def test_a_family_that_ran_out_of_memory_once_has_run_out() -> None:
    spec = factory.memory_spec(factory.training_spec())
    ok = factory.record_of(spec, memory=factory.reading_of(spec, peak_bytes=930))
    oom = factory.record_of(spec, status="oom", replicate=1)
    (family,) = summarize_memory([ok, oom])
    assert (family.status, family.peak_bytes, family.cause) == ("oom", None, "made to end oom")
    assert family.capacity_bytes == 24 * factory.GIB


def test_the_largest_peak_of_the_replicates_counts() -> None:
    spec = factory.memory_spec(factory.training_spec())
    records = [
        factory.record_of(spec, replicate=n, memory=factory.reading_of(spec, peak_bytes=peak))
        for n, peak in enumerate((10, 30, 20))
    ]
    (family,) = summarize_memory(records)
    assert family.peak_bytes == 30


def test_only_the_largest_size_of_a_family_is_its_worst_case() -> None:
    training = factory.training_spec()
    small, large = (factory.memory_spec(training, width=width) for width in (3200, 6400))
    records = [
        factory.record_of(large, memory=factory.reading_of(large, peak_bytes=2)),
        factory.record_of(small, memory=factory.reading_of(small, peak_bytes=5)),
    ]
    (family,) = summarize_memory(records)
    assert family.peak_bytes == 2
    assert family.spec.worst_case_width == 6400


def test_steps_on_canvases_of_different_sizes_are_no_uncertainty_of_their_mean() -> None:
    steps = factory.steps_of([2.0, 4.0, 6.0], valid_pixels=[900, 1800, 2700], padded_pixels=[1000, 2000, 3000])
    (row,) = summarize([factory.record_of(factory.training_spec(), steps=steps, block=factory.block_of(steps))])
    assert row.step_time.value == 4
    assert row.step_time.half_width == pytest.approx(0, abs=1e-12)


def test_steps_that_the_scaler_skipped_are_left_out_of_throughput() -> None:
    steps = factory.steps_of([10.0, 2.0, 2.0], valid_pixels=[900] * 3, padded_pixels=[1000] * 3, skipped=[0])
    (row,) = summarize([factory.record_of(factory.training_spec(), steps=steps, block=factory.block_of(steps))])
    assert row.valid_px_per_s.value == pytest.approx(450)
    assert row.padded_px_per_s.value == pytest.approx(500)


def replicates(*times_s: float, **changes) -> list[TrialRecord]:
    """Processes of one spec, of three steps each, whose mean step takes so long."""
    records = []
    for n, time_s in enumerate(times_s):
        steps = factory.steps_of([0.9 * time_s, time_s, 1.1 * time_s])
        values = {"steps": steps, "block": factory.block_of(steps), "replicate": n}
        records.append(worked_record(**(values | changes)))
    return records


def test_the_processes_of_a_spec_make_one_row_with_their_mean() -> None:
    (row,) = summarize(replicates(9.0, 10.0, 11.0))
    assert (row.num_processes, row.num_steps) == (3, 9)
    assert row.step_time.value == pytest.approx(10)
    assert row.padded_px_per_s.value == pytest.approx(1000 / 10)
    assert row.valid_px_per_s.value == pytest.approx(900 / 10)
    assert row.epoch_time.value == pytest.approx(10 / 1000 * 100_000)


def test_the_interval_of_a_repeated_spec_holds_what_differs_between_its_processes() -> None:
    (row,) = summarize(replicates(9.0, 10.0, 11.0))
    # Within: 0.1 / sqrt(3) with 2 degrees of freedom in each; between: 0.1^2 less that squared.
    within = 0.1 / math.sqrt(3)
    between = math.sqrt(0.1**2 - within**2)
    assert row.relative_within == pytest.approx(within)
    assert row.relative_between == pytest.approx(between)
    expected = T_2 * 0.1 / math.sqrt(3)
    assert row.padded_px_per_s.relative_half_width == pytest.approx(expected)
    assert row.step_time.half_width == pytest.approx(10 * expected)
    assert row.epoch_time.half_width == pytest.approx(1000 * expected)


def test_a_spec_of_one_process_takes_the_spread_of_the_repeated_ones() -> None:
    single = worked_record(spec=factory.training_spec(precision="bf16"))
    (alone,) = summarize([single])
    _, beside = summarize([*replicates(9.0, 10.0, 11.0), single])
    assert alone.relative_between is None
    assert beside.relative_between is not None
    assert alone.padded_px_per_s.relative_half_width is not None
    assert beside.padded_px_per_s.relative_half_width is not None
    assert beside.num_processes == 1


def test_failed_processes_are_counted_and_the_good_ones_used() -> None:
    records = replicates(9.0, 10.0, 11.0)
    failed = worked_record(status="crashed", replicate=3)
    (row,) = summarize([failed, *records])
    assert (row.status, row.cause, row.num_processes) == ("ok", None, 3)
    assert row.failures == ("crashed: made to end crashed",)
    assert row.step_time.value == pytest.approx(10)


def test_a_disturbed_process_keeps_its_tag_in_the_row() -> None:
    warning = TrialWarning(code="throttled", message="SM clock at 60 %", figures={"sm_clock_mhz": 990.0})
    calm, disturbed = replicates(9.0, 10.0)
    (row,) = summarize([calm, dataclasses.replace(disturbed, warnings=(warning, warning))])
    assert row.warnings == (warning,)
    assert row.num_processes == 2


def test_power_is_weighted_by_the_time_of_each_process() -> None:
    slow, fast = replicates(30.0, 10.0)
    slow, fast = (
        dataclasses.replace(record, telemetry={"device": {"power_w": {"mean": power}}})
        for record, power in ((slow, 400.0), (fast, 600.0))
    )
    (row,) = summarize([slow, fast])
    # 12,000 J and 6,000 J a step: 9,000 J in the mean 20 s.
    assert row.power_w == pytest.approx(450)


@pytest.mark.parametrize("telemetry", [None, {"device": None}, {"device": {"power_w": None}}, {"host": {}}])
def test_power_that_nothing_told_is_missing(telemetry) -> None:
    (row,) = summarize([worked_record(telemetry=telemetry)])
    assert row.power_w is None
