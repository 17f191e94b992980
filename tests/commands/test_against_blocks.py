"""Both sides in blocks, with sides that measure nothing."""

from __future__ import annotations

import dataclasses
import io
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import record_factory as factory
from rich.console import Console

from vnbench.analysis.comparison.blocks import PairedSpec
from vnbench.analysis.comparison.compare import Comparison
from vnbench.analysis.comparison.rows import Tolerances
from vnbench.commands.gate.against.measure import BlockPlan, measure_blocks
from vnbench.output.block_progress import BlockProgress
from vnbench.output.gate.words import advice
from vnbench.records.readings import METRICS
from vnbench.records.record import TrialRecord
from vnbench.records.store import ResultsFile, load_results
from vnbench.records.task import TrialTask

ROOT = Path(__file__).parents[2]
SPECS = tuple(factory.compute_spec(precision=precision) for precision in ("fp32", "bf16"))
MEMORY_RECORD = factory.measured_memory_record(factory.training_spec())
SIDES = ("baseline", "candidate")


class Sides:
    """Measure in no time; each trial takes a second of a clock of their own."""

    def __init__(
        self, *, factor: float = 1.0, noise: float = 0.002, stops_after: int | None = None, crashes: int = 0
    ) -> None:
        self.factor = factor
        self.crashes = crashes
        self.noise = noise
        self.stops_after = stops_after
        self.tasks: list[tuple[int, TrialTask]] = []
        self.now_s = 0.0

    def run(self, side: int, task: TrialTask) -> TrialRecord:
        if len(self.tasks) == self.stops_after:
            raise KeyboardInterrupt
        self.tasks.append((side, task))
        self.now_s += 1.0
        if task.spec.kind == "memory":
            return dataclasses.replace(MEMORY_RECORD, replicate=task.replicate, attempt=task.attempt)
        if side == 1 and task.replicate == 0 and task.spec == SPECS[0] and task.attempt < self.crashes:
            crashed = factory.record_of(task.spec, status="crashed", replicate=task.replicate)
            return dataclasses.replace(crashed, attempt=task.attempt)
        rng = np.random.default_rng([side, task.replicate, task.attempt, SPECS.index(task.spec)])
        seconds = (self.factor if side else 1.0) * float(np.exp(rng.normal(0, self.noise)))
        record = factory.record_of(task.spec, steps=factory.steps_of([seconds, seconds]), replicate=task.replicate)
        return dataclasses.replace(record, attempt=task.attempt)


def gated(folder: Path, sides: Sides, *, time_cap_s: float = 3600.0) -> tuple[Comparison, str]:
    plan = BlockPlan(
        specs=tuple(PairedSpec(baseline=spec, candidate=spec) for spec in (*SPECS, MEMORY_RECORD.spec)),
        corpus_directory=None,
        tolerances=Tolerances(),
        metrics=METRICS,
        time_cap_s=time_cap_s,
        seed=0,
    )
    told = io.StringIO()
    console = Console(file=told, width=200)
    with ExitStack() as stack:
        files = [
            stack.enter_context(ResultsFile(folder / f"{name}.jsonl", environment=factory.CPU_ENVIRONMENT))
            for name in SIDES
        ]
        progress = stack.enter_context(BlockProgress(tolerance=0.015, console=console, clock=lambda: sides.now_s))
        comparison = measure_blocks(
            plan, files=(files[0], files[1]), run=sides.run, progress=progress, clock=lambda: sides.now_s
        )
    return comparison, told.getvalue()


def test_unchanged_code_passes_and_a_slowdown_of_a_fifth_is_found(tmp_path: Path) -> None:
    comparison, told = gated(tmp_path / "same", Sides())
    assert comparison.outcome == "pass"
    assert "block 1: 6 trials, 3 configurations a side; the time cap counts from here, 1 h" in told
    assert told.count("the first trial took ") == 1
    assert told.rstrip().endswith("; pass")
    assert gated(tmp_path / "slower", Sides(factor=1.2))[0].outcome == "regression"


def test_both_sides_of_a_pair_run_in_direct_succession_and_neither_is_always_first(tmp_path: Path) -> None:
    sides = Sides(noise=0.03)
    gated(tmp_path, sides)
    pairs = list(zip(sides.tasks[::2], sides.tasks[1::2], strict=True))
    for (side, task), (other, its_task) in pairs:
        assert {side, other} == {0, 1}
        assert task == its_task
    assert {pair[0][0] for pair in pairs} == {0, 1}
    assert len({task.spec for _, task in sides.tasks[:6]}) == 3


def test_memory_gets_one_pair_and_times_one_in_every_block(tmp_path: Path) -> None:
    sides = Sides(noise=0.03)
    comparison, _ = gated(tmp_path, sides)
    num_blocks = comparison.rows[0].num_processes[0]
    assert num_blocks > 3
    assert sum(task.spec.kind == "memory" for _, task in sides.tasks) == 2
    assert len(sides.tasks) == 2 + 4 * num_blocks


def test_no_pair_begins_after_the_time_cap_and_the_same_command_goes_on(tmp_path: Path) -> None:
    first = Sides(noise=0.03)
    comparison, told = gated(tmp_path, first, time_cap_s=9.0)
    assert comparison.outcome == "undecided"
    assert len(first.tasks) == 10
    assert "; the time cap ends in 3 s" in told
    second = Sides(noise=0.03)
    assert gated(tmp_path, second)[0].outcome == "pass"
    whole = Sides(noise=0.03)
    assert gated(tmp_path / "whole", whole)[0].outcome == "pass"
    assert [*first.tasks, *second.tasks] == whole.tasks


def test_what_is_decided_is_not_measured_again(tmp_path: Path) -> None:
    assert gated(tmp_path, Sides(factor=1.2))[0].outcome == "regression"
    again = Sides()
    assert gated(tmp_path, again)[0].outcome == "regression"
    assert again.tasks == []


def test_half_a_pair_that_an_interruption_left_is_measured_again_on_both_sides(tmp_path: Path) -> None:
    first = Sides(noise=0.03, stops_after=7)
    with pytest.raises(KeyboardInterrupt):
        gated(tmp_path, first)
    second = Sides(noise=0.03)
    gated(tmp_path, second)
    (side, half) = first.tasks[-1]
    again = [
        (where, task) for where, task in second.tasks if (task.spec, task.replicate) == (half.spec, half.replicate)
    ]
    assert {where for where, _ in again} == {0, 1}
    assert {task.attempt for _, task in again} == {1}
    assert len(load_results(tmp_path / f"{SIDES[side]}.jsonl").records) == sum(
        where == side for where, _ in (*first.tasks, *second.tasks)
    )


def test_a_pair_that_crashed_once_is_measured_again_on_both_sides_and_counts_as_it_ends_then(tmp_path: Path) -> None:
    once = Sides(crashes=1)
    comparison, told = gated(tmp_path / "once", once)
    assert comparison.outcome == "pass"
    assert "a crash is tried once more" in told
    of_pair = [(side, task.attempt) for side, task in once.tasks if (task.spec, task.replicate) == (SPECS[0], 0)]
    assert sorted(of_pair) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    always = Sides(crashes=9)
    comparison, _ = gated(tmp_path / "always", always)
    assert comparison.outcome == "regression"
    assert max(task.attempt for _, task in always.tasks) == 1
    (row,) = (row for row in comparison.rows if row.metric == "status" and row.verdict == "worse")
    assert row.spec_id == SPECS[0].spec_id


def test_progress_tells_what_a_block_said_and_about_how_many_more_it_takes(tmp_path: Path) -> None:
    _, told = gated(tmp_path, Sides(noise=0.03))
    lines = told.splitlines()
    assert any("block 2 took 4 s: all configurations" in line for line in lines)
    assert any("; undecided; a pass would need about " in line and "more block" in line for line in lines)


def test_a_time_cap_below_one_block_says_that_nothing_was_compared_yet(tmp_path: Path) -> None:
    comparison, _ = gated(tmp_path, Sides(), time_cap_s=1.0)
    assert comparison.outcome == "undecided"
    assert comparison.rows == ()
    assert any("before every configuration had run on both sides" in line for line in advice(comparison))
