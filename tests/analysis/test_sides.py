from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import record_factory as factory

from vnbench.analysis.comparison.sides import figure_of, side_of
from vnbench.records.record import TrialRecord


def with_steps(record: TrialRecord, **columns: Any) -> TrialRecord:
    assert record.steps is not None
    return dataclasses.replace(record, steps=dict(record.steps) | columns)


def only(record: TrialRecord) -> Any:
    (configuration,) = side_of([record]).configurations.values()
    return configuration.figures


def test_a_training_time_is_that_of_valid_pixels_without_warm_up_and_skipped_steps() -> None:
    steps = factory.steps_of([9.0, 1.0, 2.0, 5.0], valid_pixels=[10**6] * 4, num_warm_up=1, skipped=[3])
    record = factory.record_of(factory.training_spec(), steps=steps)
    figures = only(record)
    assert figures["time"].value == pytest.approx(1.5)
    assert figures["padding"].value == pytest.approx(1000 / 10**6)


def test_a_compute_time_is_the_geometric_mean_over_its_canvases() -> None:
    steps = factory.steps_of([1.0, 3.0, 8.0]) | {"canvas_width": (3200, 3200, 12_800)}
    record = factory.record_of(factory.compute_spec(), steps=steps)
    assert only(record)["time"].value == pytest.approx(math.sqrt(2.0 * 8.0))


def test_a_loader_time_is_that_of_the_last_warm_stage_that_training_waits_for() -> None:
    record = factory.measured_loader_record(factory.loader_spec(num_workers=2), decode_s=0.05)
    # Two workers take 30 ms per example of 4 Mpx together.
    assert only(record)["time"].value == pytest.approx(0.03 / 4)
    assert only(record)["epoch_padding"].value == pytest.approx(1.1)


def test_a_memory_trial_has_no_time_and_a_training_trial_on_the_cpu_no_peak() -> None:
    assert "time" not in only(factory.measured_memory_record(factory.training_spec()))
    assert "memory" not in only(factory.measured_training_record(factory.training_spec()))


def test_the_peak_of_a_compute_trial_is_that_of_its_largest_canvas() -> None:
    record = factory.measured_compute_record(factory.compute_spec(device="cuda"))
    assert only(record)["memory"].value == max(canvas.peak_allocated_bytes for canvas in record.canvases)
    assert only(record)["reserved"].value == max(canvas.peak_reserved_bytes or 0 for canvas in record.canvases)


def test_the_figure_of_a_time_is_the_geometric_mean_over_the_processes() -> None:
    figure = figure_of([4.0, 1.0], metric="time")
    assert figure.value == pytest.approx(2.0)
    assert figure.log_variance == pytest.approx(math.log(4) ** 2 / 2)
    assert (figure.smallest, figure.largest, figure.values) == (1.0, 4.0, (1.0, 4.0))
    assert figure_of([4.0, 1.0], metric="memory").value == 4.0
    assert figure_of([4.0], metric="time").log_variance is None


def test_failed_processes_are_counted_and_have_no_figures() -> None:
    spec = factory.training_spec()
    side = side_of([factory.measured_training_record(spec), factory.record_of(spec, status="oom", replicate=1)])
    (configuration,) = side.configurations.values()
    assert configuration.statuses == {"ok": 1, "oom": 1}
    assert configuration.cause == "made to end oom"
    assert configuration.figures["time"].num_processes == 1


def test_a_trial_without_a_valid_timing_says_why() -> None:
    record = factory.record_of(factory.training_spec())
    (configuration,) = side_of([record]).configurations.values()
    assert "time" not in configuration.figures
    assert configuration.why_no_time == "no measured step in the record"


@pytest.mark.parametrize(
    "times",
    [
        (1.0, float("nan")),
        (1.0, float("inf")),
        (1e308, 1e308),
        (1.0, "2.0"),
        (-1.0, -2.0),
        (0.0, 0.0),
        (1.0, [2.0]),
        (True, 10**400),
    ],
    ids=str,
)
def test_figures_that_are_none_are_left_out_and_noted(times: tuple[Any, ...]) -> None:
    record = factory.record_of(factory.training_spec(), steps=factory.steps_of([1.0, 1.0]))
    side = side_of([with_steps(record, step_time_s=times)])
    (configuration,) = side.configurations.values()
    assert "time" not in configuration.figures
    assert side.notes == (f"trial {record.trial_id}: its time is not a valid number",)


def test_columns_that_are_not_there_are_noted() -> None:
    record = factory.record_of(factory.training_spec(), steps={"is_warm_up": (False,), "step_time_s": (1.0,)})
    side = side_of([record])
    assert len(side.notes) == 2
    (configuration,) = side.configurations.values()
    assert configuration.figures == {}


def test_a_trial_that_stands_there_twice_is_noted() -> None:
    record = factory.measured_training_record(factory.training_spec())
    side = side_of([record, record])
    assert side.notes == (f"trial {record.trial_id} occurs more than once",)
    (configuration,) = side.configurations.values()
    assert configuration.figures["time"].num_processes == 1


def test_the_keys_are_the_machine_the_software_and_the_corpus() -> None:
    side = side_of([factory.measured_training_record(factory.training_spec())])
    assert side.keys == {
        "schema": ("1",),
        "device": (factory.CPU_ENVIRONMENT["device_name"],),
        "device type": ("cpu",),
        "torch": ("2.13.0+cpu",),
        "corpus": ("0123456789ab",),
    }
    assert side.about == "2026-01-05, 1 trial"


def test_what_times_depend_on_is_among_the_keys_where_the_records_tell_it() -> None:
    told = {"cpu_model": 17, "num_threads": 2, "isa_variables": {"ONEDNN_MAX_CPU_ISA": "AVX2"}, "revision": "abc"}
    told |= {"device_capability": None, "cpu_stepping": 1, "vnbench_version": "0.1.0"}
    record = factory.measured_training_record(factory.training_spec())
    side = side_of([dataclasses.replace(record, environment=dict(record.environment) | told)])
    known = {"cpu_model": ("17",), "num_threads": ("2",), "isa_variables": ("ONEDNN_MAX_CPU_ISA=AVX2",)}
    assert side.keys == side_of([record]).keys | known
