from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import record_factory as factory

from vnbench.analysis.comparison.blocks import Blocks, PairedSpec, blocks_of, compare_blocks
from vnbench.analysis.comparison.compare import Comparison
from vnbench.analysis.comparison.rows import ALL_ROWS, Tolerances
from vnbench.records.record import Cause, Status, TrialRecord
from vnbench.records.spec.trial_spec import TrialSpec

TIMED = tuple(factory.compute_spec(precision=precision) for precision in ("fp32", "bf16"))
MEMORY_RECORD = factory.measured_memory_record(factory.training_spec())
MEMORY = MEMORY_RECORD.spec


def alike(*specs: TrialSpec) -> tuple[PairedSpec, ...]:
    return tuple(PairedSpec(baseline=spec, candidate=spec) for spec in specs)


def timed(spec: TrialSpec, seconds: float, *, block: int, attempt: int = 0) -> TrialRecord:
    record = factory.record_of(spec, steps=factory.steps_of([seconds, seconds]), replicate=block)
    return dataclasses.replace(record, attempt=attempt)


def failed(spec: TrialSpec, *, block: int, status: Status = "crashed") -> TrialRecord:
    cause = Cause(kind="exception", message="it broke", detail=None)
    return dataclasses.replace(timed(spec, 1.0, block=block), status=status, cause=cause, steps=None)


def sides(
    *, factor: float = 1.0, num_blocks: int = 10, specs: Sequence[TrialSpec] = TIMED, noise: float = 0.002
) -> tuple[list[TrialRecord], list[TrialRecord]]:
    rng = np.random.default_rng(0)
    found: tuple[list[TrialRecord], list[TrialRecord]] = ([], [])
    for block in range(num_blocks):
        for spec in specs:
            for side, seconds in enumerate((1.0, factor)):
                found[side].append(timed(spec, seconds * float(np.exp(rng.normal(0, noise))), block=block))
    return found


def blocks(records: tuple[list[TrialRecord], list[TrialRecord]], *specs: TrialSpec, **changes: Any) -> Blocks:
    return blocks_of(alike(*(specs or TIMED)), records, **({"has_times": True} | changes))


def compared(records: tuple[list[TrialRecord], list[TrialRecord]], *specs: TrialSpec, **changes: Any) -> Comparison:
    return compare_blocks(blocks(records, *specs), tolerances=Tolerances(), **changes)


def test_unchanged_code_passes_and_a_slowdown_does_not() -> None:
    assert compared(sides()).outcome == "pass"
    slower = compared(sides(factor=1.05))
    assert slower.outcome == "regression"
    assert slower.is_in_turn
    assert [row.verdict for row in slower.rows if row.metric == "time"] == ["worse"] * 3
    assert slower.rows[0].spec_id == ALL_ROWS


def test_nothing_is_decided_before_there_are_enough_blocks() -> None:
    few = compared(sides(num_blocks=2, factor=1.5))
    assert few.outcome == "undecided"
    assert few.is_blunt_only
    assert compared(([], [])).outcome == "undecided"


def test_one_configuration_that_looks_slower_keeps_the_gate_from_passing() -> None:
    # The mean of ten has no slowdown of the tolerance, and one of them is 6 % slower as far as six blocks can tell.
    specs = tuple(factory.compute_spec(seed=seed) for seed in range(10))
    before, after = sides(num_blocks=6, specs=specs)
    changed = [
        dataclasses.replace(one, steps=factory.steps_of([1.06, 1.06])) if one.spec == specs[0] else one for one in after
    ]
    assert compared((before, after), *specs).outcome == "pass"
    one = compared((before, changed), *specs)
    assert one.outcome == "undecided"
    assert one.rows[0].verdict == "same"


def test_a_block_counts_when_all_of_its_pairs_are_there() -> None:
    before, after = sides(num_blocks=5)
    assert blocks((before, after)).num_complete == 5
    assert blocks((before, after[:-1])).num_complete == 4
    assert compared((before, after[:-1])).rows[0].num_processes == (4, 4)


def test_memory_is_measured_in_the_first_block_alone() -> None:
    found = blocks(sides(num_blocks=3), *TIMED, MEMORY)
    assert [one.candidate for one in found.due(0)] == [*TIMED, MEMORY]
    assert [one.candidate for one in found.due(1)] == list(TIMED)
    assert found.num_complete == 0


def test_one_block_is_enough_where_no_clock_decides() -> None:
    record = MEMORY_RECORD
    found = blocks_of(alike(MEMORY, *TIMED), ([], []), has_times=False)
    assert found.due(1) == ()
    same = compare_blocks(
        blocks_of(alike(MEMORY), ([record], [record]), has_times=False),
        tolerances=Tolerances(),
        metrics=("status", "memory"),
    )
    assert same.outcome == "pass"


def test_more_memory_is_a_regression_after_one_block() -> None:
    record = MEMORY_RECORD
    assert record.memory is not None
    larger = dataclasses.replace(
        record, memory=dataclasses.replace(record.memory, peak_allocated_bytes=2 * record.memory.peak_allocated_bytes)
    )
    before, after = sides(num_blocks=1)
    found = compared(([*before, record], [*after, larger]), *TIMED, MEMORY)
    assert found.outcome == "regression"


def test_half_a_pair_waits_for_no_later_half() -> None:
    before, after = [timed(TIMED[0], 1.0, block=0)], [timed(TIMED[0], 1.0, block=0, attempt=1)]
    found = blocks((before, after), TIMED[0])
    key = (TIMED[0].spec_id, 0)
    assert key not in found.pairs
    assert found.attempts[key] == 2
    again = blocks(([*before, timed(TIMED[0], 1.1, block=0, attempt=1)], after), TIMED[0])
    assert again.times[key] == (pytest.approx(1.1), pytest.approx(1.0))


def test_a_new_failure_is_a_regression_and_what_failed_is_not_measured_again() -> None:
    before, after = sides(num_blocks=4)
    after = [failed(TIMED[1], block=3) if (one.spec, one.replicate) == (TIMED[1], 3) else one for one in after]
    found = blocks((before, after))
    assert [one.candidate for one in found.due(4)] == [TIMED[0]]
    comparison = compare_blocks(found, tolerances=Tolerances())
    assert comparison.outcome == "regression"
    assert {row.metric for row in comparison.rows if row.verdict == "worse"} == {"status"}
    (lost,) = (row for row in comparison.rows if row.verdict == "missing")
    assert (lost.metric, lost.num_processes) == ("time", (3, 3))


@pytest.mark.parametrize(("status", "outcome"), [("crashed", "undecided"), ("timeout", "undecided"), ("oom", "pass")])
def test_what_fails_on_both_sides_is_no_pass_unless_it_never_fitted(status: Status, outcome: str) -> None:
    before, after = sides(specs=TIMED[:1])
    both = [failed(TIMED[1], block=0, status=status)]
    found = compared((before + both, after + both))
    assert found.outcome == outcome
    assert bool(found.notes) == (outcome != "pass")


def test_nothing_but_failures_decides_nothing() -> None:
    both = [failed(spec, block=0, status="oom") for spec in TIMED]
    assert compared((both, both)).outcome == "undecided"


def test_records_of_other_configurations_are_left_out() -> None:
    before, after = sides()
    other = [timed(factory.compute_spec(batch_size=4), 1.0, block=0)]
    assert compared((before + other, after + other)).rows == compared((before, after)).rows


def test_a_network_whose_text_changed_is_compared_with_what_it_was() -> None:
    old, new = (factory.compute_spec(model="net.py:build", model_id=digit * 12) for digit in "ab")
    before, _ = sides(specs=[old])
    _, after = sides(specs=[new], factor=1.2)
    found = blocks_of([PairedSpec(baseline=old, candidate=new)], (before, after), has_times=True)
    comparison = compare_blocks(found, tolerances=Tolerances())
    assert comparison.outcome == "regression"
    assert {row.spec_id for row in comparison.rows} == {old.spec_id}
    assert {row.candidate_spec_id for row in comparison.rows} == {new.spec_id}
    assert any("its text changed" in line for line in comparison.remarks)


def test_sides_of_different_machines_are_not_compared() -> None:
    before, after = sides()
    moved = [dataclasses.replace(one, environment=one.environment | {"device_name": "another"}) for one in after]
    found = compared((before, moved))
    assert found.outcome == "undecided"
    assert any("another" in line for line in found.differing)
