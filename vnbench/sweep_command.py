"""``vnbench sweep`` from what was asked to records, table and plots."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from vnbench.analysis.certification import Certificate, certify
from vnbench.analysis.summary import latest_attempts
from vnbench.config import SweepConfig, complete, default_out
from vnbench.corpus_command import CorpusPlan, plan_corpus, prepare_corpus
from vnbench.data.alignment import align
from vnbench.data.batching import plan_epoch
from vnbench.data.canvases import canvas_grid
from vnbench.data.plan import PlanConfig
from vnbench.data.subset import choose_subset
from vnbench.harness.design import Design, make_design
from vnbench.harness.device_loss import is_device_there
from vnbench.harness.estimate import Workload
from vnbench.harness.runner import probe_environment, run_trial
from vnbench.harness.sweep import DueTrial, due_trials, run_sweep
from vnbench.locks import gpu_lock
from vnbench.output.certification_table import certification_table
from vnbench.output.compute_table import compute_table
from vnbench.output.console import say, stderr_console, stdout_console
from vnbench.output.loader_table import loader_table
from vnbench.output.plots import draw_plots
from vnbench.output.progress import SweepProgress
from vnbench.output.sweep_lines import device_line, dry_run_lines, interrupted_line, plan_lines, result_lines
from vnbench.output.tables import summary_table
from vnbench.record import STATUSES, TrialRecord
from vnbench.request import Request
from vnbench.search_command import SearchReport, run_search_command
from vnbench.store import ResultsFile, load_results


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
    certificates: tuple[Certificate, ...] = ()
    """What the worst-case memory trials tell."""
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
            "certificates": [_as_json(certificate) for certificate in self.certificates],
        }


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
    out = config.out or default_out(environment)
    corpus = plan_corpus(config)
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
        except KeyboardInterrupt:
            say(console, interrupted_line(len(_of_design(design, results.records)), out=out))
            raise
        records = _of_design(design, results.records)

    plots, plots_left_out = draw_plots(records, out.with_suffix(""))
    not_started = [trial.planned.spec for trial in due[num_run:]]
    report = SweepReport(
        out=out,
        statuses=_statuses(records),
        num_not_started=len(not_started),
        left_out=design.left_out,
        plots=plots,
        elapsed_s=time.monotonic() - start,
        certificates=certify(records),
    )
    if not as_json:
        _print_tables(records, config, corpus)
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


def _print_tables(records: Sequence[TrialRecord], config: SweepConfig, corpus: CorpusPlan) -> None:
    stdout = stdout_console()
    if any(record.kind == "training" for record in records) or not records:
        stdout.print(summary_table(records, price_per_hour=config.price_per_hour))
    if config.kinds == ("memory",) or any(record.spec.soak is not None for record in records):
        stdout.print(certification_table(records))
    of_canvases = compute_table(
        records,
        price_per_hour=config.price_per_hour,
        passes=_padded_pixels_of_passes(records, config, corpus),
    )
    if of_canvases is not None:
        stdout.print(of_canvases)
    of_stages = loader_table(records, appetite=config.appetite_examples_per_s)
    if of_stages is not None:
        stdout.print(of_stages)


def _padded_pixels_of_passes(
    records: Sequence[TrialRecord], config: SweepConfig, corpus: CorpusPlan
) -> dict[int, tuple[int, ...]]:
    """Return the padded pixels of each pass of a bucketed epoch of all training examples, by micro-batch."""
    sizes_N2 = corpus.train_sizes_N2
    passes: dict[int, tuple[int, ...]] = {}
    for size in sorted({record.spec.micro_batch_size for record in records if record.kind == "compute"}):
        plan = plan_epoch(
            sizes_N2,
            PlanConfig(sampler="bucketed", batch_size=size, micro_batch_size=size, seed=config.seed),
            epoch=1,
        )
        passes[size] = tuple(plan.padded_pixels_M.tolist())
    return passes


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
            results.append(record)
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


def _as_json(certificate: Certificate) -> dict[str, Any]:
    spec = certificate.spec
    return {
        "spec_id": spec.spec_id,
        "family": spec.family,
        "sampler": spec.sampler,
        "soak": spec.soak,
        "status": certificate.status,
        "cause": certificate.cause.kind if certificate.cause else None,
        "need_bytes": certificate.need_bytes,
        "capacity_bytes": certificate.capacity_bytes,
        # A CPU's figures are no forecast for a GPU.
        "cards": None if spec.device == "cpu" else {f"{size}GiB": one for size, one in certificate.cards.items()},
    }


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
