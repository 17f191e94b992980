"""How far the forecasts of factored sweeps are off, from confirmations in several small sweeps.

    python benchmarks/experiments/factored_report.py --results results/DEVICE/factored --out reports

Each sweep draws images and configurations of its own. The same command again goes on where it stopped, also within a
sweep; ``--report-only`` draws the page from what there is.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from markdown_page import REPORT_ONLY, records_page_name, write_page

from vnbench.analysis.trials.noise import measure_noise
from vnbench.analysis.trials.summary import latest_attempts
from vnbench.commands.corpus import plan_corpus
from vnbench.commands.sweep.confirm import parts_of
from vnbench.output.view import Column, View
from vnbench.output.words.levers import describe
from vnbench.output.words.numbers import significant
from vnbench.output.words.provenance import CPU_LABEL, provenance
from vnbench.records.placement import placed
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.records.store import load_results
from vnbench.request.config import complete
from vnbench.request.reading import read_request
from vnbench.sweep.confirming import Confirmation, confirmations
from vnbench.sweep.factored import CellForecast, timed_trainings
from vnbench.units import count, format_percent

MOST_MEDIAN_ERROR = 0.05
"""Largest median of the forecasts' absolute errors that is accepted."""

COVERAGE = (0.85, 0.95)
"""Smallest and largest accepted share of confirmations inside their 90 % intervals."""

DEFINITION = Path(__file__).parents[1] / "definitions" / "factored.toml"

NAMES = ("batch_size", "precision", "checkpointing", "sampler", "num_workers")
"""Levers that distinguish configurations."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A confirmation, with what else could have been forecast."""

    sweep: str
    confirmation: Confirmation
    parts_error: float
    """Error of the forecast from the parts alone, without the centre's training."""
    error_then: float
    """Error of the forecast that stands in the record, made by the version that measured it."""

    @property
    def error(self) -> float:
        return self.confirmation.error


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="folder of the records, a file for each sweep")
    parser.add_argument("--out", type=Path, required=True, help="folder of the report")
    parser.add_argument("--sweeps", type=int, default=6)
    parser.add_argument("--definition", type=Path, default=DEFINITION)
    parser.add_argument(REPORT_ONLY, action="store_true", dest="is_report_only")
    options = parser.parse_args(arguments)

    files = [options.results / f"sweep_{number}.jsonl" for number in range(options.sweeps)]
    if not options.is_report_only:
        for number, file in enumerate(files):
            command = ["sweep", "--config", str(options.definition), "--seed", str(number), "--out", str(file)]
            subprocess.run([sys.executable, "-m", "vnbench", *command, "--no-plots"], stdout=sys.stderr, check=True)
    sweeps = {
        path.stem: (number, own)
        for number, file in enumerate(files)
        for path in placed(file)
        if path.exists() and (own := latest_attempts(load_results(path).records))
    }
    rows = [row for name, (number, own) in sweeps.items() for row in rows_of(name, number, own, options.definition)]
    if not rows:
        raise SystemExit(f"{options.results}: no confirmation was measured")
    everything = [record for _, own in sweeps.values() for record in own]
    origin = provenance(everything)
    trials = f"{count(len(sweeps), 'sweep')}, {count(len(everything), 'trial')}"
    blocks = [
        f"# Forecasts of factored sweeps: {describe(everything[0].spec, names=('model', 'task'))}",
        f"{origin.line(trials)}. {CPU_LABEL + '.' if origin.is_cpu else ''}",
        *answer(rows),
        *sources(rows, [own for _, own in sweeps.values()]),
        *residuals(rows),
    ]
    name = records_page_name("factored", everything)
    write_page(blocks, options.out / f"{name}.md", script=__file__, arguments=arguments)
    return 0


def rows_of(name: str, number: int, records: Sequence[TrialRecord], definition: Path) -> Iterator[Row]:
    """Yield the confirmations of a sweep, whose seed is its number, with the forecasts that this version makes.

    Each is made from the parts and from the trainings of the centre that had run by then.
    """
    request = read_request({"seed": str(number)}, config_path=definition)
    config = complete(request, environment=records[0].environment)
    # Confirmations are no parts: a forecast knows nothing of them.
    parts = parts_of(config, plan_corpus(config), [record for record in records if record.kind != "training"])
    forecasts: dict[TrialSpec, CellForecast] = {one.spec: one for one in parts.forecast_all()}
    centers = timed_trainings(sorted(records, key=lambda record: record.started_at), parts.center)
    for one in confirmations(records):
        alone = forecasts[one.record.spec]
        trained = [center for center in centers if center.started_at < one.record.started_at]
        found = parts.forecast(alone.cell, anchors=trained[-1:], trained=trained)
        assert found is not None
        yield Row(
            sweep=name,
            confirmation=replace(one, record=replace(one.record, forecast=found.epoch)),
            parts_error=alone.epoch.value_s / one.measured_s - 1,
            error_then=one.error,
        )


def answer(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the figures that decide, and whether they are reached."""
    median = statistics.median(abs(row.error) for row in rows)
    inside = [is_inside for row in rows if (is_inside := row.confirmation.is_inside) is not None]
    share = statistics.fmean(inside)
    alone = statistics.median(abs(row.parts_error) for row in rows)
    then = statistics.median(abs(row.error_then) for row in rows)
    low, high = COVERAGE
    yield View(
        [
            ("confirmations", str(len(rows)), "", ""),
            (
                "off by, median",
                format_percent(median),
                f"at most {format_percent(MOST_MEDIAN_ERROR)}",
                told(median <= MOST_MEDIAN_ERROR),
            ),
            (
                "inside their 90 % intervals",
                f"{sum(inside)} of {len(inside)}, {format_percent(share)}",
                f"{format_percent(low)} to {format_percent(high)}",
                told(low <= share <= high),
            ),
            ("off by, at most", format_percent(max(abs(row.error) for row in rows)), "", ""),
            ("off by, median, from the parts alone", format_percent(alone), "", ""),
            ("off by, median, as told when they ran", format_percent(then), "", ""),
        ],
        [
            Column("", lambda row: row[0], align="left"),
            Column("measured", lambda row: row[1]),
            Column("accepted", lambda row: row[2]),
            Column("reached", lambda row: row[3]),
        ],
    ).markdown()
    yield (
        "A forecast is the epoch of the centre, trained just before the confirmation, times what the parts say of the "
        "difference. From the parts alone: computing and loading composed, without a training of the centre. Forecasts "
        "are made anew by this version, each from what had run by then; the last row has those in the records, of the "
        "versions that measured them."
    )


def told(is_reached: bool) -> str:
    return "yes" if is_reached else "no"


def sources(rows: Sequence[Row], sweeps: Sequence[Sequence[TrialRecord]]) -> Iterator[str]:
    """Yield where the errors come from, as standard deviations."""
    by_cell: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        key = row.sweep, row.confirmation.record.spec_id
        by_cell.setdefault(key, []).append(math.log1p(row.error))
    within = pooled_variance(by_cell.values())
    means = [statistics.fmean(errors) for errors in by_cell.values()]
    beyond = statistics.fmean(mean**2 for mean in means) - statistics.fmean(
        within / len(one) for one in by_cell.values()
    )
    centers = [centers_of(records) for records in sweeps]
    steps = [math.log(after / before) for times in centers for before, after in itertools.pairwise(times)]
    lines = [
        ("from one process of the centre's training to the next", math.sqrt(mean_square(steps) / 2)),
        ("of the centre's training over a sweep", math.sqrt(pooled_variance([*map(logs, centers)]))),
        ("of a forecast, from one process of a configuration to another", math.sqrt(within)),
        ("of a configuration's forecast, whatever its process", math.sqrt(max(beyond, 0.0))),
    ]
    for kind in ("compute", "loader"):
        spreads = [noise.spreads[kind] for noise in map(measure_noise, sweeps) if kind in noise.spreads]
        if spreads:
            lines.append((f"of {kind} processes", math.sqrt(mean_square([one.relative for one in spreads]))))
    yield "## Where the error comes from"
    yield View(
        [line for line in lines if not math.isnan(line[1])],
        [
            Column("standard deviation", lambda line: line[0], align="left"),
            Column("%", lambda line: 100 * line[1], text=significant),
        ],
    ).markdown()
    yield (
        "The first two tell how much of the centre's spread is slow enough to cancel between neighbours. The third is "
        "noise of processes. The fourth is what more processes do not lower: errors of the parts, which all "
        "confirmations of a sweep share, and levers whose effects do not multiply."
    )


def centers_of(records: Sequence[TrialRecord]) -> list[float]:
    """Return the seconds of each training of the centre, in the order that they ran."""
    trained = [record for record in records if record.kind == "training" and record.forecast is None and record.block]
    trained.sort(key=lambda record: record.replicate)
    return [record.block.wall_time_s for record in trained if record.block]


def logs(values: Sequence[float]) -> list[float]:
    return [math.log(value) for value in values]


def mean_square(values: Sequence[float]) -> float:
    return statistics.fmean(value**2 for value in values) if values else math.nan


def pooled_variance(groups: Iterable[Sequence[float]]) -> float:
    """Return the variance within groups; not a number where none has two members."""
    pairs = [(statistics.variance(group), len(group) - 1) for group in groups if len(group) > 1]
    freedom = sum(number for _, number in pairs)
    return sum(square * number for square, number in pairs) / freedom if freedom else math.nan


def residuals(rows: Sequence[Row]) -> Iterator[str]:
    columns: list[Column[Row]] = [
        Column("sweep", lambda row: row.sweep, align="left"),
        Column("configuration", lambda row: describe(row.confirmation.record.spec, names=NAMES), align="left"),
        Column("forecast, s", lambda row: forecast_told(row.confirmation)),
        Column("measured, s", lambda row: row.confirmation.measured_s, text=significant),
        Column("off, %", lambda row: 100 * row.error, text="{:+.1f}".format),
        Column("inside", lambda row: told(bool(row.confirmation.is_inside))),
        Column("from the parts alone, %", lambda row: 100 * row.parts_error, text="{:+.1f}".format),
        Column("as told then, %", lambda row: 100 * row.error_then, text="{:+.1f}".format),
    ]
    yield "## Every confirmation"
    yield View(sorted(rows, key=lambda row: (row.sweep, row.confirmation.record.spec_id)), columns).markdown()


def forecast_told(one: Confirmation) -> str:
    forecast = one.record.forecast
    assert forecast is not None
    if forecast.low_s is None or forecast.high_s is None:
        return significant(forecast.value_s)
    return f"{forecast.value_s:.3g} ({forecast.low_s:.3g} to {forecast.high_s:.3g})"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
