from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from record_factory import CAPACITY_BYTES, memory_spec, reading_of, record_of, training_spec

from vnbench.records.record import Cause, Status, TrialRecord
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.records.task import TrialTask
from vnbench.sweep.search import is_at_its_end, probes_of, search_max_batches, smaller_probes_of, with_micro_batch

BASE = memory_spec(training_spec(batch_size=1, device="cuda"))
OTHER = dataclasses.replace(BASE, checkpointing="stages")


class Observer:
    def __init__(self) -> None:
        self.started_specs: list[TrialSpec] = []
        self.finished_records: list[TrialRecord] = []

    def started(self, spec: TrialSpec, records: Sequence[TrialRecord]) -> None:
        self.started_specs.append(spec)

    def finished(self, record: TrialRecord) -> None:
        self.finished_records.append(record)


def machine(limit: int, *, status: Status = "oom") -> Callable[[TrialTask], TrialRecord]:
    """Return a runner in which so many worst-case examples fit, and smaller canvases in proportion.

    Its peaks are that far from its memory.
    """

    def run(task: TrialTask) -> TrialRecord:
        spec = task.spec
        assert spec.worst_case_width is not None
        fits = spec.micro_batch_size * spec.worst_case_width <= max(limit, 0.4) * 12_800
        cause = None if fits else Cause(kind="torch-out-of-memory", message="too large")
        images = spec.micro_batch_size * spec.worst_case_width / 12_800
        peak_bytes = int(images / (limit + 0.5) * CAPACITY_BYTES["cuda"])
        memory = reading_of(spec, peak_bytes=peak_bytes) if fits else None
        return record_of(
            spec,
            status="ok" if fits else status,
            cause=cause,
            memory=memory,
            replicate=task.replicate,
            attempt=task.attempt,
        )

    return run


def search(
    *bases: TrialSpec,
    run: Callable[[TrialTask], TrialRecord],
    records: Sequence[TrialRecord] = (),
    retry: Sequence[str] = (),
    takes_s: Callable[[TrialSpec], float] = lambda spec: 0.0,
    deadline: float | None = None,
) -> tuple[list[TrialRecord], Observer]:
    observer = Observer()
    clock = iter(range(1000))
    found = search_max_batches(
        bases,
        records=records,
        run=run,
        observer=observer,
        most=64,
        retry=retry,
        takes_s=takes_s,
        deadline=deadline,
        clock=lambda: float(next(clock)),
    )
    return list(found), observer


def sizes(records: Sequence[TrialRecord]) -> list[tuple[int, int]]:
    return [(record.spec.micro_batch_size, record.replicate) for record in records]


def test_each_configuration_is_searched_in_turn_and_every_probe_told() -> None:
    records, observer = search(BASE, OTHER, run=machine(3))
    own = [(1, 0), (2, 0), (4, 0), (3, 0), (3, 1), (4, 1)]
    assert sizes(records) == own * 2
    assert observer.finished_records == records
    assert observer.started_specs == [record.spec for record in records]
    assert sizes(probes_of(BASE, records)) == own
    assert sizes(probes_of(OTHER, records)) == own


def test_a_finished_search_runs_nothing_and_a_broken_one_what_is_missing() -> None:
    whole, _ = search(BASE, run=machine(3))
    assert search(BASE, run=machine(3), records=whole)[0] == []
    rest, _ = search(BASE, run=machine(3), records=whole[:4])
    assert sizes(rest) == sizes(whole[4:])


def test_a_status_to_be_tried_again_is_tried_once_as_another_attempt() -> None:
    crashed, _ = search(BASE, run=machine(3, status="crashed"))
    again, _ = search(BASE, run=machine(3, status="crashed"), records=crashed, retry=["crashed"])
    assert [(record.spec.micro_batch_size, record.replicate, record.attempt) for record in again] == [
        (4, 0, 1),
        (4, 1, 1),
    ]
    # With the fault gone the search goes on above.
    mended, _ = search(BASE, run=machine(5), records=crashed, retry=["crashed"])
    assert sizes(mended) == [(4, 0), (4, 1), (5, 0), (6, 0), (5, 1), (6, 1)]


def test_no_probe_starts_after_the_deadline() -> None:
    records, _ = search(BASE, run=machine(3), deadline=2.0)
    assert len(records) == 2
    assert search(BASE, run=machine(3), deadline=0.0)[0] == []


def test_no_probe_starts_that_would_end_after_the_deadline() -> None:
    # The clock ticks once a question: the fourth micro-batch of the first search would take too long.
    records, _ = search(
        BASE, OTHER, run=machine(8), takes_s=lambda spec: 90.0 if spec.micro_batch_size == 8 else 1.0, deadline=60.0
    )
    assert sizes(records) == [(1, 0), (2, 0), (4, 0)] * 2
    assert not any(is_at_its_end(base, records, most=64) for base in (BASE, OTHER))


def test_a_search_is_at_its_end_where_no_probe_is_left() -> None:
    for limit in (3, 0):
        whole, _ = search(BASE, run=machine(limit))
        assert is_at_its_end(BASE, whole, most=64)
        assert not is_at_its_end(BASE, whole[:-1], most=64)
    assert not is_at_its_end(BASE, [], most=64)


def test_where_nothing_fits_smaller_canvases_are_tried_until_two_do() -> None:
    records, _ = search(BASE, run=machine(0))
    assert sizes(records)[:2] == [(1, 0), (1, 1)]
    assert [record.spec.worst_case_width for record in records[2:]] == [6400, 3200, 1600]
    assert [record.status for record in records[2:]] == ["oom", "ok", "ok"]
    assert smaller_probes_of(BASE, records) == tuple(records[2:])
    assert sizes(probes_of(BASE, records)) == [(1, 0), (1, 1)], "a smaller canvas is no probe of the worst case"
    assert search(BASE, run=machine(0), records=records)[0] == []


def test_smaller_canvases_that_other_searches_left_do_not_stop_the_halving() -> None:
    # 1600 was the worst case of another search, seen in two processes.
    narrow = dataclasses.replace(BASE, worst_case_width=1600)
    foreign = [record_of(narrow, replicate=n, memory=reading_of(narrow, peak_bytes=9)) for n in (0, 1)]
    records, _ = search(BASE, run=machine(0), records=foreign)
    assert [record.spec.worst_case_width for record in records[2:]] == [6400, 3200]
    assert all(record.attempt == 0 for record in records)


def test_a_timed_trial_in_the_file_is_no_obstacle() -> None:
    records, _ = search(BASE, run=machine(0), records=[record_of(training_spec(batch_size=1))])
    assert len(records) == 5


def test_records_of_other_configurations_and_kinds_are_no_probes() -> None:
    foreign = [
        record_of(with_micro_batch(OTHER, 2)),
        record_of(training_spec(batch_size=2)),
        record_of(dataclasses.replace(BASE, memory_limit_bytes=2**30)),
        record_of(dataclasses.replace(BASE, soak="largest-first", sampler="random", soak_passes=((1, 32, 32),))),
    ]
    assert probes_of(BASE, foreign) == ()
