"""The cost of samplers in training: throughput, padding, repeats and worst-case memory.

Run with: vnbench sweep --config benchmarks/definitions/samplers.toml --out results/cpu-amd-epyc/samplers.jsonl
          python benchmarks/experiments/sampler_report.py results/cpu-amd-epyc/samplers.jsonl --out reports

All samplers train on the same examples, with as many per optimizer step and the same loss, so they can be compared by
valid pixels per second.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from markdown_page import records_page_name, write_page

from vnbench.analysis.findings import Findings
from vnbench.analysis.trials.summary import TrialSummary
from vnbench.output.plots.repetition import repetition_figure
from vnbench.output.plots.style import save, styled
from vnbench.output.view import Column, View
from vnbench.output.words.levers import describe, varying
from vnbench.output.words.numbers import MISSING, format_estimate, scaled, times, told
from vnbench.output.words.provenance import note_on_peaks, provenance
from vnbench.records.placement import placed
from vnbench.records.spec.words import SAMPLER_NAMES
from vnbench.records.store import load_all
from vnbench.units import format_percent, gib, mpx

BASE = "random"
"""Sampler with which the others are compared."""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder of the report")
    options = parser.parse_args(arguments)

    records = load_all(placed(options.results)).records
    found, origin = Findings(records), provenance(records)
    rows = sorted(found.training, key=lambda row: SAMPLER_NAMES.index(row.spec.sampler))
    if {*varying([row.spec for row in rows])} != {"sampler"}:
        print(f"{options.results}: its trials must differ in their sampler, and in nothing else", file=sys.stderr)
        return 2
    name = records_page_name("batching", records)
    options.out.mkdir(parents=True, exist_ok=True)
    with styled():
        figure = repetition_figure(rows, origin=origin)
        assert figure is not None, "several samplers with pairs of examples"
        save(figure, options.out, name=name)
    footer = origin.line(f"{sum(record.kind == 'training' for record in records)} training trials")
    text = report_text(rows, figure_name=f"{name}.png", footer=footer)
    write_page([text, *note_on_peaks(records)], options.out / f"{name}.md", script=__file__, arguments=arguments)
    return 0


def report_text(rows: Sequence[TrialSummary], *, figure_name: str, footer: str) -> str:
    spec = rows[0].spec
    base = next((row for row in rows if row.spec.sampler == BASE), None)
    bound = format_percent(min(row.lower_bound_padding_ratio or 0.0 for row in rows))
    shared = describe(spec, names=("model", "task", "batch_size", "micro_batch_size", "precision", "num_workers"))
    columns: list[Column[TrialSummary]] = [
        Column("sampler", lambda row: row.spec.sampler, align="left"),
        Column("valid Mpx/s", lambda row: told(scaled(row.valid_px_per_s, mpx(1)))),
        Column(f"times {BASE}", lambda row: base and ratio_to(row, base)),
        Column("step, ms", lambda row: told(scaled(row.step_time, 1000))),
        Column("padding measured", lambda row: row.subset_padding_ratio, text=format_percent),
        Column("padding of the plan", lambda row: row.padding_ratio, text=format_percent),
        Column("pairs repeated", lambda row: row.repeated_pair_ratio, text=format_percent),
        Column("passes per epoch", lambda row: row.num_passes, text="{:,}".format),
        Column("largest pass, Mpx", lambda row: times(row.largest_padded_pixels, mpx(1)), text="{:.2f}".format),
        Column("worst case, GiB", lambda row: times(row.worst_case_peak_bytes, gib(1)), text="{:.2f}".format),
    ]
    lines = [
        f"# Samplers in training: {shared}",
        "",
        f"Each trained on the same {spec.subset_size} examples, {spec.batch_size} per optimizer step, with the same "
        f"loss. The plan is that of all {rows[0].num_examples:,} training examples; what was measured is the plan of "
        f"the {spec.subset_size}. Of so few, like sizes are rare: bucketed pads more and repeats more than it would "
        "in a training of thousands. Intervals are 95 %, between processes included.",
        "",
        View(rows, columns).markdown(),
        "",
        f"![Padding against repeated pairs]({figure_name})",
        "",
        f"No plan of as many passes pads less than {bound}. Pairs repeated: the share of a step's pairs that shared "
        "one in the epoch before or in the one before that, whichever is larger (not in either of them). Largest pass: "
        "the padded pixels that set the memory of an epoch. Worst case: the peak of one step on a micro-batch of the "
        "largest images; no sampler can ask for more, and pixel-budget fills passes of smaller images up to as many "
        "pixels.",
        "",
        footer,
    ]
    return "\n".join(lines)


def ratio_to(row: TrialSummary, base: TrialSummary) -> str:
    """Return the ratio of two rows' throughputs with an interval from both."""
    if row is base:
        return "1"
    if row.valid_px_per_s is None or base.valid_px_per_s is None:
        return MISSING
    ratio = row.valid_px_per_s.value / base.valid_px_per_s.value
    widths = (row.valid_px_per_s.relative_half_width, base.valid_px_per_s.relative_half_width)
    relative = None if None in widths else math.hypot(*(width or 0.0 for width in widths))
    return format_estimate(ratio, times(relative, ratio))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
