"""``vnbench sweep --find-max-batch``: the largest micro-batch of the worst case, by configuration."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from vnbench.analysis.models.max_batch import MaxBatchSummary, summarize_search
from vnbench.analysis.trials.memory_law import CARD_SIZES_GIB
from vnbench.batching.plan import BUDGETED_SAMPLER
from vnbench.commands.corpus import CorpusPlan
from vnbench.errors import InputError
from vnbench.output.console import say, stdout_console
from vnbench.output.progress import describe_trial
from vnbench.output.search_progress import SearchProgress
from vnbench.output.sweep_lines import device_line, interrupted_line
from vnbench.output.tables.max_batch import max_batch_table
from vnbench.output.words.levers import describe
from vnbench.processes.locks import gpu_lock
from vnbench.records.machine_keys import Environment
from vnbench.records.record import STATUSES, TrialRecord
from vnbench.records.spec.trial_spec import MemorySpec
from vnbench.records.spec.words import MAX_BATCH_SIZE, SamplerName
from vnbench.records.store import ResultsFile
from vnbench.records.task import TrialTask
from vnbench.request.config import SweepConfig
from vnbench.sweep.budget import Budget
from vnbench.sweep.design import make_design
from vnbench.sweep.estimate import Pace, TrialTimes, Workload
from vnbench.sweep.loop import BudgetSpentError
from vnbench.sweep.runner import check_own_models, run_trial
from vnbench.sweep.search import (
    is_at_its_end,
    probes_of,
    search_max_batches,
    smaller_probes_of,
    with_micro_batch,
)
from vnbench.units import BYTES_PER_UNIT, count, format_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchReport:
    """What a search did."""

    out: Path
    """Results file."""
    statuses: dict[str, int]
    """Number of probes by status."""
    searches: tuple[MaxBatchSummary, ...]
    """What was found, by configuration."""
    elapsed_s: float
    """Wall clock."""
    num_not_started: int = 0
    """Configurations whose search has probes left."""
    is_dry_run: bool = False
    """Whether nothing was meant to run."""

    @property
    def exit_code(self) -> int:
        """0, or 3 where no configuration fits or nothing ran."""
        return 0 if self.is_dry_run or any(search.found.largest for search in self.searches) else 3

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "out": str(self.out),
            "num_trials": sum(self.statuses.values()),
            "statuses": self.statuses,
            "elapsed_s": self.elapsed_s,
            "num_not_started": self.num_not_started,
            "max_batches": [_as_json(search) for search in self.searches],
        }


def run_search_command(
    config: SweepConfig,
    corpus: CorpusPlan,
    *,
    environment: Environment,
    out: Path,
    dry_run: bool,
    as_json: bool,
    console: Console,
) -> SearchReport:
    """Search for the largest micro-batch of every precision, norm precision and checkpointing, and tell of it.

    Raises:
        InputError: the axes leave nothing to search, or the results file cannot be used.
        KeyboardInterrupt: the user ended it; what had finished is in the results file.
    """
    start = time.monotonic()
    bases = bases_of(config, corpus)
    check_own_models(bases)
    # What a dry run tells is its output, unless the output is JSON.
    listing = stdout_console() if dry_run and not as_json else console
    say(listing, device_line(config, environment))
    say(listing, f"searching: the largest micro-batch that fits, in {count(len(bases), 'configuration')}")
    say(listing, f"records: {out}")
    if dry_run:
        for base in bases:
            say(listing, f"    from {describe_trial(base)}")
        return SearchReport(out=out, statuses={}, searches=(), elapsed_s=time.monotonic() - start, is_dry_run=True)

    budget = Budget(total_s=config.time_budget_s, start=start)
    with gpu_lock(environment["device_uuid"]), ResultsFile(out, environment=environment) as results:
        for note in results.notes:
            say(console, note)
        times = TrialTimes(
            workload=Workload(train_sizes_N2=corpus.train_sizes_N2, worst_case=corpus.worst_case),
            pace=Pace.rough(bases[0]),
            finished=results.records,
        )
        probes = search_max_batches(
            bases,
            records=results.records,
            run=lambda task: _run_probe(task, environment, budget, timeout_s=config.trial_timeout_s),
            observer=SearchProgress(num_configurations=len(bases), most=MAX_BATCH_SIZE, console=console),
            most=MAX_BATCH_SIZE,
            retry=config.retry,
            takes_s=times.of,
            deadline=budget.deadline,
        )
        try:
            for record in probes:
                results.append(replace(record, images=config.images))
                times.learn(record)
        except BudgetSpentError:
            say(console, "the time budget ended the last probe: the next search runs it again")
        except KeyboardInterrupt:
            say(console, interrupted_line(sum(len(probes_of(base, results.records)) for base in bases), out=out))
            raise
        records = tuple(results.records)
    sampler = _whole_batch_sampler(config)
    searches = tuple(
        summarize_search(
            base,
            own,
            train_sizes_N2=corpus.train_sizes_N2,
            sampler=sampler,
            smaller=smaller_probes_of(base, records),
        )
        for base in bases
        if (own := probes_of(base, records))
    )
    if searches and not as_json:
        stdout_console().print(max_batch_table(searches))
    if searches and not any(search.found.largest for search in searches):
        say(console, _least_need(searches))
    num_not_started = sum(not is_at_its_end(base, records, most=MAX_BATCH_SIZE) for base in bases)
    if num_not_started:
        say(console, "next: the same command again continues the search; the time budget starts again")
    say(console, f"records: {out}")
    return SearchReport(
        out=out,
        statuses=_statuses(bases, records),
        searches=searches,
        elapsed_s=time.monotonic() - start,
        num_not_started=num_not_started,
    )


def _run_probe(task: TrialTask, environment: Environment, budget: Budget, *, timeout_s: float) -> TrialRecord:
    """Return the record of a probe.

    Raises:
        BudgetSpentError: the time budget ended it, which says nothing of the memory that it would have taken.
    """
    longest_s = budget.longest_s()
    record = run_trial(task, environment=environment, timeout_s=min(timeout_s, longest_s))
    if record.status == "timeout" and longest_s < timeout_s:
        raise BudgetSpentError
    return record


def bases_of(config: SweepConfig, corpus: CorpusPlan) -> list[MemorySpec]:
    """Return the memory spec of one example of each configuration that memory depends on."""
    axes = {
        **config.axes,
        "batch_size": (1,),
        "micro_batch_size": (None,),
        **{name: config.axes[name][:1] for name in ("sampler", "num_workers", "shapes")},
    }
    design = make_design(
        replace(config, axes=axes, center={}, design="full", kinds=("memory",), soak=("none",), memory_by="step"),
        corpus_id=corpus.corpus_id,
        train_sizes_N2=corpus.train_sizes_N2,
        worst_case=corpus.worst_case,
        canvas_sizes=(),
    )
    specs = [trial.spec for trial in design.trials if isinstance(trial.spec, MemorySpec)]
    bases = list(dict.fromkeys(with_micro_batch(spec, 1) for spec in specs))
    if not bases:
        raise InputError(
            "--compile", allowed="the memory of compiled code is not counted on the CPU", remedy="write --compile none"
        )
    return bases


def _least_need(searches: Sequence[MaxBatchSummary]) -> str:
    """Return the smallest memory that would do, and the configuration that gets there."""
    known = [(search.need_bytes, search) for search in searches if search.need_bytes is not None]
    if not known:
        return "no configuration fits, and too few smaller images do to forecast the need; try a larger --memory-limit"
    need_bytes, search = min(known, key=lambda pair: pair[0])
    levers = describe(search.spec, names=("precision", "norm_precision", "checkpointing"))
    need = f"about {format_bytes(need_bytes)} of tensors, as a forecast"
    return f"no configuration fits; {levers} needs the least memory: {need}"


def _whole_batch_sampler(config: SweepConfig) -> SamplerName:
    """Return the sampler that the steps of a mean-size plan are made with: the sweep's own, unless it has a budget."""
    return next((name for name in config.axes["sampler"] if name != BUDGETED_SAMPLER), "bucketed")


def _statuses(bases: Sequence[MemorySpec], records: Sequence[TrialRecord]) -> dict[str, int]:
    counts = Counter(record.status for base in bases for record in probes_of(base, records))
    return {status: counts[status] for status in STATUSES if counts[status]}


def _as_json(search: MaxBatchSummary) -> dict[str, Any]:
    found, law, blocker = search.found, search.law, search.found.blocker
    mean = search.by_mean_size
    return {
        "family": search.spec.lever_key,
        "spec": search.spec.canonical(),
        "largest_micro_batch": found.largest,
        "is_exact": found.is_exact,
        "is_confirmed": found.is_confirmed,
        "num_probes": found.num_probes,
        "peak_bytes": search.peak_bytes,
        "capacity_bytes": search.capacity_bytes,
        "ran_out_ratio": search.ran_out_ratio,
        "need_bytes": search.need_bytes,
        "blocker": None
        if blocker is None
        else {
            "micro_batch_size": blocker.spec.micro_batch_size,
            "status": blocker.status,
            "cause": blocker.cause.kind if blocker.cause else None,
        },
        "law": None
        if law is None
        else {
            "bytes_fixed": law.bytes_fixed,
            "bytes_per_pixel": law.bytes_per_pixel,
            "loo_error_median": law.loo_error_median,
            "loo_error_max": law.loo_error_max,
        },
        "outside_bytes": search.outside_bytes,
        "cards": {f"{size}GiB": search.on_card(size * BYTES_PER_UNIT["GiB"]) for size in CARD_SIZES_GIB},
        "by_mean_size": None
        if mean is None
        else {"micro_batch_size": mean.micro_batch_size, "failing_steps_ratio": mean.failing_steps_ratio},
    }
