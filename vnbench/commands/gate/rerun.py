"""``vnbench gate --rerun``: what sweeps leave in doubt is measured again, both sides in turn, until it is decided.

In doubt are rows that are ambiguous, and times that look worse: of sweeps that were not measured in turn, one may have
met a slower hour of the machine.

Looking again and again finds a slowdown in anything, unless each look is given less of the error rate: look k, the
first one being 1, has FAMILY_ERROR / 2^k, so that all of them together stay below FAMILY_ERROR however many there are.
Rows that were measured again are judged by the new processes alone, since only those ran in turn.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console

from vnbench.analysis.comparison.compare import Comparison
from vnbench.analysis.comparison.identity import aligned
from vnbench.analysis.comparison.ratios import FAMILY_ERROR
from vnbench.analysis.comparison.rows import ALL_ROWS, Verdict
from vnbench.analysis.comparison.sides import Side, side_of
from vnbench.batching.sizes import SizeArray
from vnbench.commands.gate.gate import GateOptions, compare_with
from vnbench.commands.gate.worker import Worker
from vnbench.errors import InputError, VnbenchError
from vnbench.images.cache_root import cache_roots
from vnbench.images.corpus import load_corpus
from vnbench.output.console import say
from vnbench.output.gate.words import headline
from vnbench.output.progress import SweepProgress
from vnbench.records.placement import place_results
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import ImagesSpec, MemorySpec, TrialSpec
from vnbench.records.store import ResultsFile
from vnbench.records.task import TrialTask
from vnbench.sweep.estimate import Pace, TrialTimes, Workload
from vnbench.sweep.in_turn import planned_turns, run_in_turn
from vnbench.units import count, format_duration

FIRST_PROCESSES = 4
"""Processes a side of the first look after the records that were given; each further look has twice as many in all."""

SIDES = ("baseline", "candidate")

AMBIGUOUS: tuple[Verdict, ...] = ("ambiguous",)
IN_DOUBT: tuple[Verdict, ...] = ("ambiguous", "worse")
"""Verdicts on times that are measured again after sweeps that were not measured in turn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RerunOptions:
    """How to measure again."""

    workers: tuple[Worker, Worker]
    """Processes of the baseline's checkout and of the candidate's."""
    out: Path
    """Folder for the new records, one results file a side."""
    time_cap_s: float
    """No pair of trials is begun after so many seconds."""
    trial_timeout_s: float
    """Time limit of a trial."""
    corpus: Path | None
    """The image files; None to look for them where sweeps keep theirs."""


def rerun(
    sides: tuple[Side, Side], *, options: GateOptions, how: RerunOptions, console: Console
) -> tuple[Comparison, tuple[Side, Side]]:
    """Measure again what is in doubt until nothing is, something is worse in turn, or the time is up.

    Raises:
        InputError: a results file of an earlier rerun cannot be gone on with, or the image files are not there.
        VnbenchError: a checkout does not run.
    """
    start = time.monotonic()
    look = 1
    comparison = compare_with(options, *sides, family_error=FAMILY_ERROR / 2)
    specs = _due_specs(comparison, verdicts=IN_DOUBT)
    if any(row.verdict == "worse" and row.metric != "time" for row in comparison.rows) or not specs:
        return comparison, sides
    corpus_directory = _corpus_directory(specs, how.corpus)
    edited = _edited(*sides)
    files = _open_files(how, device=specs[0].device, console=console)
    try:
        while specs and time.monotonic() - start < how.time_cap_s:
            look += 1
            num_processes = FIRST_PROCESSES if look == 2 else FIRST_PROCESSES * 2 ** (look - 3)
            say(
                console,
                f"look {look}: {count(len(specs), 'configuration')} again, {count(num_processes, 'more process')} a "
                f"side, in turn; {format_duration(max(1.0, how.time_cap_s - (time.monotonic() - start)))} left",
            )
            turns = [
                (side, edited.get(spec, spec) if side else spec)
                for side, spec in planned_turns(specs, num_processes=num_processes, seed=look)
            ]
            _measure(turns, files, how, corpus_directory, start_s=start, console=console)
            sides = (_with_new(sides[0], files[0].records), _with_new(sides[1], files[1].records))
            again = compare_with(replace(options, sweep_spread=0.0), *sides, family_error=FAMILY_ERROR / 2**look)
            comparison = _merged(comparison, again, measured={spec.spec_id for spec in specs})
            say(console, headline(comparison))
            specs = () if comparison.outcome == "regression" else _due_specs(comparison, verdicts=AMBIGUOUS)
    finally:
        for file in files:
            file.close()
    return comparison, sides


def _measure(
    turns: Sequence[tuple[int, TrialSpec]],
    files: tuple[ResultsFile, ResultsFile],
    how: RerunOptions,
    corpus_directory: Path | None,
    *,
    start_s: float,
    console: Console,
) -> None:
    specs = [spec for _, spec in turns]

    def run(side: int, task: TrialTask) -> TrialRecord:
        progress.started(task.spec, 1)
        return how.workers[side].run(task, timeout_s=how.trial_timeout_s)

    times = TrialTimes(workload=_workload(specs, corpus_directory), pace=Pace.rough(specs[0]))
    with SweepProgress(specs, times=times, console=console, is_ranked=False) as progress:
        for side, record in run_in_turn(
            turns,
            run=run,
            first_replicates=[_next_replicates(file.records) for file in files],
            corpus_directory=None if corpus_directory is None else str(corpus_directory),
            is_time_left=lambda: time.monotonic() - start_s < how.time_cap_s,
        ):
            files[side].append(record)
            progress.finished(record)


def _workload(specs: Sequence[TrialSpec], corpus_directory: Path | None) -> Workload:
    """Return what the images weigh, those of memory trials where there are any."""
    sizes_N2: SizeArray = np.zeros((0, 2), dtype=np.int64)
    if corpus_directory is not None:
        corpus = load_corpus(corpus_directory, is_partial=True)
        sizes_N2 = corpus.sizes_N2[corpus.train_indices]
    worst_case = max(
        ((spec.worst_case_height, spec.worst_case_width) for spec in specs if isinstance(spec, MemorySpec)),
        key=math.prod,
        default=(0, 0),
    )
    return Workload(train_sizes_N2=sizes_N2, worst_case=worst_case)


def _due_specs(comparison: Comparison, *, verdicts: Collection[Verdict]) -> tuple[TrialSpec, ...]:
    """Return the configurations whose time has one of some verdicts; all that have a time where their mean has."""
    timed = [row for row in comparison.rows if row.metric == "time" and row.spec is not None]
    is_mean_due = any(row.verdict in verdicts for row in comparison.rows if row.spec_id == ALL_ROWS)
    return tuple(row.spec for row in timed if row.spec is not None and (is_mean_due or row.verdict in verdicts))


def _edited(baseline: Side, candidate: Side) -> Mapping[TrialSpec, TrialSpec]:
    """Return the candidate's spec for each spec of the baseline: another one where a user's own network changed."""
    return {
        before.spec: after.spec
        for identity, after in aligned(baseline, candidate)[0].configurations.items()
        if after.spec is not None
        and (before := baseline.configurations.get(identity)) is not None
        and before.spec is not None
    }


def _with_new(side: Side, records: Sequence[TrialRecord]) -> Side:
    """Return a side in which what was measured again stands for what it had before.

    Its keys are those of both: a checkout with another torch than its side's records makes it incomparable by name.
    Records of configurations that it does not have are of another text of a user's own network, and are left out.
    """
    new = side_of([record for record in records if record.spec_id in side.configurations])
    keys = {
        key: tuple(sorted({*side.keys.get(key, ()), *new.keys.get(key, ())}))
        for key in side.keys.keys() | new.keys.keys()
    }
    return replace(
        side,
        keys=keys,
        configurations=dict(side.configurations) | dict(new.configurations),
        notes=tuple(dict.fromkeys((*side.notes, *new.notes))),
    )


def _merged(before: Comparison, again: Comparison, *, measured: set[str]) -> Comparison:
    """Return the rows of a new look for what it measured and for the mean, and those that were decided before."""
    if again.differing:
        return again
    known = {(row.spec_id, row.metric): row for row in before.rows}
    return replace(
        again,
        is_in_turn=True,
        rows=tuple(
            row if row.spec_id in measured or row.spec_id == ALL_ROWS else known.get((row.spec_id, row.metric), row)
            for row in again.rows
        ),
    )


def _open_files(how: RerunOptions, *, device: str, console: Console) -> tuple[ResultsFile, ResultsFile]:
    files: list[ResultsFile] = []
    try:
        for name, worker in zip(SIDES, how.workers, strict=True):
            environment = worker.environment(device)
            place = place_results(how.out / f"{name}.jsonl", environment=environment)
            for note in place.notes:
                say(console, note)
            files.append(ResultsFile(place.path, environment=environment, where="--rerun-out"))
    except VnbenchError:
        for file in files:
            file.close()
        raise
    return files[0], files[1]


def _next_replicates(records: Sequence[TrialRecord]) -> dict[str, int]:
    found: dict[str, int] = {}
    for record in records:
        found[record.spec_id] = max(found.get(record.spec_id, 0), record.replicate + 1)
    return found


def _corpus_directory(specs: Sequence[TrialSpec], given: Path | None) -> Path | None:
    """Return the folder of the image files that some specs name; None where they need none."""
    wanted = {spec.corpus_id for spec in specs if isinstance(spec, ImagesSpec)}
    if not wanted:
        return None
    roots = cache_roots()
    kept = [directory for root in roots if root.is_dir() for directory in sorted(root.iterdir())]
    candidates = [given] if given is not None else kept
    for directory in candidates:
        try:
            corpus_id = load_corpus(directory, is_partial=True).corpus_id
        except InputError:
            continue
        if wanted == {corpus_id}:
            return directory
    raise InputError(
        "--corpus",
        given if given is not None else "",
        allowed=f"the images of corpus {', '.join(sorted(wanted))} are not {'there' if given else f'in {roots[0]}'}",
        remedy="name their folder with --corpus DIR, or run the sweep once, which writes them",
    )
