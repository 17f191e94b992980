"""The wall-clock model of a factored campaign: fits, bends, and forecasts compared with later measurements.

Run with: vnbench sweep --config benchmarks/definitions/wallclock.toml --out results/cpu-amd-epyc/wallclock.jsonl
          python benchmarks/experiments/wallclock_report.py results/cpu-amd-epyc/wallclock.jsonl --out reports
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from markdown_page import records_page_name, write_page

from vnbench.analysis.models.fit import FamilyFit
from vnbench.analysis.models.linearity import count_steps, linearity_of
from vnbench.analysis.models.step_fit import ASSUMED_BETWEEN, CONFIDENCE
from vnbench.analysis.trials.summary import latest_attempts
from vnbench.commands.fit import FitReport, fit_records
from vnbench.output.plots.fit import fit_figure
from vnbench.output.plots.style import save, styled
from vnbench.output.tables.factored import error_line
from vnbench.output.tables.fit import composition_line, counting_line, linearity_line, named
from vnbench.output.view import Column, View
from vnbench.output.words.levers import describe
from vnbench.output.words.numbers import format_estimate, roughly, significant
from vnbench.output.words.provenance import CPU_LABEL
from vnbench.records.placement import placed
from vnbench.records.store import load_all
from vnbench.sweep.confirming import Confirmation, confirmations
from vnbench.units import PIXELS_PER_MPX, format_percent, mpx

TARGETS = {"median": 0.014, "worst": 0.05, "composed": 0.03}
"""Target errors on CUDA, for sizes left out and for composed epochs."""

NAMES = ("batch_size", "precision", "norm_precision", "checkpointing", "sampler", "num_workers")
"""Levers that distinguish configurations."""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder of the report")
    options = parser.parse_args(arguments)

    records = latest_attempts(load_all(placed(options.results)).records)
    report = fit_records(records, where=str(options.results))
    origin = report.origin
    name = records_page_name("wallclock", records)
    options.out.mkdir(parents=True, exist_ok=True)
    with styled():
        figure = fit_figure(report.families, origin=origin)
        assert figure is not None, "a fit has families"
        save(figure, options.out, name=name)
    confirmed = confirmations(records)
    blocks = [
        f"# Wall clock: {describe(report.families[0].spec, names=('model', 'task'))}",
        f"{origin.line(f'{len(records)} trials')}. {CPU_LABEL + '.' if origin.is_cpu else ''}",
        *fit_section(report),
        f"![Step time by padded pixels]({name}.png)",
        *bend_section(report),
        *forecast_section(confirmed),
        *composition_section(report),
    ]
    write_page(blocks, options.out / f"{name}.md", script=__file__, arguments=arguments)
    return 0


def fit_section(report: FitReport) -> Iterator[str]:
    columns: list[Column[FamilyFit]] = [
        Column("configuration", lambda family: named(family, report.families), align="left"),
        Column("sizes", lambda family: family.fit.num_sizes),
        Column("processes", lambda family: family.fit.num_processes),
        Column("overhead, ms", lambda family: 1e3 * family.fit.model.overhead_s, text=roughly),
        Column("ms per Mpx", lambda family: 1e3 * family.fit.model.s_per_pixel * PIXELS_PER_MPX, text=significant),
        Column("curve", lambda family: family.fit.model.form, align="left"),
        Column("off, median", lambda family: family.fit.loo_error_median, text=percent),
        Column("off, worst", lambda family: family.fit.loo_error_max, text=percent),
        Column("steps alone off, median", lambda family: family.step_count.loo_error_median, text=percent),
        Column("worst", lambda family: family.step_count.loo_error_max, text=percent),
    ]
    yield "## What a step costs"
    yield (
        "Step time = overhead + cost x padded pixels, least squares of relative residuals with terms that are never "
        "negative. Off: the error at a size when the curve is fitted without it, both ends included. Steps alone: the "
        "same for one cost per step, whatever it holds."
    )
    yield View(report.families, columns).markdown()
    yield targets_line(report.families)
    if not all(family.fit.is_between_measured for family in report.families):
        yield f"What differs between processes was not measured; {format_percent(ASSUMED_BETWEEN)} is assumed."
    else:
        yield (
            f"Processes of one configuration differ by {format_percent(report.families[0].fit.between)}; intervals of "
            f"forecasts ({format_percent(CONFIDENCE)}) hold that."
        )


def targets_line(families: Sequence[FamilyFit]) -> str:
    """Return how many families meet the targets for sizes left out, and which one misses by most."""
    known = [family for family in families if family.fit.loo_error_median is not None]
    met = [
        family
        for family in known
        if (family.fit.loo_error_median or 0) <= TARGETS["median"]
        and (family.fit.loo_error_max or 0) <= TARGETS["worst"]
    ]
    worst = max(known, key=lambda family: family.fit.loo_error_max or 0.0)
    where = max(worst.fit.left_out, key=lambda one: abs(one.error))
    return (
        f"The targets for a GPU (median {format_percent(TARGETS['median'])}, worst {format_percent(TARGETS['worst'])}) "
        f"are met by {len(met)} of {len(known)} configurations here; furthest off is {named(worst, families)} at "
        f"{mpx(where.padded_pixels):.3g} Mpx, by {100 * where.error:+.1f} %. No size is left out of these figures."
    )


def bend_section(report: FitReport) -> Iterator[str]:
    bends = [
        f"- {named(family, report.families)}: {line}"
        for family in report.families
        if (line := linearity_line(linearity_of(family))) is not None
    ]
    counting = [f"- {counting_line(one, report.families)}" for one in count_steps(report.families)]
    if bends:
        yield "## Where it bends"
        yield "\n".join(bends)
    if counting:
        yield "## Where counting steps is enough"
        yield (
            "The accounts count steps: wall clock = steps x cost per step, steps = examples / batch, with one cost for "
            "every batch. Counted is what the other batches' cost per step says of each."
        )
        yield "\n".join(counting)


def forecast_section(confirmed: Sequence[Confirmation]) -> Iterator[str]:
    line = error_line(confirmed)
    if line is None:
        return
    columns: list[Column[Confirmation]] = [
        Column("configuration", lambda one: describe(one.record.spec, names=NAMES), align="left"),
        Column("forecast, s per epoch", forecast_told),
        Column("measured, s per epoch", lambda one: one.measured_s, text=significant),
        Column("off", lambda one: f"{100 * one.error:+.1f} %"),
    ]
    yield "## Forecast before measured"
    yield (
        "The factored design forecasts every combination from the centre's own figures times one ratio per lever, then "
        f"trains on the three fastest and two drawn ones: {line}. The target on a GPU is "
        f"{format_percent(TARGETS['composed'])}."
    )
    yield View(confirmed, columns).markdown()


def forecast_told(one: Confirmation) -> str:
    forecast = one.record.forecast
    assert forecast is not None
    low_s, high_s = forecast.low_s, forecast.high_s
    return format_estimate(forecast.value_s, None if low_s is None or high_s is None else (high_s - low_s) / 2)


def composition_section(report: FitReport) -> Iterator[str]:
    if not report.compositions:
        return
    yield "## Composed of the configuration's own parts"
    yield (
        "Where a confirmed configuration's own computing was timed, its epoch composed of that (no ratios) and of its "
        "loader, against what was measured:"
    )
    yield "\n".join(f"- {composition_line(one)}" for one in report.compositions)


def percent(share: float) -> str:
    return f"{significant(100 * share, digits=2)} %"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
