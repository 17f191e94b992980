from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest
from fake_nvml import UUID, FakeNvml, fake_nvml
from record_factory import memory_spec, record_of, training_spec

from vnbench.measure.nvml import HARMFUL_THROTTLE_REASONS
from vnbench.records.record import DISTURBANCES, Cause, Status, TrialRecord, TrialWarning, WarningCode
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.records.task import TrialTask
from vnbench.sweep.loop import (
    DEVICE_LOST,
    UNUSABLE_IMAGES,
    BudgetSpentError,
    DueTrial,
    Runner,
    due_trials,
    find_blocker,
    run_sweep,
)
from vnbench.sweep.order import PlannedTrial
from vnbench.sweep.repeats import MAX_STUBBORN_REPEATS
from vnbench.sweep.runner import run_trial

__all__ = ["fake_nvml"]  # the fixture ``nvml``


@dataclass
class Observer:
    started_specs: list[TrialSpec] = field(default_factory=list)
    repeated_records: list[TrialRecord] = field(default_factory=list)
    finished_records: list[TrialRecord] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def started(self, spec: TrialSpec, number: int) -> None:
        self.started_specs.append(spec)

    def repeated(self, record: TrialRecord) -> None:
        self.repeated_records.append(record)

    def finished(self, record: TrialRecord) -> None:
        self.finished_records.append(record)

    def noted(self, message: str) -> None:
        self.messages.append(message)


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


def disturbed(
    *codes: WarningCode, tries: int = 1000, only: TrialSpec | None = None
) -> Callable[[TrialTask], TrialRecord]:
    """Return a runner in which the first tries at a trial end ``ok`` with warnings of these codes."""
    warnings = tuple(TrialWarning(code=code, message=f"made {code}") for code in codes)

    def run(task: TrialTask) -> TrialRecord:
        is_disturbed = task.attempt < tries and only in (None, task.spec)
        return replace(executed(task, "ok"), warnings=warnings if is_disturbed else ())

    return run


def sweep(
    due: Sequence[DueTrial],
    *,
    records: Sequence[TrialRecord] = (),
    largest: int = 100,
    deadline: float | None = None,
    run: Runner | None = None,
    max_attempts: int = 3,
    is_device_there: Callable[[], bool] = lambda: True,
    takes_s: Callable[[TrialSpec], float] = lambda spec: 0.0,
) -> tuple[list[TrialRecord], Observer]:
    observer = Observer()
    clock = iter(range(1000))
    made = run_sweep(
        due,
        records=records,
        run=run or failing_above(largest),
        corpus_directory="/corpus",
        environment={"device_name": "A"},
        observer=observer,
        max_attempts=max_attempts,
        is_device_there=is_device_there,
        takes_s=takes_s,
        deadline=deadline,
        clock=lambda: float(next(clock)),
    )
    return list(made), observer


def attempts(records: Sequence[TrialRecord]) -> list[tuple[int, int]]:
    """Return batch size and attempt of each record."""
    return [(record.spec.batch_size, record.attempt) for record in records]


LADDER = [training_spec(batch_size=size) for size in (1, 2, 4, 8)]
TRIALS = planned(*(memory_spec(spec) for spec in LADDER), *LADDER)


def meeting_a_bad_image(task: TrialTask) -> TrialRecord:
    """Run memory trials well; of the others each meets the same file."""
    if task.spec.kind == "memory":
        return executed(task, "ok")
    return replace(executed(task, "crashed"), cause=Cause(kind="unusable-image", message="logs/7.png: does not decode"))


def test_an_image_that_cannot_be_used_ends_the_sweep_at_the_first_trial_that_meets_it() -> None:
    records, observer = sweep(due_trials(TRIALS, records=(), retry=()), run=meeting_a_bad_image)
    assert [record.kind for record in records] == ["memory"] * 4 + ["training"]
    assert observer.finished_records == records
    assert observer.repeated_records == []
    assert observer.messages == [UNUSABLE_IMAGES.format("logs/7.png: does not decode")]


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


def test_nothing_starts_that_would_not_end_in_time_and_what_fits_goes_first() -> None:
    # The clock advances by 1 before each trial, which takes as many seconds as its batch has examples.
    due = due_trials(planned(*LADDER), records=(), retry=())
    records, _ = sweep(due, deadline=5.0, takes_s=lambda spec: float(spec.batch_size))
    assert [record.spec.batch_size for record in records] == [1, 2], "at 2, the four seconds of the next are too many"
    records, _ = sweep(due[::-1], deadline=5.0, takes_s=lambda spec: float(spec.batch_size))
    assert [record.spec.batch_size for record in records] == [4, 2, 1]


def test_a_trial_that_the_budget_ended_has_no_record_and_is_the_last() -> None:
    def run(task: TrialTask) -> TrialRecord:
        if task.spec.batch_size == 4:
            raise BudgetSpentError
        return executed(task, "ok")

    records, _ = sweep(due_trials(planned(*LADDER), records=(), retry=()), run=run, deadline=100.0)
    assert [record.spec.batch_size for record in records] == [1, 2]


def test_only_training_trials_are_told_where_the_corpus_is() -> None:
    seen: list[TrialTask] = []

    def run(task: TrialTask) -> TrialRecord:
        seen.append(task)
        return executed(task, "ok")

    due = due_trials(planned(memory_spec(LADDER[0]), LADDER[0]), records=(), retry=())
    sweep(due, run=run)
    assert [task.corpus_directory for task in seen] == [None, "/corpus"]


TRAINING = due_trials(planned(*LADDER), records=(), retry=())


@pytest.mark.parametrize("code", DISTURBANCES)
def test_a_disturbed_trial_is_tried_again_behind_all_others_and_every_try_is_kept(code: WarningCode) -> None:
    records, observer = sweep(TRAINING, run=disturbed(code, tries=1, only=LADDER[1]))
    assert attempts(records) == [(1, 0), (2, 0), (4, 0), (8, 0), (2, 1)]
    assert [warning.code for warning in records[1].warnings] == [code]
    assert records[4].warnings == ()
    assert observer.started_specs == [*LADDER, LADDER[1]]
    assert observer.repeated_records == [records[1]]
    assert observer.finished_records == [records[0], *records[2:]]
    assert observer.messages == [], "the last try was good"


def test_other_warnings_and_failures_are_not_tried_again() -> None:
    assert attempts(sweep(TRAINING, run=disturbed("noisy", "outliers"))[0]) == [(1, 0), (2, 0), (4, 0), (8, 0)]

    def crash(task: TrialTask) -> TrialRecord:
        record = executed(task, "crashed")
        return replace(record, warnings=(TrialWarning(code="throttled", message="hot"),))

    assert attempts(sweep(TRAINING, run=crash)[0]) == [(1, 0), (2, 0), (4, 0), (8, 0)]


def test_a_trial_that_stays_disturbed_is_tried_so_often_and_no_more() -> None:
    records, observer = sweep(TRAINING, run=disturbed("busy-cores", only=LADDER[3]))
    assert attempts(records)[3:] == [(8, 0), (8, 1), (8, 2)]
    (verdict,) = observer.messages
    assert verdict.startswith("disturbed in every try: 1 of 4 trials (busy-cores 1)")


def test_one_try_is_never_repeated_and_told_at_the_end() -> None:
    records, observer = sweep(TRAINING, run=disturbed("throttled"), max_attempts=1)
    assert attempts(records) == [(1, 0), (2, 0), (4, 0), (8, 0)]
    (verdict,) = observer.messages
    assert verdict.startswith("disturbed in every try: 4 of 4 trials")


def test_tries_count_from_the_attempt_that_is_due() -> None:
    (due,) = due_trials(planned(LADDER[0]), records=[record_of(LADDER[0], status="crashed")], retry=("crashed",))
    records, _ = sweep([due], run=disturbed("throttled"), max_attempts=2)
    assert [record.attempt for record in records] == [1, 2]


def test_a_sweep_in_which_everything_throttles_ends_with_results_and_a_warning() -> None:
    sizes = (1, 2, 4, 8, 16, 32)
    ladder = planned(*(training_spec(batch_size=size) for size in sizes))
    records, observer = sweep(due_trials(ladder, records=(), retry=()), run=disturbed("throttled"))
    assert MAX_STUBBORN_REPEATS == 3
    assert attempts(records) == [*((size, 0) for size in sizes), (1, 1), (2, 1), (4, 1)]
    assert sorted(record.spec.batch_size for record in observer.finished_records) == list(sizes)
    given_up, verdict = observer.messages
    assert given_up.startswith("3 repeats in a row were disturbed again")
    assert verdict.startswith("disturbed in every try: 6 of 6 trials (throttled 6)")


def test_a_good_repeat_between_stubborn_ones_keeps_repeating_alive() -> None:
    sizes = (1, 2, 4, 8, 16)
    stubborn, passing = disturbed("throttled"), disturbed("throttled", tries=1)
    due = due_trials(planned(*(training_spec(batch_size=size) for size in sizes)), records=(), retry=())
    records, observer = sweep(
        due, run=lambda task: (passing if task.spec.batch_size == 4 else stubborn)(task), max_attempts=2
    )
    assert attempts(records) == [(size, attempt) for attempt in (0, 1) for size in sizes]
    assert len(observer.messages) == 1


def test_no_try_starts_after_the_deadline() -> None:
    # The clock is read before each try: at 0, 1, 2, ...
    records, observer = sweep(TRAINING, run=disturbed("throttled"), deadline=5.0)
    assert attempts(records) == [(1, 0), (2, 0), (4, 0), (8, 0), (1, 1)]
    assert len(observer.finished_records) == 4, "what waits for another try has its record"
    assert observer.messages[0] == "no time is left to try 4 disturbed trials again: the time budget is used up"
    assert observer.messages[1].startswith("disturbed in every try: 4 of 4 trials")


def test_where_repeating_was_given_up_no_time_is_said_to_lack() -> None:
    sizes = (1, 2, 4, 8, 16, 32)
    due = due_trials(planned(*(training_spec(batch_size=size) for size in sizes)), records=(), retry=())
    _, observer = sweep(due, run=disturbed("throttled"), deadline=9.0)
    assert [message.partition(":")[0] for message in observer.messages] == [
        "3 repeats in a row were disturbed again",
        "disturbed in every try",
    ]


def test_a_repeat_whose_family_ran_out_of_memory_meanwhile_keeps_what_it_has() -> None:
    due = due_trials(planned(LADDER[1], memory_spec(LADDER[0])), records=(), retry=())

    def run(task: TrialTask) -> TrialRecord:
        return executed(task, "oom") if task.spec.kind == "memory" else disturbed("throttled")(task)

    records, observer = sweep(due, run=run)
    assert [record.status for record in records] == ["ok", "oom"]
    assert [record.status for record in observer.finished_records] == ["oom", "ok"]


def test_a_disturbed_trial_that_finished_is_not_due_in_the_next_run() -> None:
    records, _ = sweep(TRAINING, run=disturbed("throttled"))
    assert due_trials(planned(*LADDER), records=records, retry=()) == ()


def lost_at(batch_size: int, *, text: str = "CUDA error: no CUDA-capable device is detected") -> Runner:
    """Return a runner in which trials from this batch on find no GPU."""

    def run(task: TrialTask) -> TrialRecord:
        if task.spec.batch_size < batch_size:
            return executed(task, "ok")
        return replace(executed(task, "crashed"), cause=Cause(kind="exception", message=text))

    return run


ON_CUDA = due_trials(
    planned(*(training_spec(batch_size=size, device="cuda") for size in (1, 2, 4, 8))), records=(), retry=()
)


def test_a_gpu_that_is_gone_ends_the_sweep_with_what_it_has() -> None:
    records, observer = sweep(ON_CUDA, run=lost_at(4), is_device_there=lambda: False)
    assert [record.status for record in records] == ["ok", "ok", "crashed"]
    assert observer.finished_records == records
    assert observer.messages == [DEVICE_LOST]


def test_a_crash_on_a_gpu_that_is_still_there_ends_one_trial() -> None:
    records, observer = sweep(ON_CUDA, run=lost_at(4), is_device_there=lambda: True)
    assert [record.status for record in records] == ["ok", "ok", "crashed", "crashed"]
    assert observer.messages == []


def test_the_device_is_asked_for_only_after_a_crash_that_reads_like_its_loss() -> None:
    def ask() -> bool:
        raise AssertionError("nobody should ask")

    sweep(ON_CUDA, run=failing_above(100), is_device_there=ask)
    sweep(ON_CUDA, run=lost_at(2, text="CUDA error: unspecified launch failure"), is_device_there=ask)
    sweep(TRAINING, run=lost_at(2), is_device_there=ask)


@pytest.mark.processes
def test_trials_on_a_throttling_gpu_are_repeated_and_kept_end_to_end(nvml: FakeNvml) -> None:
    nvml.changes["nvmlDeviceGetCurrentClocksThrottleReasons"] = HARMFUL_THROTTLE_REASONS["hardware slowdown"]
    records, observer = sweep(
        TRAINING,
        run=lambda task: run_trial(
            task, environment={"device_uuid": UUID}, timeout_s=600, entry="scripted_child:answer_in_order"
        ),
        max_attempts=2,
    )
    assert attempts(records) == [(1, 0), (2, 0), (4, 0), (8, 0), (1, 1), (2, 1), (4, 1)]
    assert all("throttled" in [warning.code for warning in record.warnings] for record in records)
    assert len(observer.messages) == 2
