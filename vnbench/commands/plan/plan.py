"""``vnbench plan``: what a run will take, in which configuration, and what to change, from measured records."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vnbench.analysis.findings import Findings
from vnbench.analysis.models.fit import why_unfitted
from vnbench.analysis.planning.capacity import (
    CHEAPEST_FIRST,
    Asked,
    PlannedRun,
    recommend,
    single_changes,
)
from vnbench.analysis.planning.configurations import PLANNED_SAMPLERS, Measured, compose_configurations
from vnbench.analysis.planning.run_planning import plan_runs, worker_changes
from vnbench.analysis.planning.spread import shares_of
from vnbench.analysis.trials.process import why_not_timed
from vnbench.commands.plan.answer import MEMORY, PlanReport, plan_warnings
from vnbench.commands.plan.asked import asked_of, plan_values
from vnbench.commands.plan.on_card import forecasts_for, on_one_card
from vnbench.errors import InputError, PlanError
from vnbench.images.folder import read_sizes_with_notes
from vnbench.output.console import say, stderr_console, stdout_console
from vnbench.output.tables.capacity_plan import plan_table
from vnbench.output.words.capacity_plan import named, shipped_line
from vnbench.output.words.commands import (
    network_of,
    options_of_records,
    with_command,
    with_own_images,
)
from vnbench.output.words.provenance import provenance
from vnbench.records.one_corpus import load_one_corpus
from vnbench.records.record import TrialRecord, of_kind
from vnbench.records.shipped import shipped_results
from vnbench.records.spec.trial_spec import TrainingSpec
from vnbench.request.options import DRAWN_RUN_OPTIONS
from vnbench.request.results_folder import newest_results
from vnbench.units import count, format_bytes


def run_plan_command(
    results: Sequence[Path], flags: Mapping[str, str | None], *, corpus_id: str | None = None, as_json: bool
) -> PlanReport:
    """Plan a run from some results files, or from those that ship, and tell of it unless stdout is kept for JSON.

    Raises:
        InputError: an option or a file cannot be used.
        PlanError: the records do not let one plan, or nothing fits.
    """
    console = stderr_console()
    if flags.get("examples") is None and flags.get("epochs") is None:
        published = {name: DRAWN_RUN_OPTIONS[name].default_on("") for name in ("examples", "epochs")}
        flags = {**flags, **published}
        run = f"{int(published['examples']):,} examples, {published['epochs']} epochs"
        say(console, f"no --examples and no --epochs; planning the published run: {run}")
    values = plan_values(flags)
    if "card" in values and not results:
        found = forecasts_for(flags, values["card"])
        report = plan_records(found, {one: value for one, value in values.items() if one != "model"}, sources=())
        if not as_json:
            stdout_console().print(plan_table(report))
        return report
    sources = tuple(results) or shipped_results()
    if not results:
        say(console, f"no RESULTS given; planning from the records that ship: {', '.join(map(str, sources))}")
        if own := newest_results():
            say(console, f"your own are not used; name them: {shlex.join(['vnbench', 'plan', str(own)])}")
    loaded = load_one_corpus(sources, corpus_id=corpus_id)
    for note in (*loaded.notes, *(read_sizes_with_notes(values["sizes"])[1] if "sizes" in values else ())):
        say(console, note)
    report = plan_records(Findings(loaded.records), values, sources=sources)
    if not as_json:
        first = "" if results else shipped_line(report, options_of_records(loaded.records))
        stdout_console().print(plan_table(report, first=first))
    return report


def plan_records(found: Findings, values: Mapping[str, Any], *, sources: tuple[Path, ...]) -> PlanReport:
    """Return the plan from what some records say; ``values`` are the options, understood.

    Raises:
        InputError: the records come from several devices or versions of torch.
        PlanError: the records do not let one plan, or nothing fits.
    """
    where = ", ".join(map(str, sources)) or "the forecasts"
    found = on_one_card(found, values.get("card"), where=where)
    origin = provenance(found.records)
    if len(origin.torch_versions) > 1:
        raise InputError(
            where,
            f"(torch {', '.join(origin.torch_versions)})",
            allowed="one plan holds for one version of torch",
            remedy="give the files of one version at a time",
        )
    found = _of_one_network(found, values.get("model"), where=where)
    options = options_of_records(found.latest)
    families, left_out = found.families, found.unfitted
    if not families:
        reasons = "; ".join(why_unfitted(left_out))
        raise PlanError(
            f"{where}: nothing can be planned from it ({reasons or 'no compute or training trial'}); "
            f"measure {with_command(found.latest, {'kind': 'memory,compute'})}"
        )
    asked = asked_of(values, found.latest, device=families[0].spec.device)
    measured = Measured.of(found.latest, families=families, loading=found.loading)
    runs = plan_runs(asked, measured)
    if not runs and asked.num_workers is not None and plan_runs(replace(asked, num_workers=None), measured):
        known = sorted({supply.num_workers for supplies in measured.supplies.values() for supply in supplies})
        raise PlanError(
            f"--num-workers {', '.join(map(str, asked.num_workers))}: no loader of {where} was measured with so many; "
            f"those measured have {', '.join(map(str, known)) or 'none'}"
        )
    if not runs:
        raise PlanError(
            f"--batch-size, --examples: no configuration of {where} makes such batches; those measured have "
            f"micro-batches of {', '.join(map(str, sorted({one.spec.micro_batch_size for one in families})))}"
        )
    num_unloaded = _num_without_workers(asked, measured) if asked.num_workers is not None else 0
    runs = _having(runs, values.get("hold") or {}, option="--hold")
    recommended = recommend(runs)
    if recommended is None or (recommended.verdict == "unknown" and asked.memory_bytes is not None):
        raise PlanError(_nothing_fits(runs, asked, command=with_command(found.latest, MEMORY)))
    _refuse_more_interruptions_than_steps(asked, recommended)
    current = _current(runs, values.get("current"), recommended)
    return PlanReport(
        asked=asked,
        values=values,
        runs=runs,
        recommended=recommended,
        current=current,
        changes=(*worker_changes(asked, current), *single_changes(runs, current)),
        shares=shares_of(
            recommended.run,
            asked.interruptions,
            interval_s=recommended.interval_s,
            seed=asked.seed,
        ),
        warnings=with_own_images(
            plan_warnings(
                asked,
                recommended,
                current,
                runs,
                left_out,
                num_unloaded=num_unloaded,
                samplers_left_out=_samplers_left_out(found.latest),
                is_cpu=origin.is_cpu,
                trials=_timed_trials(found),
                values=values,
                options=options,
            ),
            found.latest,
        ),
        origin=origin,
        sources=sources,
        measured=measured,
    )


def _refuse_more_interruptions_than_steps(asked: Asked, recommended: PlannedRun) -> None:
    num_steps = asked.num_epochs * recommended.run.num_steps
    if (asked.interruptions.count or 0) > num_steps:
        raise InputError(
            "--interruptions",
            asked.interruptions.count,
            allowed=f"the run has {count(num_steps, 'step')}: more interruptions than steps",
            remedy="write fewer, or --mtbi TIME",
        )


def _current(runs: Sequence[PlannedRun], wanted: Mapping[str, Any] | None, recommended: PlannedRun) -> PlannedRun:
    if not wanted:
        return recommended

    def distance(one: PlannedRun) -> tuple[int, float]:
        return sum(one.levers[name] != recommended.levers[name] for name in CHEAPEST_FIRST), one.finish.p50

    return min(_having(runs, wanted, option="--current"), key=distance)


def _of_one_network(found: Findings, model: str | None, *, where: str) -> Findings:
    """Return what the records say of one network: what one costs says nothing of another.

    Raises:
        PlanError: there are several, and none was chosen.
        InputError: the chosen one is not among them.
    """
    networks = Counter(network_of(record.spec) for record in found.latest)
    if len(networks) <= 1 and model is None:
        return found
    told = ", ".join(f"{name} ({count(number, 'trial')})" for name, number in networks.most_common())
    if model is None:
        first = networks.most_common(1)[0][0]
        raise PlanError(
            f"{where}: a plan is of one network, and these records hold {told}; write --model {shlex.quote(first)}"
        )
    # The name alone is enough where it means one network.
    meant = (
        [model] if model in networks else [name for name in networks if name.startswith((f"{model} ", f"{model}, "))]
    )
    if len(meant) != 1:
        remedy = f"write --model {shlex.quote(meant[0])}" if meant else "write one of them"
        raise InputError("--model", model, allowed=f"the records are of {told}", remedy=remedy)
    return Findings([record for record in found.latest if network_of(record.spec) == meant[0]])


def _num_without_workers(asked: Asked, measured: Measured) -> int:
    """Return how many configurations cannot be planned because no loader was measured with the workers asked for."""
    every = compose_configurations(replace(asked, num_workers=None), measured)
    return len(every) - len(compose_configurations(asked, measured))


def _timed_trials(found: Findings) -> list[TrialRecord]:
    """Return the trials whose times a plan is made of."""
    kinds = {"loader", *(family.source for family in found.families)}
    kinds |= {"observed"} if "training" in kinds else set()
    return [record for record in found.latest if record.kind in kinds and why_not_timed(record) is None]


def _samplers_left_out(records: Sequence[TrialRecord]) -> list[str]:
    trained = {record.spec.sampler for record in of_kind(records, TrainingSpec)}
    return sorted(trained - {*PLANNED_SAMPLERS})


def _having(runs: Sequence[PlannedRun], wanted: Mapping[str, Any], *, option: str) -> tuple[PlannedRun, ...]:
    """Return the configurations that have some levers at the values that an option gives.

    Raises:
        PlanError: none has.
    """
    names = {name.replace("-", "_"): value for name, value in wanted.items()}
    found = tuple(one for one in runs if all(one.levers.get(name) == value for name, value in names.items()))
    if not found:
        told = ", ".join(f"{name}={value}" for name, value in wanted.items())
        raise PlanError(f"{option} {told}: no measured configuration has these values")
    return found


def _nothing_fits(runs: Sequence[PlannedRun], asked: Asked, *, command: str) -> str:
    known = [one for one in runs if one.need_bytes is not None]
    if not known:
        return f"no configuration is known to fit; measure the worst case {command}"
    smallest = min(known, key=lambda one: one.need_bytes or 0.0)
    given = "" if asked.memory_bytes is None else f"--memory {format_bytes(asked.memory_bytes)}: "
    return (
        f"{given}nothing fits; the smallest that was measured needs {format_bytes(smallest.need_bytes or 0.0)} "
        f"({named(smallest)}); try a smaller micro-batch, bf16 with the norm in input precision, or "
        "--checkpointing stages"
    )
