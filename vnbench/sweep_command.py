"""``vnbench sweep`` from what was asked to records, table and plots."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from vnbench.analysis.summary import latest_attempts
from vnbench.config import Request, SweepConfig, complete, default_out
from vnbench.corpus_command import CorpusPlan, plan_corpus, prepare_corpus
from vnbench.data.batching import align
from vnbench.data.subset import choose_subset
from vnbench.harness.design import Design, make_design
from vnbench.harness.estimate import Workload, rough_trial_s
from vnbench.harness.runner import probe_environment, run_trial
from vnbench.harness.sweep import DueTrial, due_trials, run_sweep
from vnbench.locks import gpu_lock
from vnbench.output.plots import draw_plots
from vnbench.output.progress import SweepProgress, describe_trial
from vnbench.output.tables import summary_table
from vnbench.record import STATUSES, TrialRecord
from vnbench.store import ResultsFile, load_results
from vnbench.units import format_bytes, format_duration

TABLE_WIDTH = 120
"""Characters of the table where stdout is no terminal and tells no width."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepReport:
    """What a sweep left."""

    out: Path
    """Results file."""
    statuses: dict[str, int]
    """Number of trials of this design by status of their last attempt."""
    num_not_started: int
    """Trials that the time budget left unmeasured, or all that a dry run lists."""
    left_out: tuple[str, ...]
    """Combinations of the axes that were not turned into trials, with reasons."""
    plots: tuple[Path, ...]
    """Pictures drawn."""
    elapsed_s: float
    """Wall clock of the command."""
    is_dry_run: bool = False
    """Whether nothing was to be measured."""

    @property
    def exit_code(self) -> int:
        """0, or 3 where a sweep ended without one good measurement."""
        return 0 if self.is_dry_run or self.statuses.get("ok") else 3

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "out": str(self.out),
            "num_trials": sum(self.statuses.values()),
            "statuses": self.statuses,
            "elapsed_s": self.elapsed_s,
            "num_not_started": self.num_not_started,
            "left_out": list(self.left_out),
            "plots": [str(path) for path in self.plots],
        }


def run_sweep_command(request: Request, *, dry_run: bool, as_json: bool) -> SweepReport:
    """Run a sweep and tell of it: progress on stderr, the table on stdout unless it is kept for JSON.

    Everything that can be wrong with the input is looked at before anything is written.

    Raises:
        InputError: the input cannot be used.
        KeyboardInterrupt: the user ended it; what had finished is in the results file.
    """
    start = time.monotonic()
    console = Console(stderr=True)
    environment = probe_environment(request.device)
    config = complete(request, environment=environment)
    out = config.out or default_out(environment)
    corpus = plan_corpus(config)
    design = make_design(config, corpus_id=corpus.corpus_id, worst_case=corpus.worst_case)
    if dry_run:
        records = load_results(out).records if out.exists() else ()
        _tell_device(config, environment, console)
        return _dry_run(config, design, corpus, out, records=records, console=console, start=start)

    with gpu_lock(environment["device_uuid"]), ResultsFile(out, environment=environment) as results:
        _tell_device(config, environment, console)
        for note in results.notes:
            console.print(note, highlight=False, markup=False)
        due = due_trials(design.trials, records=results.records, retry=config.retry)
        _tell_plan(design, due, out, console)
        try:
            directory = prepare_corpus(corpus, console=console)
            deadline = None if config.time_budget_s is None else start + config.time_budget_s
            num_run = _run(config, due, results, directory, corpus, environment, console=console, deadline=deadline)
        except KeyboardInterrupt:
            finished = len(_of_design(design, results.records))
            console.print(
                f"interrupted: {finished} finished trials are in {out}; run the same command again to go on",
                highlight=False,
                markup=False,
            )
            raise
        records = _of_design(design, results.records)

    drawn, plots_left_out = draw_plots(records, out.with_suffix(""))
    report = SweepReport(
        out=out,
        statuses=_statuses(records),
        num_not_started=len(due) - num_run,
        left_out=design.left_out,
        plots=drawn,
        elapsed_s=time.monotonic() - start,
    )
    _tell_result(report, due[num_run:], plots_left_out, config, console)
    if not as_json:
        stdout = Console()
        if not stdout.is_terminal:
            stdout = Console(width=TABLE_WIDTH)
        stdout.print(summary_table(records))
    return report


def _run(
    config: SweepConfig,
    due: Sequence[DueTrial],
    results: ResultsFile,
    directory: Path,
    corpus: CorpusPlan,
    environment: dict[str, Any],
    *,
    console: Console,
    deadline: float | None,
) -> int:
    """Run the trials that are due, storing each as it ends; return how many got a record."""
    num_run = 0
    specs = [trial.planned.spec for trial in due]
    with SweepProgress(specs, workload=_workload(config, corpus), console=console) as progress:
        for record in run_sweep(
            due,
            records=results.records,
            run=lambda task: run_trial(task, environment=environment, timeout_s=config.trial_timeout_s),
            corpus_directory=str(directory),
            environment=environment,
            observer=progress,
            deadline=deadline,
        ):
            results.append(record)
            num_run += 1
    return num_run


def _dry_run(
    config: SweepConfig,
    design: Design,
    corpus: CorpusPlan,
    out: Path,
    *,
    records: Sequence[TrialRecord],
    console: Console,
    start: float,
) -> SweepReport:
    due = due_trials(design.trials, records=records, retry=config.retry)
    _tell_plan(design, due, out, console)
    workload = _workload(config, corpus)
    total_s = 0.0
    for number, trial in enumerate(due, start=1):
        spec = trial.planned.spec
        seconds = rough_trial_s(spec, workload)
        total_s += seconds
        console.print(
            f"[{number}/{len(due)}] {describe_trial(spec)}, about {format_duration(seconds)}",
            highlight=False,
            markup=False,
        )
    budget = f", at most {format_duration(config.time_budget_s)} of it" if config.time_budget_s else ""
    console.print(f"estimated time: {format_duration(total_s)}{budget} (a first guess, before any measurement)")
    console.print(f"corpus: {corpus.describe()}", highlight=False, markup=False)
    return SweepReport(
        out=out,
        statuses=_statuses(_of_design(design, records)),
        num_not_started=len(due),
        left_out=design.left_out,
        plots=(),
        elapsed_s=time.monotonic() - start,
        is_dry_run=True,
    )


def _of_design(design: Design, records: Sequence[TrialRecord]) -> tuple[TrialRecord, ...]:
    wanted = {(trial.spec.spec_id, trial.replicate) for trial in design.trials}
    return tuple(record for record in latest_attempts(records) if (record.spec_id, record.replicate) in wanted)


def _statuses(records: Sequence[TrialRecord]) -> dict[str, int]:
    counts = Counter(record.status for record in records)
    return {status: counts[status] for status in STATUSES if counts[status]}


def _workload(config: SweepConfig, corpus: CorpusPlan) -> Workload:
    chosen = corpus.train_sizes_N2[choose_subset(corpus.train_sizes_N2, subset_size=config.subset_size)]
    height, width = corpus.worst_case
    padded = [align(int(h)) * align(int(w)) for h, w in chosen]
    return Workload(mean_padded_pixels=float(np.mean(padded)), worst_case_pixels=align(height) * align(width))


def _tell_device(config: SweepConfig, environment: dict[str, Any], console: Console) -> None:
    memory = environment["device_memory_bytes"]
    size = f", {format_bytes(memory)}" if memory else ""
    name = f"{environment['device_name']}{size}, torch {environment['torch_version']}"
    if config.device == "cuda":
        console.print(f"device: {name}", highlight=False, markup=False)
        return
    console.print(
        f"device: CPU, {name}. These are CPU figures ({config.model}, {config.design}): "
        "they show how the levers work here, not what a GPU would do.",
        highlight=False,
        markup=False,
    )


def _tell_plan(design: Design, due: Sequence[DueTrial], out: Path, console: Console) -> None:
    done = len(design.trials) - len(due)
    already = f", {done} of them finished before" if done else ""
    console.print(
        f"{len(design.cells)} configurations in {len(design.trials)} trials{already}; records: {out}",
        highlight=False,
        markup=False,
    )
    for line in design.left_out:
        console.print(f"left out: {line}", highlight=False, markup=False)


def _tell_result(
    report: SweepReport,
    not_started: Sequence[DueTrial],
    plots_left_out: Sequence[str],
    config: SweepConfig,
    console: Console,
) -> None:
    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    if not_started:
        say(f"not measured within the time budget of {format_duration(config.time_budget_s or 0)}:")
        for trial in not_started:
            say(f"    {describe_trial(trial.planned.spec)}")
    for line in plots_left_out:
        say(f"plot left out: {line}")
    if report.plots:
        say(f"plots: {report.plots[0].parent}")
    say(f"records: {report.out}")
    say(f"next: {_next_command(report, not_started)}")


def _next_command(report: SweepReport, not_started: Sequence[DueTrial]) -> str:
    if not_started:
        return "the same command again, with a larger --time-budget, measures the rest"
    again = sorted(report.statuses.keys() & {"crashed", "timeout"})
    if again:
        return f"the same command with --retry {','.join(again)}"
    return f"vnbench plot {report.out} --out {report.out.with_suffix('')} draws the plots again"
