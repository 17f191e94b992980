from __future__ import annotations

import dataclasses

import pytest
from record_factory import compute_spec, loader_spec, measured_compute_record, measured_loader_record, record_of

from vnbench.analysis.models.overlap import Overlap, overlaps
from vnbench.analysis.models.saturation import Appetite, appetites, families, find_saturation
from vnbench.analysis.statistics.estimate import Estimate
from vnbench.analysis.trials.compute import summarize_compute
from vnbench.analysis.trials.loading import LoaderSummary, summarize_loading
from vnbench.analysis.trials.summary import TrialSummary
from vnbench.records.record import Cause
from vnbench.records.spec.trial_spec import TrainingSpec


def rows(*num_workers: int, **changes: object) -> tuple[LoaderSummary, ...]:
    return summarize_loading(
        measured_loader_record(loader_spec(batch_size=2, num_workers=count, **changes)) for count in num_workers
    )


def given(examples_per_s: float) -> Appetite:
    return Appetite(examples_per_s=Estimate(value=examples_per_s), spec=None)


def test_a_stage_is_told_in_examples_and_valid_pixels_per_second() -> None:
    (row,) = rows(2)
    supply = row.supply
    assert supply is not None
    assert supply.name == "workers"
    assert supply.examples_per_s == pytest.approx(1 / 0.03)
    assert supply.valid_px_per_s == pytest.approx(4e6 / 0.03)
    assert supply.payload_bytes_per_example == 8_800_000
    assert supply.waits_s == pytest.approx((0.06, 0.06, 0.06))
    assert supply.time_per_example.relative_half_width == pytest.approx(0.02)
    cold = row.stage("workers", is_cold=True)
    assert cold is not None
    assert cold.examples_per_s == pytest.approx(supply.examples_per_s / 2)


def test_without_workers_the_supply_is_what_the_process_itself_decodes_and_pads() -> None:
    (row,) = rows(0)
    assert row.supply is not None
    assert (row.supply.name, row.supply.start_up_s) == ("collate", None)


def test_a_failed_trial_has_a_reason_and_no_figures() -> None:
    cause = Cause(kind="worker-died", message="worker died at example 3")
    record = measured_loader_record(loader_spec(num_workers=2), status="crashed", cause=cause)
    (row,) = summarize_loading([record])
    assert (row.stages, row.supply, row.num_processes) == ((), None, 0)
    assert row.cause == "worker died at example 3"
    assert row.failures == ("crashed: worker died at example 3",)


def test_the_knee_is_the_smallest_number_with_a_tenth_to_spare() -> None:
    # Supplies: 16.7 with none or one, 33.3 with two, 66.7 with four.
    family = rows(0, 1, 2, 4)
    for appetite, enough in ((15.0, 0), (15.2, 2), (30.0, 2), (30.4, 4), (60.0, 4)):
        saturation = find_saturation(family, given(appetite))
        assert saturation.enough is not None
        assert saturation.enough.spec.num_workers == enough
        assert saturation.lack is None


def test_where_no_number_is_enough_the_lack_is_told() -> None:
    saturation = find_saturation(rows(0, 1, 2), given(60.0))
    assert saturation.enough is None
    assert saturation.best.spec.num_workers == 2
    assert saturation.lack == pytest.approx(1 - (1 / 0.03) / 66)
    assert saturation.decode_ratio == pytest.approx(5 / 6)


def test_an_interval_that_reaches_below_the_appetite_is_not_sure() -> None:
    (row,) = rows(2)
    assert row.supply is not None
    wide = dataclasses.replace(row.supply.time_per_example, se=0.1 * row.supply.time_per_example.value)
    unsure = dataclasses.replace(row, stages=(dataclasses.replace(row.supply, time_per_example=wide),))
    assert find_saturation([row], given(30.0)).is_sure
    assert not find_saturation([unsure], given(30.0)).is_sure


def test_no_loader_feeds_nothing() -> None:
    with pytest.raises(ValueError, match="at least one loader"):
        find_saturation([], given(1.0))


def test_families_differ_in_their_workers_alone_and_share_the_one_without() -> None:
    found = families((*rows(4, 0, 2), *rows(2, worker_kind="threads"), *rows(0, sampler="bucketed")))
    assert [[(row.spec.worker_kind, row.spec.num_workers) for row in family] for family in found] == [
        [("processes", 0), ("processes", 2), ("processes", 4)],
        [("processes", 0), ("threads", 2)],
        [("processes", 0)],
    ]
    failed = summarize_loading([record_of(loader_spec(num_workers=2), status="timeout")])
    assert families(failed) == ()


def test_an_appetite_is_what_computing_takes_of_the_loaders_own_plan() -> None:
    specs = [compute_spec(device="cpu", micro_batch_size=2, precision=precision) for precision in ("fp32", "bf16")]
    computing = summarize_compute(measured_compute_record(spec) for spec in specs)
    found = appetites(computing, rows(0))
    assert [one.spec.precision for one in found if one.spec] == ["bf16", "fp32"], "the hungriest first"
    # A pass of two examples of 4.4 padded Mpx, a step of 0.1 s + 0.9 s per Mpx (2.4 times as fast in bf16).
    assert found[1].examples_per_s.value == pytest.approx(2 / (0.1 + 8.8 * 0.9), rel=0.1)
    assert found[0].examples_per_s.value == pytest.approx(2 / (0.1 + 8.8 * 0.9 / 2.4), rel=0.1)
    other = summarize_compute([measured_compute_record(compute_spec(device="cpu", micro_batch_size=1))])
    assert appetites(other, rows(0)) == (), "another micro-batch"


def trained(num_workers: int) -> TrialSummary:
    # What is measured does not matter here, only that there is a step time and a throughput: 8.8 Mpx a step.
    spec = TrainingSpec.from_dict(
        loader_spec(batch_size=2, num_workers=num_workers).canonical() | {"kind": "training", "num_warm_up_steps": 1}
    )
    return TrialSummary(
        spec=spec,
        status="ok",
        cause=None,
        warnings=(),
        step_time=Estimate(value=10.0),
        padded_px_per_s=Estimate(value=880_000.0),
        data_wait_ratio=0.1,
    )


def only(found: tuple[Overlap, ...]) -> Overlap:
    (one,) = found
    return one


def test_with_workers_the_longer_part_hides_the_shorter_and_without_them_they_add_up() -> None:
    computing = summarize_compute([measured_compute_record(compute_spec(device="cpu", micro_batch_size=2))])
    beside = only(overlaps([trained(2)], loading=rows(0, 2), computing=computing))
    assert beside.step.loading_s == pytest.approx(0.06)
    assert beside.step.computing_s == pytest.approx(0.1 + 8.8 * 0.9, rel=0.1)
    assert beside.step.total_s == beside.step.computing_s
    assert beside.expected_wait_ratio == 0
    alone = only(overlaps([trained(0)], loading=rows(0, 2), computing=computing))
    assert alone.step.total_s == pytest.approx(alone.step.computing_s + 0.12)
    assert alone.expected_wait_ratio == pytest.approx(0.12 / alone.step.total_s)


def test_parts_of_another_configuration_let_nothing_be_expected() -> None:
    computing = summarize_compute([measured_compute_record(compute_spec(device="cpu", micro_batch_size=2))])
    assert overlaps([trained(2)], loading=rows(4), computing=computing) == ()
    assert overlaps([trained(2)], loading=rows(2), computing=()) == ()
