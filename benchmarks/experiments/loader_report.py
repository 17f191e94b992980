"""The loader stage by stage, the number of workers that feed computing, and the effect of each loader switch.

Run with: vnbench sweep --config benchmarks/definitions/loader.toml --out results/cpu-amd-epyc/loader.jsonl
          vnbench sweep --config benchmarks/definitions/loader_switches.toml --out results/cpu-amd-epyc/loader.jsonl
          python benchmarks/experiments/loader_report.py results/cpu-amd-epyc/loader.jsonl --out reports
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from markdown_page import records_page_name, write_page

from vnbench.analysis.findings import Findings
from vnbench.analysis.models.overlap import Overlap, overlaps
from vnbench.analysis.trials.loading import LoaderSummary, StageSummary
from vnbench.output.plots.style import save, styled
from vnbench.output.plots.supply import supply_figure
from vnbench.output.tables.loader import LOADER_LEVERS, saturations, stage_name
from vnbench.output.words.levers import describe, differences, levers_of
from vnbench.output.words.numbers import MISSING, format_estimate, significant, times, told
from vnbench.output.words.provenance import CPU_LABEL, provenance
from vnbench.output.words.saturation import saturation_line
from vnbench.records.placement import placed
from vnbench.records.spec.axes import LOADER_FIELDS
from vnbench.records.store import load_all
from vnbench.units import BYTES_PER_UNIT, format_percent, gib, mpx


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder of the report")
    options = parser.parse_args(arguments)

    records = load_all(placed(options.results)).records
    found = Findings(records)
    rows = [row for row in found.loading if row.supply is not None]
    if not rows:
        print(f"{options.results}: holds no loader trial; run vnbench sweep --kind loader first", file=sys.stderr)
        return 2
    origin = provenance(records)
    name = records_page_name("loader", records)
    options.out.mkdir(parents=True, exist_ok=True)
    plain = [row for row in rows if not switched(row)]
    by_workers = [row for row in rows if switched(row) <= {"worker_kind"}]
    with styled():
        figure = supply_figure(by_workers, computing=found.compute, noise=found.noise, origin=origin)
        if figure is not None:
            save(figure, options.out, name=name)
    spec = rows[0].spec
    blocks = [
        f"# Loading: batches of {spec.micro_batch_size}, {spec.sampler}",
        f"{origin.line(f'{len(records)} trials')}. {CPU_LABEL + '.' if origin.is_cpu else ''}",
        "Images and masks are PNG files. Each stage holds those before it, and nothing is done with a batch but to ask "
        "for the next one. Cold: the files came from the disk. Intervals are 95 %.",
        "## Stage by stage",
        stage_table(sorted(plain, key=lambda row: row.spec.num_workers or 0)),
        "## What feeds computing",
        *(
            f"- {saturation_line(saturation, all_rows=by_workers)}"
            for saturation in saturations(by_workers, records, None)
        ),
        *([f"![Supply against workers]({name}.png)"] if figure is not None else []),
        *switch_section(rows),
        *overlap_section(overlaps(found.training, loading=rows, computing=found.compute)),
    ]
    write_page(blocks, options.out / f"{name}.md", script=__file__, arguments=arguments)
    return 0


def switched(row: LoaderSummary) -> set[str]:
    """Return the loader's switches that are not at their defaults."""
    return {name for name in LOADER_FIELDS if name in row.spec.canonical()}


def stage_table(rows: Sequence[LoaderSummary]) -> str:
    lines = [
        "| workers | stage | examples/s | valid Mpx/s | wait p50, ms | p90 | p99 | IPC, MiB per example "
        "| first batch, s | host, GiB |",
        "|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        for stage in row.stages:
            waits = (None, None, None) if stage.name == "plan" else stage.waits_s
            payload = stage.payload_bytes_per_example / BYTES_PER_UNIT["MiB"]
            cells = [
                str(row.spec.num_workers) if stage is row.stages[0] else "",
                stage_name(stage),
                rate(stage),
                significant(mpx(stage.valid_px_per_s), digits=2),
                *(significant(times(wait, 1e3), digits=2) for wait in waits),
                significant(payload) if payload > 0.01 else MISSING,
                significant(stage.start_up_s, digits=2),
                MISSING if stage.host_bytes is None else significant(gib(stage.host_bytes), digits=2),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def rate(stage: StageSummary) -> str:
    relative = stage.time_per_example.relative_half_width
    return format_estimate(stage.examples_per_s, times(stage.examples_per_s, relative))


def switch_section(rows: Sequence[LoaderSummary]) -> Iterator[str]:
    """Yield a table of every switch against its default, at the number of workers that was measured."""
    changed = [row for row in rows if len(switched(row)) == 1 and switched(row) != {"worker_kind"}]
    counts = {row.spec.num_workers for row in changed}
    base = next((row for row in rows if not switched(row) and row.spec.num_workers in counts), None)
    if base is None or base.supply is None:
        return
    threads = [row for row in rows if switched(row) == {"worker_kind"} and row.spec.num_workers in counts]
    lines = ["| changed | supply, examples/s | times the default | host, GiB |", "|---|---:|---:|---:|"]
    for row in (base, *threads, *changed):
        assert row.supply is not None
        names = differences(levers_of(row.spec), centre=levers_of(base.spec))
        told = describe(row.spec, names=[name for name in names if name in LOADER_LEVERS]) or "the defaults"
        ratio = row.supply.examples_per_s / base.supply.examples_per_s
        parts = [stage.supply.time_per_example.relative_half_width for stage in (row, base) if stage.supply]
        half_width = None if None in parts else ratio * sum((part or 0.0) ** 2 for part in parts) ** 0.5
        host = MISSING if row.supply.host_bytes is None else significant(gib(row.supply.host_bytes), digits=2)
        lines.append(
            f"| {told} | {rate(row.supply)} | {'1' if row is base else format_estimate(ratio, half_width)} | {host} |"
        )
    yield "## Switches of the loader"
    yield f"Each against the defaults, with {base.spec.num_workers} workers, files in the system's memory."
    yield "\n".join(lines)


def overlap_section(found: Sequence[Overlap]) -> Iterator[str]:
    """Yield training times compared with the expectation from its separate parts."""
    if not found:
        return
    lines = [
        "| workers | kind | loading alone, s | computing alone, s | step expected, s | step measured, s "
        "| waiting expected | waiting measured |",
        "|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    for one in sorted(found, key=lambda one: (one.training.spec.worker_kind, one.training.spec.num_workers or 0)):
        wait = one.training.data_wait_ratio
        cells = [
            str(one.training.spec.num_workers),
            one.training.spec.worker_kind if one.training.spec.num_workers else MISSING,
            significant(one.step.loading_s),
            significant(one.step.computing_s),
            significant(one.step.total_s),
            told(one.training.step_time),
            format_percent(one.expected_wait_ratio),
            MISSING if wait is None else format_percent(wait),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    yield "## Loading and computing together"
    yield (
        "Expected: the longer of both parts where workers load beside, their sum without workers. On a CPU both share "
        "the cores, so that what is hidden costs nevertheless."
    )
    yield "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
