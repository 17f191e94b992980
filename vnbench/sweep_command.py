"""``vnbench sweep`` from what was asked to records, table and plots."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from vnbench.analysis.certification import certify
from vnbench.analysis.findings import Findings
from vnbench.analysis.summary import latest_attempts
from vnbench.config import SweepConfig, complete
from vnbench.corpus_command import CorpusPlan, plan_corpus, prepare_corpus
from vnbench.data.alignment import align
from vnbench.data.canvases import canvas_grid
from vnbench.data.subset import choose_subset
from vnbench.defaults import default_out
from vnbench.harness.design import Design, make_design
from vnbench.harness.device_loss import is_device_there
from vnbench.harness.estimate import Workload
from vnbench.harness.factored import (
    CellForecast,
    choose_confirmations,
    confirmations,
    confirming_trials,
    forecast_cells,
)
from vnbench.harness.runner import check_own_models, probe_environment, run_trial
from vnbench.harness.sweep import DueTrial, due_trials, run_sweep
from vnbench.locks import gpu_lock
from vnbench.output.console import say, stderr_console
from vnbench.output.plots import draw_plots
from vnbench.output.progress import SweepProgress
from vnbench.output.sweep_lines import device_line, dry_run_lines, interrupted_line, plan_lines, result_lines
from vnbench.placement import place_results
from vnbench.readings import ForecastReading
from vnbench.record import STATUSES, TrialRecord
from vnbench.request import Request
from vnbench.search_command import SearchReport, run_search_command
from vnbench.spec import TrialSpec
from vnbench.store import ResultsFile, load_results
from vnbench.sweep_report import SweepReport, print_tables


def run_sweep_command(request: Request, *, dry_run: bool, as_json: bool) -> SweepReport | SearchReport:
    """Run a sweep and tell of it: progress on stderr, the table on stdout unless it is kept for JSON.

    Everything that can be wrong with the input is looked at before anything is written.

    Raises:
        InputError: the input cannot be used.
        KeyboardInterrupt: the user ended it; what had finished is in the results file.
    """
    start = time.monotonic()
    console = stderr_console()
    environment = probe_environment(request.device)
    config = complete(request, environment=environment)
    corpus = plan_corpus(config)
    place = place_results(
        config.out or default_out(environment, corpus_id=corpus.corpus_id),
        environment=environment,
        corpus_id=corpus.corpus_id,
    )
    out = place.path
    _say_all(console, place.notes)
    if config.find_max_batch:
        return run_search_command(
            config, corpus, environment=environment, out=out, dry_run=dry_run, as_json=as_json, console=console
        )
    canvas_sizes = canvas_grid(smallest=corpus.smallest, largest=corpus.worst_case, count=config.num_compute_sizes)
    design = make_design(
        config,
        corpus_id=corpus.corpus_id,
        train_sizes_N2=corpus.train_sizes_N2,
        worst_case=corpus.worst_case,
        canvas_sizes=canvas_sizes,
        shared_memory_bytes=environment.get("shared_memory_free_bytes"),
    )
    check_own_models(trial.spec for trial in design.trials)
    if dry_run:
        return _show_plan(config, design, corpus, environment, out, console=console, start=start)

    with gpu_lock(environment["device_uuid"]), ResultsFile(out, environment=environment) as results:
        due = due_trials(design.trials, records=results.records, retry=config.retry)
        _say_all(console, results.notes)
        say(console, device_line(config, environment))
        _say_all(console, plan_lines(design, num_due=len(due), out=out))
        deadline = None if config.time_budget_s is None else start + config.time_budget_s
        try:
            directory = prepare_corpus(corpus, console=console)
            num_run = _run(config, due, results, directory, corpus, environment, console=console, deadline=deadline)
            if config.design == "factored" and num_run == len(due):
                parts = frozenset(design.trials)
                chosen, design = _with_confirmations(design, config, corpus, results.records)
                confirming = [trial for trial in design.trials if trial not in parts]
                rest = due_trials(confirming, records=results.records, retry=config.retry)
                say(console, f"{len(chosen)} forecasts to confirm, {len(rest)} trials")
                due = (*due, *rest)
                num_run += _run(
                    config,
                    rest,
                    results,
                    directory,
                    corpus,
                    environment,
                    console=console,
                    deadline=deadline,
                    forecasts={one.spec: one.epoch for one in chosen},
                )
        except KeyboardInterrupt:
            say(console, interrupted_line(len(_of_design(design, results.records)), out=out))
            raise
        records = _of_design(design, results.records)

    is_any_measured = any(record.status == "ok" for record in records)
    plots, plots_left_out = draw_plots(Findings(records), out.with_suffix("")) if is_any_measured else ((), ())
    not_started = [trial.planned.spec for trial in due[num_run:]]
    report = SweepReport(
        out=out,
        statuses=_statuses(records),
        num_not_started=len(not_started),
        left_out=design.left_out,
        plots=plots,
        elapsed_s=time.monotonic() - start,
        certificates=certify(records),
        confirmations=confirmations(records),
    )
    forecasts = _forecasts(config, corpus, records) if config.design == "factored" else ()
    if not as_json:
        print_tables(records, config, corpus.train_sizes_N2, forecasts)
    lines = result_lines(
        out=out,
        statuses=report.statuses,
        not_started=not_started,
        time_budget_s=config.time_budget_s,
        replicates=config.replicates,
        kinds=config.kinds,
        plots=plots,
        plots_left_out=plots_left_out,
    )
    _say_all(console, lines)
    return report


def _forecasts(config: SweepConfig, corpus: CorpusPlan, records: Sequence[TrialRecord]) -> tuple[CellForecast, ...]:
    return forecast_cells(
        config,
        latest_attempts(records),
        corpus_id=corpus.corpus_id,
        worst_case=corpus.worst_case,
        sizes_N2=corpus.train_sizes_N2,
    )


def _with_confirmations(
    design: Design, config: SweepConfig, corpus: CorpusPlan, records: Sequence[TrialRecord]
) -> tuple[tuple[CellForecast, ...], Design]:
    """Return the forecasts to confirm, and the design with the trials that do so."""
    chosen = choose_confirmations(_forecasts(config, corpus, _of_design(design, records)), records, seed=config.seed)
    known = set(design.trials)
    trials = confirming_trials(chosen, config, worst_case=corpus.worst_case)
    return chosen, replace(design, trials=(*design.trials, *(trial for trial in trials if trial not in known)))


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
    forecasts: Mapping[TrialSpec, ForecastReading] | None = None,
) -> int:
    """Run the trials that are due, storing each as it ends with its forecast; return how many got a record."""
    run: set[tuple[str, int]] = set()
    specs = [trial.planned.spec for trial in due]
    with SweepProgress(specs, workload=_workload(config, corpus), console=console) as progress:
        for record in run_sweep(
            due,
            records=results.records,
            run=lambda task: run_trial(
                replace(task, worker_timeout_s=config.worker_timeout_s),
                environment=environment,
                timeout_s=config.trial_timeout_s,
            ),
            corpus_directory=str(directory),
            environment=environment,
            observer=progress,
            max_attempts=config.max_attempts,
            is_device_there=lambda: is_device_there(environment),
            deadline=deadline,
        ):
            results.append(replace(record, forecast=(forecasts or {}).get(record.spec)))
            run.add((record.spec_id, record.replicate))
    return len(run)


def _show_plan(
    config: SweepConfig,
    design: Design,
    corpus: CorpusPlan,
    environment: dict[str, Any],
    out: Path,
    *,
    console: Console,
    start: float,
) -> SweepReport:
    """Say what a sweep would do; write nothing."""
    records = load_results(out).records if out.exists() else ()
    due = [trial.planned.spec for trial in due_trials(design.trials, records=records, retry=config.retry)]
    say(console, device_line(config, environment))
    _say_all(console, plan_lines(design, num_due=len(due), out=out))
    workload = _workload(config, corpus)
    _say_all(console, dry_run_lines(due, workload=workload, time_budget_s=config.time_budget_s))
    say(console, f"corpus: {corpus.describe()}")
    return SweepReport(
        out=out,
        statuses=_statuses(_of_design(design, records)),
        num_not_started=len(due),
        left_out=design.left_out,
        plots=(),
        elapsed_s=time.monotonic() - start,
        is_dry_run=True,
    )


def _say_all(console: Console, lines: Iterable[str]) -> None:
    for line in lines:
        say(console, line)


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
