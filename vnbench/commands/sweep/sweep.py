"""``vnbench sweep`` from what was asked to records, table and plots."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from vnbench.analysis.findings import Findings
from vnbench.analysis.models.certification import certify
from vnbench.batching.canvases import canvas_grid
from vnbench.commands.corpus import CorpusPlan, plan_corpus
from vnbench.commands.sweep.confirm import confirm, parts_of
from vnbench.commands.sweep.probe import Settled, drawing_s, estimate_sweep, settle, workload_of
from vnbench.commands.sweep.report import SweepReport, find_missing_kinds, print_tables, training_rows
from vnbench.commands.sweep.run import SweepRun
from vnbench.commands.sweep.search import SearchReport, run_search_command
from vnbench.output.console import say, stderr_console, stdout_console
from vnbench.output.next_steps import next_steps
from vnbench.output.plots.figures import Drawn, Subject, draw_figures
from vnbench.output.progress import describe_trial
from vnbench.output.sweep_lines import device_line, dry_run_lines, interrupted_line, plan_lines, result_lines
from vnbench.output.words.commands import Options, network_of
from vnbench.processes.locks import gpu_lock
from vnbench.records.machine_keys import Environment
from vnbench.records.placement import Placement, place_results
from vnbench.records.record import STATUSES, TrialRecord
from vnbench.records.shard_file import ShardFile, trial_key
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.records.store import LoadedResults, ResultsFile, load_results
from vnbench.records.values.identity import digest
from vnbench.request.config import SweepConfig, complete
from vnbench.request.options import DRAWN_RUN_OPTIONS
from vnbench.request.reading import Request
from vnbench.request.results_folder import default_out
from vnbench.request.shard import Shard
from vnbench.sweep.budget import Budget
from vnbench.sweep.confirming import confirmations
from vnbench.sweep.design import Design, make_design, training_spec
from vnbench.sweep.estimate import TrialTimes
from vnbench.sweep.loop import due_trials
from vnbench.sweep.runner import check_own_models, probe_environment, run_trial


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
    place = _place(config, environment, corpus_id=corpus.corpus_id)
    out = place.path
    _say_all(console, (*corpus.notes, *place.notes))
    if config.find_max_batch:
        return run_search_command(
            config, corpus, environment=environment, out=out, dry_run=dry_run, as_json=as_json, console=console
        )
    design_of = designer(corpus, environment)
    check_own_models(trial.spec for trial in design_of(config).trials)
    if dry_run:
        # What a dry run tells is its output, unless the output is JSON.
        listing = console if as_json else stdout_console()
        return _show_plan(config, corpus, environment, out, design_of=design_of, console=listing, start=start)

    with gpu_lock(environment["device_uuid"]), ResultsFile(out, environment=environment) as results:
        _say_all(console, results.notes)
        say(console, device_line(config, environment))
        settled = _settle(config, corpus, environment, results, design_of=design_of, start=start)
        _say_all(console, settled.lines)
        config, design = settled.config, design_of(settled.config)
        due = due_trials(design.trials, records=results.records, retry=config.retry)
        times = TrialTimes(workload=workload_of(corpus), pace=settled.pace, finished=results.records)
        budget = Budget(total_s=config.time_budget_s, start=start)
        estimate = estimate_sweep(corpus, due, times, elapsed_s=budget.elapsed_s())
        story = plan_lines(design, config, num_due=len(due), out=out, estimate=estimate, budget_s=budget.total_s)
        _say_all(console, story)
        budget.check(estimate)
        if config.shard is not None:
            _share(config.shard, design, design_of(replace(config, shard=None))).write(out)
        if settled.is_new:
            results.append(settled.probe)
        sweep = SweepRun(config, corpus, environment, results, console=console, budget=budget, times=times)
        try:
            sweep.prepare(due)
            sweep.run(due)
            if config.design == "factored" and not sweep.not_started(due) and not sweep.is_ended_by_image:
                design, confirming = confirm(design, config, corpus, results=results, sweep=sweep, console=console)
                due = (*due, *confirming)
        except KeyboardInterrupt:
            say(console, interrupted_line(len(design.own(results.records)), out=out))
            raise
        records = design.own(results.records)

    centre = training_spec(design.cells[0], config, corpus.corpus_id, corpus.worst_case)
    forecasts = parts_of(config, corpus, records).forecast_all(records) if config.design == "factored" else ()
    if not as_json:
        print_tables(records, config, corpus.train_sizes_N2, forecasts, centre=centre)
    draws = not request.values.get("no-plots") and any(record.status == "ok" for record in records)
    drawn = _draw(records, out, options=request.texts) if draws else Drawn()
    not_started = sweep.not_started(due)
    unmeasured = _without_figures(not_started, records)
    report = SweepReport(
        out=out,
        statuses=_statuses(records),
        num_not_started=len(not_started),
        left_out=design.left_out,
        plots=drawn.files,
        elapsed_s=time.monotonic() - start,
        certificates=certify(records),
        confirmations=confirmations(records),
        estimated_s=estimate.total_s,
        promised_s=min(estimate.total_s, budget.total_s or math.inf),
        missing_kinds=find_missing_kinds(config.kinds, records, planned={trial.spec.kind for trial in design.trials}),
        is_ended_by_image=sweep.is_ended_by_image,
        rows=training_rows(records, centre=centre),
    )
    lines = result_lines(
        out=out,
        missing_kinds=report.missing_kinds,
        not_started=unmeasured,
        time_budget_s=config.time_budget_s,
        plots=drawn.files,
        plots_left_out=drawn.left_out,
    )
    steps = next_steps(
        records,
        centre=centre,
        out=out,
        statuses=report.statuses,
        is_ended_by_image=report.is_ended_by_image,
        num_unmeasured=len(unmeasured),
        num_repetitions=sum(spec not in unmeasured for spec in not_started),
        replicates=config.replicates,
        kinds=config.kinds,
        options=request.texts,
        run=_run_to_plan(corpus, results.records, centre=centre),
        stuck_in_s=config.time_budget_s if len(not_started) == len(due) else None,
    )
    _say_all(console, (*lines, *steps))
    return report


def _share(shard: Shard, design: Design, whole: Design) -> ShardFile:
    """Return what a share of a sweep is to measure."""
    return ShardFile(
        number=shard.number,
        count=shard.count,
        design=digest([trial_key(trial.spec.spec_id, trial.replicate) for trial in whole.trials]),
        trials={trial_key(trial.spec.spec_id, trial.replicate): describe_trial(trial.spec) for trial in design.trials},
    )


def _place(config: SweepConfig, environment: Environment, *, corpus_id: str) -> Placement:
    """Return where the records go.

    A network of a user's own has a file of its own, unless an earlier sweep put its records into the presets' file.
    """
    place = place_results(
        config.out or default_out(environment, corpus_id=corpus_id, shard=config.shard),
        environment=environment,
        corpus_id=corpus_id,
    )
    if config.out is not None or config.model_id is None:
        return place
    known = load_results(place.path).records if place.path.is_file() else ()
    if any(record.spec.model_id == config.model_id for record in known):
        return place
    own = default_out(environment, corpus_id=corpus_id, own_model=config.model, shard=config.shard)
    return place_results(own, environment=environment, corpus_id=corpus_id)


def designer(corpus: CorpusPlan, environment: Environment) -> Callable[[SweepConfig], Design]:
    """Return what makes the design of a sweep on some images and a machine."""

    def design_of(config: SweepConfig) -> Design:
        return make_design(
            config,
            corpus_id=corpus.corpus_id,
            train_sizes_N2=corpus.train_sizes_N2,
            worst_case=corpus.worst_case,
            canvas_sizes=canvas_grid(
                smallest=corpus.smallest, largest=corpus.worst_case, count=config.num_compute_sizes
            ),
            shared_memory_bytes=environment.get("shared_memory_free_bytes"),
        )

    return design_of


def _settle(
    config: SweepConfig,
    corpus: CorpusPlan,
    environment: Environment,
    results: ResultsFile | LoadedResults | None,
    *,
    design_of: Callable[[SweepConfig], Design],
    start: float,
) -> Settled:
    return settle(
        config,
        corpus,
        probes=results.probes if results else (),
        records=results.records if results else (),
        elapsed_s=time.monotonic() - start,
        design_of=design_of,
        run=lambda task, timeout_s: run_trial(task, environment=environment, timeout_s=timeout_s),
    )


def _run_to_plan(corpus: CorpusPlan, records: Sequence[TrialRecord], *, centre: TrialSpec) -> Options:
    """Return the options of a run on the images of a sweep, of the published length where they are synthetic."""
    run = {name: DRAWN_RUN_OPTIONS[name].default_on("") for name in ("examples", "epochs", "window")}
    if corpus.spec is None:
        run["examples"] = str(len(corpus.train_sizes_N2))
    networks = {network_of(record.spec) for record in records}
    return run if len(networks) <= 1 else {**run, "model": network_of(centre)}


def _show_plan(
    config: SweepConfig,
    corpus: CorpusPlan,
    environment: Environment,
    out: Path,
    *,
    design_of: Callable[[SweepConfig], Design],
    console: Console,
    start: float,
) -> SweepReport:
    """Say what a sweep would do; write nothing."""
    loaded = load_results(out) if out.exists() else None
    records = loaded.records if loaded else ()
    say(console, device_line(config, environment))
    settled = _settle(config, corpus, environment, loaded, design_of=design_of, start=start)
    _say_all(console, settled.lines)
    config, design = settled.config, design_of(settled.config)
    due = due_trials(design.trials, records=records, retry=config.retry)
    times = TrialTimes(workload=workload_of(corpus), pace=settled.pace, finished=records)
    budget = Budget(total_s=config.time_budget_s, start=start)
    estimate = estimate_sweep(corpus, due, times, elapsed_s=budget.elapsed_s())
    story = plan_lines(design, config, num_due=len(due), out=out, estimate=estimate, budget_s=budget.total_s)
    _say_all(console, story)
    specs = [trial.planned.spec for trial in due]
    _say_all(console, dry_run_lines(specs, times=times, left_s=budget.left_s() - drawing_s(corpus, specs)))
    say(console, f"corpus: {corpus.describe(corpus.measured_examples(specs))}")
    return SweepReport(
        out=out,
        statuses=_statuses(design.own(records)),
        num_not_started=len(due),
        left_out=design.left_out,
        plots=(),
        elapsed_s=time.monotonic() - start,
        estimated_s=estimate.total_s,
        is_dry_run=True,
    )


def _draw(records: Sequence[TrialRecord], out: Path, *, options: Options) -> Drawn:
    """Draw what records hold beside their file: what was measured does not hang on whether pictures can be written."""
    folder = out.with_suffix("") if out.suffix else out.with_name(f"{out.name}_plots")
    return draw_figures(Subject(found=Findings(records)), folder, options=options, is_needed=False)


def _say_all(console: Console, lines: Iterable[str]) -> None:
    for line in lines:
        say(console, line)


def _without_figures(specs: Sequence[TrialSpec], records: Sequence[TrialRecord]) -> list[TrialSpec]:
    """Return the specs of which no process has a record, each once."""
    known = {record.spec_id for record in records}
    return [spec for spec in dict.fromkeys(specs) if spec.spec_id not in known]


def _statuses(records: Sequence[TrialRecord]) -> dict[str, int]:
    counts = Counter(record.status for record in records)
    return {status: counts[status] for status in STATUSES if counts[status]}
