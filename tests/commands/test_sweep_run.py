from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from record_factory import memory_spec, record_of, some_pace, training_spec
from rich.console import Console

from vnbench.commands.corpus import plan_corpus
from vnbench.commands.sweep import run as sweep_run
from vnbench.commands.sweep.probe import workload_of
from vnbench.commands.sweep.run import SweepRun
from vnbench.records.record import Status, TrialRecord
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.records.store import ResultsFile, load_results
from vnbench.records.task import TrialTask
from vnbench.request.config import complete
from vnbench.request.reading import read_request
from vnbench.sweep.budget import Budget
from vnbench.sweep.estimate import TrialTimes
from vnbench.sweep.loop import DueTrial
from vnbench.sweep.order import PlannedTrial

CPU: dict[str, Any] = {"device_type": "cpu", "num_cpus": 2}
TRACED = replace(memory_spec(training_spec()), memory_by="trace")


def due(*specs: TrialSpec) -> list[DueTrial]:
    return [DueTrial(planned=PlannedTrial(spec=spec, replicate=0), attempt=0) for spec in specs]


@pytest.fixture
def swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[SweepRun, list[str], list[str]]]:
    """Run some trials whose processes answer as told; return the run, what was run, and the statuses on the disk."""

    def run(
        *specs: TrialSpec, status: Status = "ok", budget_s: float | None = None
    ) -> tuple[SweepRun, list[str], list[str]]:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        ran: list[str] = []

        def traced(tasks: Sequence[TrialTask], **_: object) -> tuple[TrialRecord, ...]:
            ran.append(f"{len(tasks)} traces")
            return tuple(record_of(task.spec, status=status, cause=None) for task in tasks)

        def trial(task: TrialTask, **_: object) -> TrialRecord:
            ran.append(task.spec.kind)
            return record_of(task.spec, status=status, cause=None)

        monkeypatch.setattr(sweep_run, "run_traces", traced)
        monkeypatch.setattr(sweep_run, "run_trial", trial)
        config = complete(read_request({"widths": "64:160", "heights": "32:64"}, config_path=None), environment=CPU)
        corpus = plan_corpus(config)
        path = tmp_path / "r.jsonl"
        with ResultsFile(path, environment={}) as results:
            made = SweepRun(
                config,
                corpus,
                {},
                results,
                console=Console(file=io.StringIO()),
                budget=Budget(total_s=budget_s, start=time.monotonic()),
                times=TrialTimes(workload=workload_of(corpus), pace=some_pace()),
            )
            made.run(due(*specs))
        stored = [record.status for record in load_results(path).records] if path.exists() else []
        return made, ran, stored

    return run


def test_steps_that_are_only_traced_go_first_and_all_in_one_process(swept: Any) -> None:
    other = replace(TRACED, micro_batch_size=2, batch_size=2)
    _, ran, stored = swept(training_spec(subset_size=2), TRACED, other)
    assert ran == ["2 traces", "training"]
    assert stored == ["ok"] * 3


def test_a_traced_step_without_room_leaves_out_the_training_that_needs_it(swept: Any) -> None:
    made, ran, stored = swept(training_spec(subset_size=2), TRACED, status="oom")
    assert ran == ["1 traces"]
    assert stored == ["oom", "skipped"]
    assert made.not_started(due(training_spec(subset_size=2), TRACED)) == []


def test_what_the_time_budget_ended_has_no_record_and_is_named_as_not_started(swept: Any) -> None:
    specs = [TRACED, training_spec(subset_size=2)]
    made, _, stored = swept(*specs, status="timeout", budget_s=30.0)
    assert stored == []
    assert made.not_started(due(*specs)) == specs


def test_a_trial_that_ran_past_its_own_limit_is_a_record(swept: Any) -> None:
    _, _, stored = swept(training_spec(subset_size=2), status="timeout")
    assert stored == ["timeout"]
