"""Cost of the parts of training: norms, samplers, accumulation, loading, and steps compared with floors and
forecasts."""

from __future__ import annotations

from statistics import fmean, median
from typing import Any

from accumulation_rows import rows_of as accumulation_rows
from findings_memory import memory_errors
from findings_sources import NotMeasured, Sources
from floors_report import best_line, table
from floors_rows import ceilings_of
from floors_rows import rows_of as floors_rows
from groupnorm_report import READINGS
from loader_report import switched

from vnbench.analysis.models.linearity import count_steps, linearity_of
from vnbench.commands.fit import FitReport, fit_records
from vnbench.output.tables.factored import error_line
from vnbench.output.tables.fit import counting_line, linearity_line, named
from vnbench.output.tables.loader import saturations
from vnbench.output.words.numbers import MISSING, significant, told
from vnbench.output.words.saturation import saturation_line
from vnbench.sweep.confirming import confirmations
from vnbench.units import count, format_percent, mpx


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


def batches(sources: Sources) -> list[str]:
    lines = ["| sampler | step, s | valid Mpx/s | padding of the subset |", "|---|---:|---:|---:|"]
    for one in sources.findings("samplers").training:
        if one.step_time is None or one.valid_px_per_s is None:
            continue
        padding = MISSING if one.subset_padding_ratio is None else format_percent(one.subset_padding_ratio)
        cells = (
            str(one.spec.sampler),
            told(one.step_time),
            told(one.valid_px_per_s * mpx(1)),
            padding,
        )
        lines.append(f"| {' | '.join(cells)} |")
    if len(lines) == 2:
        raise NotMeasured("no sampler was timed")
    return ["\n".join(lines)]


def fitted(sources: Sources) -> FitReport:
    return fit_records(sources.findings("wallclock").records, where=str(sources.path("wallclock")))


def bends(sources: Sources) -> list[str]:
    report = fitted(sources)
    lines = [
        f"- {named(family, report.families)}: {line}"
        for family in report.families
        if (line := linearity_line(linearity_of(family))) is not None
    ]
    lines += [f"- counting steps: {counting_line(one, report.families)}" for one in count_steps(report.families)]
    return ["\n".join(lines) or "No step time bends."]


def workers(sources: Sources) -> list[str]:
    found = sources.findings("loader")
    plain = [row for row in found.loading if row.supply is not None and switched(row) <= {"worker_kind"}]
    lines = [
        f"- {saturation_line(saturation, all_rows=plain)}" for saturation in saturations(plain, found.latest, None)
    ]
    if not lines:
        raise NotMeasured("no loader trials beside compute trials")
    return ["\n".join(lines)]


def floors(sources: Sources) -> list[str]:
    rows = floors_rows(sources.findings("wallclock").compute, ceilings_of(sources.document("floors")))
    if not rows:
        raise NotMeasured("no compute trials whose operations were counted")
    return [best_line(rows), "\n".join(table(rows[:5]))]


def predictions(sources: Sources) -> list[str]:
    report = fitted(sources)
    known = [family.fit for family in report.families if family.fit.loo_error_median is not None]
    lines = []
    if known:
        lines.append(
            f"Step time of a size that the curve was fitted without, over {count(len(known), 'configuration')}: off by "
            f"{format_percent(median(fit.loo_error_median or 0 for fit in known))} in the median, at worst "
            f"{format_percent(max(fit.loo_error_max or 0 for fit in known))}."
        )
    if (line := error_line(confirmations(sources.findings("wallclock").latest))) is not None:
        lines.append(f"Epochs forecast from the factored design's parts: {line}.")
    if report.compositions:
        errors = [abs(one.error) for one in report.compositions]
        lines.append(
            f"Epochs composed of their configuration's own computing and loading ({len(errors)}): off by "
            f"{format_percent(median(errors))} in the median, at worst {format_percent(max(errors))}."
        )
    lines += memory_errors(sources)
    return ["\n".join(f"- {line}" for line in lines)]
