from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest
import record_factory as factory

from vnbench.analysis.findings import Findings
from vnbench.analysis.planning.capacity import Supply
from vnbench.analysis.planning.configurations import Measured
from vnbench.analysis.statistics.estimate import Estimate
from vnbench.records.record import TrialRecord

SPEC = factory.loader_spec(batch_size=2, num_workers=2)
COMPUTED = factory.measured_compute_record(factory.compute_spec(micro_batch_size=2))


def supply_of(records: Sequence[TrialRecord]) -> Supply:
    """Return what the only loader of some records supplies."""
    found = Findings([COMPUTED, *records])
    measured = Measured.of(found.latest, families=found.families, loading=found.loading)
    (supply,) = measured.supplies["random", 2]
    return supply


def loaded(*, num_observations: int | None, relative_half_width: float | None) -> TrialRecord:
    record = factory.measured_loader_record(SPEC)
    stages = [
        dataclasses.replace(
            stage,
            stop=dataclasses.replace(
                stage.stop, num_observations=num_observations, relative_half_width=relative_half_width
            ),
        )
        for stage in record.stages
    ]
    return dataclasses.replace(record, stages=tuple(stages))


def test_a_supply_is_as_uncertain_as_its_interval_of_three_batches_says() -> None:
    # Student's t with two degrees of freedom is 4.303, with plenty 1.96.
    supply = supply_of([loaded(num_observations=3, relative_half_width=0.04303)])
    assert supply.time_per_example.relative_error == pytest.approx(0.01, rel=1e-3)
    assert supply.time_per_example.dof == 2


def test_a_supply_of_one_batch_has_an_error_that_nothing_tells() -> None:
    assert supply_of([loaded(num_observations=1, relative_half_width=None)]).time_per_example.se is None


def waits_of(num_processes: int) -> Estimate:
    spec = factory.training_spec(batch_size=2)
    records = [
        factory.record_of(
            spec,
            replicate=number,
            steps=factory.steps_of(
                [1.0] * 3, data_wait_s=[9.0, *[0.1 + 0.02 * number] * 2], num_warm_up=1, num_examples=2
            ),
        )
        for number in range(num_processes)
    ]
    return Measured.of(records, families=(), loading=()).waits_s[spec.family]


def test_what_training_waited_for_is_as_uncertain_as_its_processes_differ() -> None:
    # 0.05 and 0.06 s an example: s = 0.01 / sqrt(2), the error of their mean half of the difference.
    waits = waits_of(2)
    assert waits.value == pytest.approx(0.055)
    assert waits.se == pytest.approx(0.005)
    assert waits_of(1).se is None
