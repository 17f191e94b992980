from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from record_factory import memory_spec, record_of, training_spec

from vnbench.harness.design import PlannedTrial
from vnbench.harness.sweep import DueTrial, due_trials, find_blocker, run_sweep
from vnbench.harness.task import TrialTask
from vnbench.record import Cause, Status, TrialRecord
from vnbench.spec import TrialSpec


@dataclass
class Observer:
    started_specs: list[TrialSpec] = field(default_factory=list)
    finished_records: list[TrialRecord] = field(default_factory=list)

    def started(self, spec: TrialSpec) -> None:
        self.started_specs.append(spec)

    def finished(self, record: TrialRecord) -> None:
        self.finished_records.append(record)


def planned(*specs: TrialSpec) -> tuple[PlannedTrial, ...]:
    return tuple(PlannedTrial(spec=spec, replicate=0) for spec in specs)


def failing_above(micro_batch_size: int) -> Callable[[TrialTask], TrialRecord]:
    """Return a runner in which memory trials above a micro-batch run out of memory."""

    def run(task: TrialTask) -> TrialRecord:
        is_oom = task.spec.kind == "memory" and task.spec.micro_batch_size > micro_batch_size
        return executed(task, "oom" if is_oom else "ok")

    return run


def executed(task: TrialTask, status: Status) -> TrialRecord:
    cause = None if status == "ok" else Cause(kind="torch-out-of-memory", message="too large")
    return record_of(task.spec, status=status, cause=cause, replicate=task.replicate, attempt=task.attempt)


def sweep(
    due: Sequence[DueTrial], *, records: Sequence[TrialRecord] = (), largest: int = 100, deadline: float | None = None
) -> tuple[list[TrialRecord], Observer]:
    observer = Observer()
    clock = iter(range(1000))
    made = run_sweep(
        due,
        records=records,
        run=failing_above(largest),
        corpus_directory="/corpus",
        environment={"device_name": "A"},
        observer=observer,
        deadline=deadline,
        clock=lambda: float(next(clock)),
    )
    return list(made), observer


LADDER = [training_spec(batch_size=size) for size in (1, 2, 4, 8)]
TRIALS = planned(*(memory_spec(spec) for spec in LADDER), *LADDER)


def test_everything_without_a_record_is_due() -> None:
    assert [trial.attempt for trial in due_trials(TRIALS, records=(), retry=())] == [0] * 8


def test_finished_trials_are_not_due_again_whatever_their_status() -> None:
    records, _ = sweep(due_trials(TRIALS, records=(), retry=()), largest=2)
    assert due_trials(TRIALS, records=records, retry=()) == ()


def test_retry_makes_trials_of_a_status_due_with_the_next_attempt() -> None:
    records, _ = sweep(due_trials(TRIALS, records=(), retry=()), largest=2)
    again = due_trials(TRIALS, records=records, retry=("oom", "skipped"))
    assert [(trial.planned.spec.kind, trial.planned.spec.micro_batch_size) for trial in again] == [
        ("memory", 4),
        ("memory", 8),
        ("training", 4),
        ("training", 8),
    ]
    assert {trial.attempt for trial in again} == {1}
    more, _ = sweep(again, records=records, largest=8)
    assert [record.status for record in more] == ["ok"] * 4, "a retry that fits frees the larger members"
    assert due_trials(TRIALS, records=[*records, *more], retry=("oom", "skipped")) == ()


def test_larger_members_of_a_family_that_ran_out_of_memory_are_skipped_with_that_reason() -> None:
    records, observer = sweep(due_trials(TRIALS, records=(), retry=()), largest=2)
    assert [record.status for record in records] == ["ok", "ok", "oom", "skipped", "ok", "ok", "skipped", "skipped"]
    oom = records[2]
    for record in records:
        if record.status == "skipped":
            assert record.cause is not None
            assert record.cause.kind == "larger-than-out-of-memory"
            assert oom.trial_id in record.cause.message
    assert len(observer.started_specs) == 5, "a skipped trial is not started"
    assert observer.finished_records == records


def test_other_families_are_not_skipped() -> None:
    checkpointed = training_spec(batch_size=8, checkpointing="stages")
    oom = record_of(memory_spec(LADDER[1]), status="oom", cause=None)
    assert find_blocker(checkpointed, [oom]) is None
    assert find_blocker(LADDER[0], [oom]) is None
    assert find_blocker(LADDER[1], [oom]) is oom
    assert find_blocker(memory_spec(LADDER[1]), [oom]) is None, "the trial itself may be tried again"


def test_accumulation_in_a_fitting_micro_batch_is_not_skipped() -> None:
    oom = record_of(memory_spec(LADDER[2]), status="oom", cause=None)
    assert find_blocker(training_spec(batch_size=8, micro_batch_size=2), [oom]) is None
    assert find_blocker(training_spec(batch_size=8, micro_batch_size=4), [oom]) is oom


def test_no_trial_starts_after_the_deadline() -> None:
    records, _ = sweep(due_trials(TRIALS, records=(), retry=()), deadline=3.0)
    assert len(records) == 3
    assert sweep(due_trials(TRIALS, records=(), retry=()), deadline=0.0)[0] == []


def test_only_training_trials_are_told_where_the_corpus_is() -> None:
    seen: list[TrialTask] = []

    def run(task: TrialTask) -> TrialRecord:
        seen.append(task)
        return executed(task, "ok")

    due = due_trials(planned(memory_spec(LADDER[0]), LADDER[0]), records=(), retry=())
    list(run_sweep(due, records=(), run=run, corpus_directory="/c", environment={}, observer=Observer()))
    assert [task.corpus_directory for task in seen] == [None, "/c"]
