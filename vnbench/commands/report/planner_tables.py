"""What the planner of a report's page reckons with: composed configurations, quantiles and ranks of the draws.

The page asks of these tables what ``vnbench plan`` asks of the records, so its controls offer what stands in them.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vnbench.analysis.models.certification import Verdict
from vnbench.analysis.planning.capacity import CHEAPEST_FIRST, TIE, Configuration
from vnbench.analysis.planning.configurations import compose_configurations
from vnbench.analysis.planning.interruptions import sum_of_uniforms
from vnbench.analysis.planning.spread import (
    BRACKETED,
    NUM_DRAWS,
    PERCENTILES,
    PROBABILITIES,
    SMALLEST_FACTOR,
    drawn_loading,
    quantiles_of,
    ranks_of,
)
from vnbench.commands.plan.answer import MEMORY, PlanReport
from vnbench.commands.plan.asked import with_examples
from vnbench.output.words.capacity_plan import named
from vnbench.output.words.commands import options_of_records, sweep_command
from vnbench.records.record import TrialRecord
from vnbench.records.spec.precisions import PRECISIONS
from vnbench.units import BYTES_PER_UNIT, format_duration, gib

EXAMPLES = (500, 1_000, 2_000, 5_000, 10_000, 15_000, 30_000)
"""Training examples that the page offers, beside those of the report's own run."""

BATCH_SIZES = (1, 2, 4, 8, 16, 32)
"""Batches that the page offers, beside those of the records, where a micro-batch divides them."""

MEMORY_GIB = (0.125, 0.25, 0.5, 1, 2, 4, 6, 8, 11, 12, 16, 20, 24, 32, 40, 48, 64, 80, 94, 141, 192, 288)
"""Memory of cards that the page offers, as far as it tells configurations apart."""

MAX_INTERRUPTIONS: Final = 8
"""Interruptions that the page offers, or those of the report where they are more, up to MOST_INTERRUPTIONS."""

MOST_INTERRUPTIONS: Final = 40
"""Each has a table of its own."""

VERDICT_LETTERS: dict[Verdict, str] = {"fits": "f", "tight": "t", "does not fit": "n", "unknown": "u"}

Rows = list[list[Any] | None]

SNAPSHOT_MINUTES = (1, 5, 15, 30, 60, 120)

PUBLISHED = (("Binary", 2_000, 50, 1), ("Multiclass", 15_000, 50, 16))
"""The two published training runs: examples, epochs and batch."""

LEVER_LABELS = {"micro_batch_size": "Micro-batch", "norm_precision": "Precision of the norm"}


def planner_view(
    report: PlanReport,
    latest: Sequence[TrialRecord],
    *,
    command: str,
    cards: tuple[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Return what the page shows of the planner: its tables, and what its controls offer.

    ``command`` is the one that plans from the same records, without what the controls say; ``cards`` are the card of
    the planner and the others on the page, if there are others.
    """
    tables = planner_tables(report, latest)
    configurations = tables["configurations"]
    batch_sizes = sorted({one["levers"]["batch_size"] for one in configurations})
    levers = []
    for name in tables["lever_names"]:
        values = sorted({one["levers"][name] for one in configurations}, key=lambda value: (str(type(value)), value))
        if name != "batch_size" and len(values) > 1:
            label = LEVER_LABELS.get(name, name.replace("_", " ").capitalize())
            levers.append({"name": name, "option": name.replace("_", "-"), "label": label, "choices": values})
    return {
        "tables": tables,
        "levers": levers,
        "has_forecasts": any(one.evidence == "forecast" for one in report.runs),
        "batch_sizes": batch_sizes,
        "workers": sorted({supply[0] for one in configurations for supply in one["supplies"]}),
        "presets": [
            {
                "name": f"{name} run: {examples:,} examples, {epochs} epochs, batch {batch}",
                "address": f"examples={examples}&epochs={epochs}&batch-size={batch}&interruptions=0",
                "is_offered": batch in batch_sizes,
            }
            for name, examples, epochs, batch in PUBLISHED
        ],
        "num_not_offered": max(0, (report.asked.interruptions.count or 0) - tables["max_interruptions"]),
        "snapshot_minutes": SNAPSHOT_MINUTES,
        "restart": format_duration(tables["run"]["restart_s"]),
        "snapshot": format_duration(tables["run"]["snapshot_s"]),
        "command": command,
        "cards": cards,
    }


def planner_tables(report: PlanReport, latest: Sequence[TrialRecord]) -> dict[str, Any]:
    """Return the tables, as JSON values; ``latest`` are the records that the report was planned from."""
    batch_sizes = tuple(sorted(report.measured.batch_sizes | set(BATCH_SIZES)))
    asked = replace(report.asked, batch_sizes=batch_sizes, num_epochs=1)
    own = len(asked.train_sizes_N2)
    examples = sorted({*EXAMPLES, own})
    found: dict[tuple[Any, ...], tuple[Configuration, Rows]] = {}
    memory = _memory(report)
    for place, count in enumerate(examples):
        resized = asked if count == own else with_examples(asked, report.values, latest, count=count)
        for one in compose_configurations(resized, report.measured):
            # Workers are a choice beside the configuration: how many are best depends on the examples.
            key = tuple(value for name, value in one.levers.items() if name != "num_workers")
            rows = found.setdefault(key, (one, [None] * len(examples)))[1]
            rows[place] = _row(one, num_examples=count, memory=[size for _, size in memory])
    freedoms = sorted({freedom for one, _ in found.values() for freedom in _freedoms(one)})
    inside = asked.interruptions
    max_interruptions = min(max(MAX_INTERRUPTIONS, inside.count or 0), MOST_INTERRUPTIONS)
    return {
        "num_draws": NUM_DRAWS,
        "measure_memory": sweep_command(options_of_records(latest), MEMORY),
        "percentiles": PERCENTILES,
        "smallest_factor": SMALLEST_FACTOR,
        "bracketed": BRACKETED,
        "ranks": {part: _packed(ranks, "<u2") for part, ranks in ranks_of(asked.seed).items()},
        "quantiles": [_packed(quantiles_of(freedom)[: NUM_DRAWS // 2], "<f4") for freedom in freedoms],
        "sums": [
            _packed(sum_of_uniforms(PROBABILITIES[: NUM_DRAWS // 2], count), "<f4")
            for count in range(1, max_interruptions + 1)
        ],
        "max_interruptions": max_interruptions,
        "examples": examples,
        "memory": memory,
        "precisions": list(PRECISIONS),
        "preferences": {name: one.preference for name, one in PRECISIONS.items()},
        "tie": TIE,
        "lever_names": [name for name in CHEAPEST_FIRST if name != "num_workers"],
        "run": {
            "examples": own,
            "epochs": report.asked.num_epochs,
            "window_s": report.asked.window_s,
            "interruptions": inside.count or 0,
            "restart_s": inside.restart_s,
            "snapshot_s": inside.snapshot_s,
        },
        "configurations": [
            _configuration(one, rows, freedoms, report.measured.batch_sizes) for one, rows in found.values()
        ],
    }


def _configuration(
    one: Configuration, rows: Rows, freedoms: Sequence[float], measured_batches: frozenset[int]
) -> dict[str, Any]:
    levers = {name: value for name, value in one.levers.items() if name != "num_workers"}
    return {
        "levers": levers,
        "is_measured_batch": levers["batch_size"] in measured_batches | {levers["micro_batch_size"]},
        "words": named(replace(one, levers=levers)),
        "freedoms": [freedoms.index(one.run.computing.dof), freedoms.index(one.run.computing.processes_dof)],
        "supplies": [_loading(other, freedoms) for other in _supplied(one)],
        "own_loading": _loading(one, freedoms),
        "rows": rows,
    }


def _loading(one: Configuration, freedoms: Sequence[float]) -> list[Any]:
    loading = drawn_loading(one.run)
    return [one.levers["num_workers"], loading.relative_error or 0.0, freedoms.index(loading.dof)]


def _supplied(one: Configuration) -> list[Configuration]:
    """Return a configuration with each number of workers that was measured, for one example."""
    return [one.supplied_by(supply, num_examples=1) for supply in one.supplies]


def _freedoms(one: Configuration) -> set[float]:
    computing = one.run.computing
    return {computing.dof, computing.processes_dof, *(drawn_loading(other.run).dof for other in (one, *_supplied(one)))}


def _row(one: Configuration, *, num_examples: int, memory: Sequence[float | None]) -> list[Any]:
    run, parts = one.run, one.run.computing
    workers = [supply.num_workers for supply in one.supplies]
    epochs = [one.epoch_with(supply, num_examples=num_examples) for supply in one.supplies] or [run.epoch]
    return [
        run.num_steps,
        *_short(run.epoch.computing_s, parts.coefficients, parts.sizes, parts.processes, run.validation_s, run.once_s),
        workers.index(one.levers["num_workers"]) if workers else None,
        [_short(epoch.loading_s, epoch.total_s) for epoch in epochs],
        one.evidence,
        one.need_bytes,
        "".join(VERDICT_LETTERS[one.worst_case.verdict(size)] for size in memory),
        *([_short(*run.bracket), one.worst_case.least_bytes] if one.evidence == "forecast" else ()),
    ]


def _short(*values: float) -> list[float]:
    """Return numbers to eight digits: they are plenty, and half of what the page would carry."""
    return [float(f"{value:.8g}") for value in values]


def _memory(report: PlanReport) -> list[tuple[str, float | None]]:
    """Return the memory that the page offers, with its name: that of the report, and common cards about the needs."""
    given = report.asked.memory_bytes
    as_found = "as forecast" if report.origin.is_forecast else "as measured"
    own = as_found if given is None else f"{gib(given):.4g} GiB"
    needs = [one.need_bytes for one in report.runs if one.need_bytes is not None]
    sizes = [size * BYTES_PER_UNIT["GiB"] for size in MEMORY_GIB]
    telling = [size for size in sizes if needs and min(needs) / 2 <= size <= 4 * max(needs) and size != given]
    return [(own, given), *((f"{gib(size):.4g} GiB", float(size)) for size in telling)]


def _packed(values_N: NDArray[Any], layout: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values_N, dtype=layout).tobytes()).decode()
