"""Training steps compared with the floors of their machine: its arithmetic and its memory traffic.

Run with: python benchmarks/experiments/floors_report.py RECORDS \\
              --results results/cpu-amd-epyc/floors.json --out reports

Two ceilings are measured on the machine of the records: the rate of a large matrix product in each precision, and the
bytes per second of a large copy. A step's operations divided by the first, and the bytes that its operators read and
write divided by the second, are lower bounds of its time; the larger one is its floor. ``--report-only`` redraws the
report from the ceilings of an earlier run.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from floors_figure import figure_of
from floors_rows import Row, ceilings_of, configuration, rows_of, shared
from markdown_page import REPORT_ONLY, page_name, write_document, write_page
from torch.utils.benchmark import Timer

from vnbench.analysis.findings import Findings
from vnbench.errors import InputError
from vnbench.output.plots.style import save, styled
from vnbench.output.words.numbers import MISSING, significant, told
from vnbench.output.words.provenance import CPU_LABEL, Provenance, provenance
from vnbench.records.placement import placed
from vnbench.records.spec.words import DeviceType, Precision
from vnbench.records.store import load_all
from vnbench.trial.instruments.environment import describe_environment
from vnbench.trial.step.optimizer_step import autocast_dtype
from vnbench.trial.step.switches import set_arithmetic
from vnbench.units import count, format_percent


@dataclass(frozen=True, kw_only=True)
class Load:
    """Size of the work whose rate is a ceiling."""

    side: int
    """Rows and columns of the square matrices."""
    num_bytes: int
    """Bytes to copy."""


LOADS: dict[DeviceType, Load] = {
    "cpu": Load(side=2048, num_bytes=256 * 2**20),
    "cuda": Load(side=8192, num_bytes=2 * 2**30),
}

NUM_REPEATS = 7
"""Timings of each ceiling, in turn; the highest rate counts, because disturbances only lower a rate."""

MIN_TIMING_S = 0.3


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", type=Path, nargs="+", help="results files with compute trials")
    parser.add_argument("--results", type=Path, required=True, help="file for the ceilings")
    parser.add_argument("--out", type=Path, required=True, help="folder of the report")
    parser.add_argument(REPORT_ONLY, action="store_true", help="use the ceilings in the file")
    options = parser.parse_args(arguments)

    try:
        records = load_all([one for path in options.records for one in placed(path)]).records
        origin = provenance(records)
        findings = Findings(records)
        device: DeviceType = origin.device_type or "cpu"
        if options.report_only:
            document = json.loads(options.results.read_text(encoding="utf-8"))
        else:
            timed = {one.spec.precision for one in findings.compute if one.canvases}
            document = measured_document(device, sorted(timed), expected=origin.device_name)
            write_document(document, options.results)
    except (InputError, OSError) as error:
        parser.error(str(error))
    rows = rows_of(findings.compute, ceilings_of(document))
    if not rows:
        parser.error(f"{', '.join(map(str, options.records))}: no compute trials whose operations were counted")
    name = page_name("floors", machine=options.results.parent.name, date=max(origin.dates))
    options.out.mkdir(parents=True, exist_ok=True)
    with styled():
        save(figure_of(rows, origin=origin), options.out, name=name)
    blocks = report_blocks(rows, document, name=name, origin=origin)
    write_page(blocks, options.out / f"{name}.md", script=__file__, arguments=arguments)
    return 0


def measured_document(device: DeviceType, precisions: Sequence[Precision], *, expected: str | None) -> dict[str, Any]:
    """Return the rates of this machine, NUM_REPEATS timings each, with the environment.

    Raises:
        InputError: this is not the machine of the records.
    """
    environment = describe_environment(device)
    if environment["device_name"] != expected:
        raise InputError(
            "RECORDS",
            expected,
            allowed=f"is not this machine, {environment['device_name']}, whose ceilings would be measured",
            remedy=f"run it where the records were measured, or with {REPORT_ONLY}",
        )
    flop_per_s: dict[str, list[float]] = {precision: [] for precision in precisions}
    bytes_per_s = []
    for _ in range(NUM_REPEATS):
        for precision in precisions:
            flop_per_s[precision].append(matrix_rate(device, precision))
        bytes_per_s.append(copy_rate(device))
    return {"environment": environment, "flop_per_s": flop_per_s, "bytes_per_s": bytes_per_s}


def matrix_rate(device: DeviceType, precision: Precision) -> float:
    """Return the operations per second of a product of two random square matrices."""
    set_arithmetic(precision)
    side = LOADS[device].side
    left, right = (
        torch.randn(side, side, device=device).to(autocast_dtype(precision) or torch.float32) for _ in range(2)
    )
    return 2 * side**3 / seconds_of("left @ right", left=left, right=right)


def copy_rate(device: DeviceType) -> float:
    """Return the bytes per second, read and written, of a copy within the device's memory."""
    source = torch.randn(LOADS[device].num_bytes // 4, device=device)
    return 2 * LOADS[device].num_bytes / seconds_of("target.copy_(source)", source=source, target=source.clone())


def seconds_of(statement: str, **names: torch.Tensor) -> float:
    """Return the median time of a statement on all threads of this process, including a wait for the device."""
    timer = Timer(statement, globals=names, num_threads=torch.get_num_threads())
    return float(timer.blocked_autorange(min_run_time=MIN_TIMING_S).median)


def report_blocks(rows: Sequence[Row], document: dict[str, Any], *, name: str, origin: Provenance) -> list[str]:
    rates = ", ".join(
        f"{significant(max(values) / 1e9)} GFLOP/s in {precision}"
        for precision, values in document["flop_per_s"].items()
    )
    side, num_bytes = LOADS[origin.device_type or "cpu"].side, LOADS[origin.device_type or "cpu"].num_bytes
    num_trials = sum(row.num_processes for row in rows)
    return [
        f"# How far steps are from the floors of the machine: {shared(rows)}",
        f"{origin.line(count(num_trials, 'compute trial'))}. {CPU_LABEL + '.' if origin.is_cpu else ''}".strip(),
        f"Measured on this machine, the highest of {NUM_REPEATS} each: a product of two {side:,} x {side:,} matrices "
        f"runs at {rates}; a copy of {num_bytes // 2**20:,} MiB moves "
        f"{significant(max(document['bytes_per_s']) / 1e9)} GB/s, read and written. A step's own operations (without "
        "recomputation) over the one rate, and the bytes that its operators read and write, each once, over the other, "
        "are the two floors of the step as its operators stand: norms, activations and casts that a compiler would "
        "join each go over their maps. Steps are on the largest canvas that was measured.",
        "\n".join(table(rows)),
        best_line(rows),
        f"![Time of a step beside its two floors]({name}.png)",
    ]


def table(rows: Sequence[Row]) -> list[str]:
    lines = [
        "| configuration | canvas, px | step, ms | arithmetic, ms | memory traffic, ms | step over its floor "
        "| of peak arithmetic |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        cells = [
            configuration(row, rows),
            f"{row.height} x {row.width:,}",
            told(row.step_time * 1e3),
            significant(1e3 * row.arithmetic_s),
            MISSING if row.traffic_s is None else significant(1e3 * row.traffic_s),
            significant(row.over_floor, digits=2),
            format_percent(row.arithmetic_s / row.step_time.value),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def best_line(rows: Sequence[Row]) -> str:
    """Return how far the configuration with the highest throughput is from its floors, and which floor is higher."""
    best = max(rows, key=lambda row: row.valid_pixels / row.step_time.value)
    beside = [f"{significant(best.step_time.value / best.arithmetic_s, digits=2)} times what its arithmetic would"]
    if best.traffic_s is not None:
        beside.append(
            f"{significant(best.step_time.value / best.traffic_s, digits=2)} times what its memory traffic would"
        )
    return (
        f"Fastest by valid pixels is {configuration(best, rows)}: on {best.height} x {best.width:,} px its step takes "
        f"{' and '.join(beside)}."
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
