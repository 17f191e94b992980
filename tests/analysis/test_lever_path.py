from __future__ import annotations

from itertools import pairwise
from typing import Any

import record_factory as factory

from vnbench.analysis.findings import Findings
from vnbench.analysis.planning.capacity import PlannedRun
from vnbench.analysis.planning.lever_path import lever_path
from vnbench.commands.plan.answer import PlanReport
from vnbench.commands.plan.asked import plan_values
from vnbench.commands.plan.plan import plan_records
from vnbench.records.record import TrialRecord


def planned(records: list[TrialRecord], **options: str) -> PlanReport:
    values = plan_values({"examples": "600", "epochs": "10", **options})
    return plan_records(Findings(records), values, sources=())


def levers_of(run: PlannedRun, *names: str) -> tuple[Any, ...]:
    return tuple(run.levers[name] for name in names)


def test_the_way_leads_from_the_plainest_to_the_goal_one_lever_at_a_time() -> None:
    report = planned(factory.gpu_campaign())
    path = lever_path(report.runs, report.recommended)
    assert levers_of(path[0].run, "precision", "checkpointing", "batch_size") == ("fp32", "none", 1)
    assert path[-1].run is report.recommended
    assert path[0].changes == {}
    for before, step in pairwise(path):
        assert len(step.changes) == 1
        for name, (old, new) in step.changes.items():
            assert (before.run.levers[name], step.run.levers[name]) == (old, new)


def test_the_change_that_saves_most_comes_first() -> None:
    report = planned(factory.gpu_campaign())
    path = lever_path(report.runs, report.recommended)
    first = [
        one
        for one in report.runs
        if sum(one.levers[name] != path[0].run.levers[name] for name in ("precision", "checkpointing", "sampler")) == 1
        and one.levers["batch_size"] == one.levers["micro_batch_size"] == 1
        and one.levers["precision"] == report.recommended.levers["precision"]
        and one.levers["norm_precision"] == path[0].run.levers["norm_precision"]
        and one.levers["checkpointing"] == "none"
    ]
    assert first
    assert path[1].run.finish.p50 <= min(one.finish.p50 for one in first)


def test_what_was_not_measured_between_is_one_step_of_several_levers() -> None:
    gpu: dict[str, Any] = {"device": "cuda", "model": "veernet"}
    records = []
    for levers in ({"precision": "fp32"}, {"precision": "bf16", "norm_precision": "input"}):
        spec = factory.compute_spec(**gpu, **levers)
        records += [factory.measured_compute_record(spec, replicate=number) for number in range(3)]
        records.append(factory.measured_memory_record(factory.training_spec(**gpu, batch_size=1, **levers)))
    report = planned(records)
    path = lever_path(report.runs, report.recommended)
    assert [set(step.changes) for step in path] == [set(), {"precision", "norm_precision"}]


def test_configurations_that_differ_in_workers_alone_are_no_steps() -> None:
    """Records of several campaigns hold such; a way through them would have no end."""
    gpu: dict[str, Any] = {"device": "cuda", "model": "veernet"}
    records = factory.gpu_campaign()
    for workers in (0, 2):
        for sampler in ("random", "bucketed"):
            spec = factory.training_spec(**gpu, batch_size=2, sampler=sampler, num_workers=workers)
            records.append(factory.measured_training_record(spec))
    report = planned(records)
    path = lever_path(report.runs, report.recommended)
    assert 1 < len(path) < 10
    assert path[-1].run is report.recommended


def test_there_is_no_way_to_the_plainest() -> None:
    gpu: dict[str, Any] = {"device": "cuda", "model": "veernet"}
    records = [factory.measured_compute_record(factory.compute_spec(**gpu), replicate=number) for number in range(3)]
    records.append(factory.measured_memory_record(factory.training_spec(**gpu, batch_size=1)))
    report = planned(records)
    assert lever_path(report.runs, report.recommended) == ()
