"""The questions that the toolkit was built for, each with what answers it from the records of one machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from accumulation_rows import rows_of as accumulation_rows
from findings_sources import NotMeasured, Sources
from floors_report import best_line, table
from floors_rows import ceilings_of
from floors_rows import rows_of as floors_rows
from groupnorm_report import READINGS
from memory_report import find_searches

from vnbench.analysis.bend import count_steps, find_bend
from vnbench.analysis.capacity import PlannedRun, single_changes
from vnbench.analysis.max_batch import MaxBatchSummary
from vnbench.analysis.recipe import choice_of
from vnbench.fit_command import fit_records
from vnbench.harness.factored import confirmations
from vnbench.harness.large_tensors import INDEX_LIMIT
from vnbench.output.factored_table import error_line
from vnbench.output.fit_table import bend_line, counting_line
from vnbench.output.fit_table import named as family_named
from vnbench.output.knee_lines import knee_line
from vnbench.output.levers import LEVERS, describe, varying, worth_naming
from vnbench.output.loader_table import knees
from vnbench.output.numbers import MISSING, format_estimate, significant, times
from vnbench.output.plan_words import named, time_range
from vnbench.output.provenance import count
from vnbench.plan_asked import plan_values
from vnbench.plan_command import plan_records
from vnbench.plan_report import PlanReport
from vnbench.record import TrialRecord
from vnbench.units import format_percent, gib, mpx

NUM_EXAMPLES, NUM_EPOCHS = 15_000, 50
"""Of the published multiclass run."""

GOAL_MINUTES, GOAL_RATIO = 55, 5
"""A tenth of the published 550 minutes, and how many times as fast as the accounts' own recipe it is to be."""

RECIPE = {"precision": "bf16", "norm_precision": "fp32", "checkpointing": "stages", "sampler": "random"}
"""What the accounts did: mixed precision, checkpointing, batches as drawn, in passes of whole batches of 16."""
RECIPE_BATCH = 16

COMPARED = ("batch_size", "micro_batch_size", "precision", "norm_precision", "checkpointing", "sampler")
"""Levers of a planned run that are asked about one by one."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question."""

    title: str
    files: tuple[str, ...]
    """Names of the records that answer it."""
    answer: Callable[[Sources], list[str]]
    """Returns paragraphs of Markdown; raises NotMeasured without its records."""


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
    lines.append(
        f"The accounts' own recipe{smaller} takes {time_range(recipe.finish)} with {named(recipe)}: "
        f"{significant(ratio, digits=2)} times as long."
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
    """Return the fastest run of the accounts' recipe with the largest whole batch up to theirs."""
    alike = [
        run
        for run in report.runs
        if all(run.levers.get(name) == value for name, value in RECIPE.items())
        and run.levers["batch_size"] == run.levers["micro_batch_size"] <= RECIPE_BATCH
    ]
    return min(alike, key=lambda run: (-run.levers["batch_size"], run.finish.p50), default=None)


def levers(sources: Sources) -> list[str]:
    report = planned(sources)
    # A factored campaign varies the levers of its centre: there the most of them can be told.
    best = max(
        report.runs, key=lambda run: (len({name for name, _ in single_changes(report.runs, run)}), -run.finish.p50)
    )
    lines = [
        "| lever | instead of | the run takes | times as long | worst-case memory, GiB |",
        "|---|---|---|---:|---:|",
        f"| none: {named(best)} | | {time_range(best.finish)} | 1 | {memory_told(best)} |",
    ]
    lines += [lever_row(lever, run, best) for lever, run in single_changes(report.runs, best)]
    # In fp32 the norm is in fp32 as well: beside it stands the reduced precision with such a norm.
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
    """Return the run that differs from one in these levers alone, where it was measured."""
    wanted = dict(run.levers) | levers
    return next((one for one in report.runs if all(one.levers[name] == wanted[name] for name in COMPARED)), None)


def lever_row(lever: str, run: PlannedRun, base: PlannedRun, *, also: str = "") -> str:
    """Return a row of a table: a run beside the one that it differs from in one lever."""
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


def autocast(sources: Sources) -> list[str]:
    searches = find_searches(sources.findings("memory").records)
    plain = {one.spec.checkpointing: one for one in searches if choice_of(one.spec)[:2] == ("fp32", "fp32")}
    lines = [
        "| precision | norm | checkpointing | GiB per worst-case example | of fp32's | largest micro-batch |",
        "|---|---|---|---:|---:|---:|",
    ]
    for one in sorted(searches, key=lambda one: (one.spec.checkpointing, -per_example(one))):
        base = plain.get(one.spec.checkpointing)
        share = MISSING if base is None else format_percent(per_example(one) / per_example(base))
        size = significant(gib(per_example(one)))
        lines.append(f"| {' | '.join(choice_of(one.spec))} | {size} | {share} | {one.found.largest} |")
    if len(lines) == 2:
        raise NotMeasured("no search for the largest micro-batch")
    return ["\n".join(lines), *autocast_lines(searches, plain)]


def autocast_lines(searches: Sequence[MaxBatchSummary], plain: dict[Any, MaxBatchSummary]) -> Iterator[str]:
    """Yield whether bf16 saves memory under each precision of the norm, without checkpointing."""
    shares = {
        one.spec.norm_precision: per_example(one) / per_example(plain["none"])
        for one in searches
        if one.spec.precision == "bf16" and one.spec.checkpointing == "none" and "none" in plain
    }
    for norm, share in sorted(shares.items()):
        where = "in input precision" if norm == "input" else f"in {norm}"
        change = f"{format_percent(abs(1 - share))} {'less' if share < 1 else 'more'}"
        yield f"bf16 autocast with the norm {where} takes {change} memory for an example than fp32."


def per_example(search: MaxBatchSummary) -> float:
    """Return the bytes of one more worst-case example; those of the first where no second one fits."""
    if search.law is not None:
        return search.law.bytes_per_pixel * search.pixels_per_example
    if search.peak_bytes is None:
        raise NotMeasured(f"no worst case fits with {describe(search.spec, names=('precision', 'norm_precision'))}")
    return search.peak_bytes / max(search.found.largest, 1)


def norm_readings(sources: Sources) -> list[str]:
    document = sources.document("groupnorm")
    times: dict[tuple[Any, ...], dict[str, float]] = {}
    for timing in document["timings"]:
        case = timing["case"]
        key = (case["level"], case["batch"], case["precision"], case["layout"])
        times.setdefault(key, {})[case["reading"]] = fmean(timing["times_s"])
    first, second = READINGS
    lines = [
        f"| level | batch | norm in | layout | {first}, ms | {second}, ms | ratio |",
        "|---:|---:|---|---|---:|---:|---:|",
    ]
    for key, found in sorted(times.items()):
        told = [significant(1e3 * found[reading]) for reading in READINGS]
        lines.append(f"| {' | '.join(map(str, key))} | {' | '.join(told)} | {found[second] / found[first]:.2f} |")
    ratios = [found[second] / found[first] for found in times.values()]
    return [
        f"The norm alone, forward and backward. Read as the number of groups it takes {median(ratios):.2f} times what "
        f"it does read as channels of a group ({min(ratios):.2f} to {max(ratios):.2f}).",
        "\n".join(lines),
    ]


def accumulation(sources: Sources) -> list[str]:
    rows = accumulation_rows(sources.findings("accumulation").records)
    alone = next((row for row in rows if row.micro_batch_size == 1 and row.ratio is not None), None)
    whole = next((row for row in rows if row.ratio is None and row.figures), None)
    if alone is None or whole is None or alone.ratio is None:
        raise NotMeasured("no micro-batch of 1 beside a larger one")
    low, high = alone.ratio.interval or (None, None)
    between = "" if low is None else f" ({low:.2f} to {high:.2f})"
    sides = alone.ratio.interval or (1.0, 1.0)
    verdict = "faster" if sides[1] < 1 else "slower" if sides[0] > 1 else "not to be told from it"
    return [
        f"A step of {alone.summary.spec.batch_size} examples in passes of 1, without any padding, takes "
        f"{alone.ratio.value:.2f}{between} times what it does in passes of {whole.micro_batch_size}, padded to the "
        f"widest: {verdict}."
    ]


def bends(sources: Sources) -> list[str]:
    report = fit_records(sources.findings("wallclock").records, where=str(sources.path("wallclock")))
    lines = [
        f"- {family_named(family, report.families)}: {line}"
        for family in report.families
        if (line := bend_line(find_bend(family))) is not None
    ]
    lines += [f"- counting steps: {counting_line(one, report.families)}" for one in count_steps(report.families)]
    return ["\n".join(lines) or "No step time bends."]


def workers(sources: Sources) -> list[str]:
    found = sources.findings("loader")
    plain = [row for row in found.loading if row.supply is not None and set(differing(row.spec)) <= {"worker_kind"}]
    lines = [f"- {knee_line(knee, all_rows=plain)}" for knee in knees(plain, found.latest, None)]
    if not lines:
        raise NotMeasured("no loader trials beside compute trials")
    return ["\n".join(lines)]


def differing(spec: Any) -> list[str]:
    """Return the loader's switches that are not at their defaults."""
    return [
        name for name, lever in LEVERS.items() if lever.default not in (None, lever.value(spec)) and lever.value(spec)
    ]


def floors(sources: Sources) -> list[str]:
    rows = floors_rows(sources.findings("wallclock").compute, ceilings_of(sources.document("floors")))
    if not rows:
        raise NotMeasured("no compute trials whose operations were counted")
    return [best_line(rows), "\n".join(table(rows[:5]))]


def predictions(sources: Sources) -> list[str]:
    found = sources.findings("wallclock")
    report = fit_records(found.records, where=str(sources.path("wallclock")))
    known = [family.fit for family in report.families if family.fit.loo_error_median is not None]
    lines = []
    if known:
        lines.append(
            f"Step time of a size that the curve was fitted without, over {count(len(known), 'configuration')}: off by "
            f"{format_percent(median(fit.loo_error_median or 0 for fit in known))} in the median, at worst "
            f"{format_percent(max(fit.loo_error_max or 0 for fit in known))}."
        )
    if (line := error_line(confirmations(found.latest))) is not None:
        lines.append(f"Epochs forecast from the factored design's parts: {line}.")
    if report.compositions:
        errors = [abs(one.error) for one in report.compositions]
        lines.append(
            f"Epochs composed of their configuration's own computing and loading ({len(errors)}): off by "
            f"{format_percent(median(errors))} in the median, at worst {format_percent(max(errors))}."
        )
    lines += memory_errors(sources)
    return ["\n".join(f"- {line}" for line in lines)]


def memory_errors(sources: Sources) -> list[str]:
    try:
        searches = find_searches(sources.findings("memory").records)
    except NotMeasured as missing:
        return [f"Memory was not measured: {missing}."]
    laws = [one.law for one in searches if one.law is not None and one.law.loo_error_max is not None]
    if not laws:
        return ["No law of memory rests on enough micro-batches to be tried at one that it was fitted without."]
    typical, worst = median(law.loo_error_median or 0 for law in laws), max(law.loo_error_max or 0 for law in laws)
    return [
        "Worst-case memory of a micro-batch that the law was fitted without, over "
        f"{count(len(laws), 'configuration')}: off by {format_percent(typical)} in the median, at worst "
        f"{format_percent(worst)}."
    ]


def failures(sources: Sources) -> list[str]:
    records = sources.everything.records
    kinds = Counter(ending(record) for record in records)
    lines = ["| ended | trials |", "|---|---:|", *(f"| {told} | {number:,} |" for told, number in kinds.most_common())]
    large = [record for record in records if record.large_tensors is not None]
    wrong = [record for record in records if record.status == "wrong"]
    return ["\n".join(lines), large_line(large), *(f"- {spec_told(one, wrong)}: {cause_of(one)}" for one in wrong)]


def ending(record: TrialRecord) -> str:
    return record.status if record.cause is None else f"{record.status}: {record.cause.kind}"


def large_line(large: Sequence[TrialRecord]) -> str:
    if not large:
        return f"No trial had a tensor of 2^31 ({INDEX_LIMIT / 1e9:.2f} billion) elements or more."
    equal = Counter(one.large_tensors.is_equal for one in large if one.large_tensors is not None)
    most = max(one.large_tensors.num_elements for one in large if one.large_tensors is not None)
    return (
        f"{count(len(large), 'trial')} had a tensor of 2^31 elements or more, the largest of {most / 1e9:.2f} billion. "
        f"{equal[True]} computed what the same examples do in parts, {equal[False]} did not, {equal[None]} could not "
        "be compared."
    )


def cause_of(record: TrialRecord) -> str:
    return MISSING if record.cause is None else record.cause.message


def spec_told(record: TrialRecord, others: Sequence[TrialRecord]) -> str:
    specs = [one.spec for one in others]
    names = [name for name in worth_naming(specs) if name in varying(specs)] or ["batch_size", "precision"]
    return f"{record.kind}: {describe(record.spec, names=names)}"


def noise(sources: Sources) -> list[str]:
    spread = sources.findings("noise_pairs").noise.spread_for("training")
    if spread is None:
        raise NotMeasured("no configuration ran in two processes")
    return [
        f"Identical trials in processes of their own differ by {format_percent(spread.relative)} (standard deviation); "
        f"their own steps let expect {format_percent(spread.relative_within)}."
    ]


def equality(sources: Sources) -> list[str]:
    checked = [record for record in sources.everything.records if record.equality is not None]
    if not checked:
        raise NotMeasured("no record holds the comparison with the plain step")
    worst: dict[str, tuple[float, float]] = {}
    for record in checked:
        reading = record.equality
        assert reading is not None
        if reading.gradient_error is not None:
            one = (reading.gradient_error / reading.gradient_tolerance, reading.gradient_error)
            worst[record.spec.precision] = max(worst.get(record.spec.precision, (0.0, 0.0)), one)
    lines = ["| precision | largest error of the gradient | of its tolerance |", "|---|---:|---:|"]
    lines += [
        f"| {precision} | {error:.2g} | {format_percent(share)} |"
        for precision, (share, error) in sorted(worst.items())
    ]
    return [f"{count(len(checked), 'trial')} compared with the plain fp32 step on the same canvas.", "\n".join(lines)]


def batches(sources: Sources) -> list[str]:
    lines = ["| sampler | step, s | valid Mpx/s | padding of the subset |", "|---|---:|---:|---:|"]
    for one in sources.findings("samplers").training:
        if one.step_time_s is None or one.valid_px_per_s is None:
            continue
        padding = MISSING if one.subset_padding_ratio is None else format_percent(one.subset_padding_ratio)
        cells = (
            str(one.spec.sampler),
            format_estimate(one.step_time_s, one.step_time_half_width_s),
            format_estimate(mpx(one.valid_px_per_s), times(mpx(one.valid_px_per_s), one.valid_relative_half_width)),
            padding,
        )
        lines.append(f"| {' | '.join(cells)} |")
    if len(lines) == 2:
        raise NotMeasured("no sampler was timed")
    return ["\n".join(lines)]


QUESTIONS = (
    Question(
        title="What would the published run take, and in the accounts' own recipe?",
        files=("wallclock",),
        answer=published_run,
    ),
    Question(title="Which lever buys how much, one at a time?", files=("wallclock",), answer=levers),
    Question(
        title="Does bf16 autocast save memory, with the norm in fp32 and in bf16?", files=("memory",), answer=autocast
    ),
    Question(title="What does each reading of half_or_16 cost?", files=("groupnorm",), answer=norm_readings),
    Question(
        title="Is a micro-batch of 1, accumulated and without padding, slower than a padded batch?",
        files=("accumulation",),
        answer=accumulation,
    ),
    Question(title="What does each sampler cost on the same examples?", files=("samplers",), answer=batches),
    Question(title="Where does the line of counted steps bend, and why?", files=("wallclock",), answer=bends),
    Question(title="How many workers feed computing?", files=("loader",), answer=workers),
    Question(
        title="How far is the best step from the floors of the machine?", files=("wallclock", "floors"), answer=floors
    ),
    Question(
        title="How good are the predictions of time and memory?", files=("wallclock", "memory"), answer=predictions
    ),
    Question(title="How far do identical trials differ?", files=("noise_pairs",), answer=noise),
    Question(title="Do all configurations compute the same step?", files=(), answer=equality),
    Question(title="Which configurations failed, were wrong, or crossed 2^31 elements?", files=(), answer=failures),
)
"""In the order in which they are asked."""
