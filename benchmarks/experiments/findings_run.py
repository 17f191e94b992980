"""Time of the published run in the best configuration, in the published recipe, and lever by lever."""

from __future__ import annotations

from typing import Any

from findings_sources import Sources

from vnbench.analysis.planning.capacity import PlannedRun, single_changes
from vnbench.commands.plan.answer import PlanReport
from vnbench.commands.plan.asked import plan_values
from vnbench.commands.plan.plan import plan_records
from vnbench.output.words.capacity_plan import named, time_range
from vnbench.output.words.numbers import MISSING, significant
from vnbench.records.spec.trial_spec import LEVERS
from vnbench.units import gib

NUM_EXAMPLES, NUM_EPOCHS = 15_000, 50
"""Size of the published multiclass run."""

GOAL_MINUTES, GOAL_RATIO = 55, 5
"""Targets: a tenth of the published 550 minutes, and the speed-up over the published recipe."""

RECIPE = {"precision": "bf16", "norm_precision": "fp32", "checkpointing": "stages", "sampler": "random"}
"""The published recipe: mixed precision, checkpointing, batches as drawn, in passes of whole batches of 16."""
RECIPE_BATCH = 16

COMPARED = ("batch_size", "micro_batch_size", "precision", "norm_precision", "checkpointing", "sampler")
"""Levers of a planned run that are compared one by one."""


def published_run(sources: Sources) -> list[str]:
    report = planned(sources)
    best = report.recommended
    heights, widths = (report.asked.train_sizes_N2[:, axis] for axis in (0, 1))
    lines = [
        f"{NUM_EXAMPLES:,} examples of {heights.min()} to {heights.max()} x {widths.min():,} to {widths.max():,} px, "
        f"{NUM_EPOCHS} epochs, take {time_range(best.finish)} with {named(best)}."
    ]
    recipe = recipe_of(report)
    if recipe is None:
        return [*lines, f"The accounts' recipe ({', '.join(RECIPE.values())}) was not measured in the same run."]
    ratio = recipe.finish.p50 / best.finish.p50
    smaller = "" if recipe.levers["batch_size"] == RECIPE_BATCH else f" (no whole batch of {RECIPE_BATCH} was measured)"
    verdict = "" if recipe.verdict == "fits" else f" Its worst case: {recipe.verdict}."
    lines.append(
        f"The accounts' own recipe{smaller} takes {time_range(recipe.finish)} with {named(recipe)}: "
        f"{significant(ratio, digits=2)} times as long.{verdict}"
    )
    if not report.origin.is_cpu:
        in_time, by_ratio = best.finish.p50 <= 60 * GOAL_MINUTES, ratio >= GOAL_RATIO
        lines.append(
            f"The goal is at most {GOAL_MINUTES} min ({'reached' if in_time else 'missed'}), and at least "
            f"{GOAL_RATIO} times as fast as the recipe ({'reached' if by_ratio else 'missed'})."
        )
    return [" ".join(lines)]


def planned(sources: Sources) -> PlanReport:
    flags = {"examples": str(NUM_EXAMPLES), "epochs": str(NUM_EPOCHS)}
    path = sources.path("wallclock")
    return plan_records(sources.findings("wallclock"), plan_values(flags), sources=(path,))


def recipe_of(report: PlanReport) -> PlannedRun | None:
    """Return the fastest run of the published recipe with the largest whole batch up to the published one."""
    alike = [
        run
        for run in report.runs
        if all(run.levers.get(name) == value for name, value in RECIPE.items())
        and run.levers["batch_size"] == run.levers["micro_batch_size"] <= RECIPE_BATCH
    ]
    return min(alike, key=lambda run: (-run.levers["batch_size"], run.finish.p50), default=None)


def levers(sources: Sources) -> list[str]:
    report = planned(sources)
    # A factored campaign varies the levers at its centre, so most of them can be compared there.
    best = max(
        report.runs, key=lambda run: (len({name for name, _ in single_changes(report.runs, run)}), -run.finish.p50)
    )
    lines = [
        "| lever | instead of | the run takes | times as long | worst-case memory, GiB |",
        "|---|---|---|---:|---:|",
        f"| none: {named(best)} | | {time_range(best.finish)} | 1 | {memory_told(best)} |",
    ]
    lines += [lever_row(lever, run, best) for lever, run in single_changes(report.runs, best)]
    # In fp32 the norm is in fp32, too: compare it with the reduced precision with an fp32 norm.
    plain = like(report, best, norm_precision="fp32")
    if plain is not None:
        changes = [pair for pair in single_changes(report.runs, plain) if pair[0] == "precision"]
        lines += [lever_row(lever, run, plain, also="norm in fp32") for lever, run in changes]
    return [
        f"One lever at a time away from the configuration around which most of them were measured, for the same "
        f"{NUM_EPOCHS} epochs; times as long are of the medians.",
        "\n".join(lines),
    ]


def like(report: PlanReport, run: PlannedRun, **levers: Any) -> PlannedRun | None:
    """Return the run that differs from ``run`` only in these levers; None if it was not measured."""
    wanted = dict(run.levers) | levers
    return next((one for one in report.runs if all(one.levers[name] == wanted[name] for name in COMPARED)), None)


def lever_row(lever: str, run: PlannedRun, base: PlannedRun, *, also: str = "") -> str:
    """Return a table row that compares a run with one that differs in one lever."""
    new, old = (LEVERS[lever].phrase(one.levers[lever]) for one in (run, base))
    cells = (
        f"{new}, {also}" if also else new,
        f"{old}, {also}" if also else old,
        time_range(run.finish),
        significant(run.finish.p50 / base.finish.p50),
        memory_told(run),
    )
    return f"| {' | '.join(cells)} |"


def memory_told(run: PlannedRun) -> str:
    known = MISSING if run.need_bytes is None else significant(gib(run.need_bytes))
    return known if run.verdict == "fits" else f"{known} ({run.verdict})"
