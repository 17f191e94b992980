"""The cost of accumulation: sixteen examples per optimizer step in micro-batches of 16, 8, 4, 2 and 1.

Run with: python benchmarks/experiments/accumulation_report.py \\
              --results results/cpu-amd-epyc/accumulation.jsonl --out reports

It runs the sweep of accumulation.toml (with --device cuda, accumulation_cuda.toml), or what is left of it if records
exist. Then it compares accumulated gradients with those of a single pass, and writes the report. All rows train on the
same examples, with as many per step and the same loss.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean

from accumulation_figure import figure_of
from accumulation_gradients import MICRO_BATCH_SIZES, SIZES, Arithmetic, Difference, measure_differences
from accumulation_rows import PADDED, SHARE, STEP, VALID, Row, rows_of
from markdown_page import REPORT_ONLY, page_name, write_document, write_page

from vnbench.analysis.statistics.ratio import Ratio
from vnbench.analysis.trials.summary import latest_attempts
from vnbench.batching.accounts import account_for_epoch
from vnbench.batching.plan import PlanConfig
from vnbench.batching.sizes import SizeDistribution, draw_sizes
from vnbench.output.plots.style import save, styled
from vnbench.output.words.levers import describe, varying
from vnbench.output.words.numbers import MISSING, format_estimate, significant, supported, times
from vnbench.output.words.provenance import CPU_LABEL, note_on_peaks, provenance
from vnbench.output.words.row_notes import row_notes
from vnbench.records.placement import placed
from vnbench.records.spec.words import DeviceType, Padding, SamplerName
from vnbench.records.store import load_all
from vnbench.trial.instruments.environment import describe_environment
from vnbench.trial.instruments.timing import PHASES
from vnbench.units import PixelRange, count, format_bytes, format_percent, mpx, parse_pixel_range

DEFINITIONS: Mapping[DeviceType, str] = {
    "cpu": "definitions/accumulation.toml",
    "cuda": "definitions/accumulation_cuda.toml",
}

GRADIENTS = "accumulation_gradients.json"
"""File beside the records for the differences of gradients."""

TRUE_SIZES = SizeDistribution(widths=PixelRange(start=3200, stop=12_800), heights=PixelRange(start=480, stop=640))

NUM_EXAMPLES = 15_000
"""Examples of the published multiclass run, for whose plans padding is reported."""

ROUNDING = 1e-9
"""Relative difference in float64 below which only rounding is left; in fp32 a thousandth may be rounding."""

GROUPINGS: Mapping[SamplerName, str] = {"step-sorted": "by size", "random": "as drawn"}

HIDDEN_WAITING = "data_wait is the host's waiting: part of it hides behind kernels that are already queued."


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="records of the sweep")
    parser.add_argument("--out", type=Path, required=True, help="folder of the report")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(REPORT_ONLY, action="store_true", help="measure nothing, rewrite the report")
    options = parser.parse_args(arguments)

    if not options.report_only:
        code, options.results = run_sweep(options.results, device=options.device)
        if code:
            return code
    records = load_all(placed(options.results)).records
    rows = rows_of(records)
    if extra := {*varying([row.summary.spec for row in rows])} - {"sampler", "micro_batch_size"}:
        print(f"{options.results}: its trials also differ in {', '.join(sorted(extra))}", file=sys.stderr)
        return 2
    if not any(row.summary.num_processes for row in rows):
        print(f"{options.results}: holds no training trial with a valid time", file=sys.stderr)
        return 3
    gradients = options.results.with_name(GRADIENTS)
    if not options.report_only:
        write_differences(measure_differences(rows[0].summary.spec), gradients, device=options.device)
    elif not gradients.exists():
        print(f"{gradients}: is missing; run without {REPORT_ONLY}", file=sys.stderr)
        return 2
    differences = [Difference(**one) for one in json.loads(gradients.read_text(encoding="utf-8"))["differences"]]
    name = page_name("accumulation", machine=options.results.parent.name, date=records[0].started_at)
    options.out.mkdir(parents=True, exist_ok=True)
    origin = provenance(records)
    with styled():
        save(figure_of(rows, origin=origin), options.out, name=name)
    trials = count(len(latest_attempts(records)), "trial")
    blocks = [
        *heading(rows),
        *time_section(rows),
        f"![Time, memory and padding against the micro-batch]({name}.png)",
        *padding_section(rows[0].summary.spec.batch_size),
        *gradient_section(differences),
        *note_on_peaks(records),
        f"{origin.line(trials)}. {CPU_LABEL + '.' if origin.is_cpu else ''}".strip(),
    ]
    write_page(blocks, options.out / f"{name}.md", script=__file__, arguments=arguments)
    return 0


def run_sweep(results: Path, *, device: DeviceType) -> tuple[int, Path]:
    """Measure what the definition asks for and the file lacks.

    Returns:
        The exit code of vnbench sweep, and the file that it wrote: another one beside ``results`` if that holds another
        machine's records.
    """
    definition = Path(__file__).parents[1] / DEFINITIONS[device]
    sweep = [sys.executable, "-m", "vnbench", "sweep", "--config", str(definition), "--out", str(results), "--json"]
    done = subprocess.run(sweep, stdout=subprocess.PIPE, encoding="utf-8", check=False)
    return done.returncode, Path(json.loads(done.stdout)["out"]) if done.stdout else results


def write_differences(differences: Sequence[Difference], path: Path, *, device: DeviceType) -> None:
    document = {
        "environment": describe_environment(device),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "heights": str(SIZES.heights),
        "widths": str(SIZES.widths),
        "differences": [asdict(one) for one in differences],
    }
    write_document(document, path)


def heading(rows: Sequence[Row]) -> list[str]:
    spec = rows[0].summary.spec
    asked = tomllib.loads((Path(__file__).parents[1] / DEFINITIONS[spec.device]).read_text(encoding="utf-8"))
    heights, widths = (parse_pixel_range(asked[name], where=name) for name in ("heights", "widths"))
    scale = TRUE_SIZES.widths.stop / widths.stop
    sides = "the logs' true sizes" if scale == 1 else f"the logs' sides divided by {scale:.3g}"
    levers = describe(spec, names=("model", "task", "precision", "norm_precision", "checkpointing", "num_workers"))
    return [
        f"# What accumulation costs: {spec.batch_size} examples per optimizer step, {spec.model}",
        f"The same {spec.subset_size} examples in the same steps of {spec.batch_size}, with the same loss, forward and "
        f"backward in micro-batches of {spec.batch_size} to 1. By size: each step's examples are grouped into "
        "micro-batches of like sizes (sampler step-sorted); as drawn: they are not (random). One pass of "
        f"{spec.batch_size} as drawn is the padded batch of the published recipe. Images of {spanned(heights)} x "
        f"{spanned(widths)} px, {sides}; {levers}. Each trial in a process of its own.",
    ]


def time_section(rows: Sequence[Row]) -> list[str]:
    spec = rows[0].summary.spec
    lines = [
        "| micro-batch | grouped | passes | step, s | times the largest | valid Mpx/s | padded Mpx/s | padding "
        "| worst case, peak |",
        "|---:|---|---:|---:|---:|---:|---:|---:|---:|",
        *(f"| {' | '.join(time_cells(row))} |" for row in rows),
    ]
    phases = [
        f"| micro-batch | grouped | {' | '.join(f'{phase}, ms' for phase in PHASES)} | share of optimizer |",
        f"|---:|---|{'---:|' * (len(PHASES) + 1)}",
        *(f"| {' | '.join(phase_cells(row))} |" for row in rows),
    ]
    return [
        "## Time and memory",
        answer(rows),
        "\n".join(lines),
        "Means over processes with their 95 % intervals; those of the ratios hold for all rows together. Padding is "
        f"that of the {spec.subset_size} examples, the rounding up of sides to 32 px included. "
        "Worst case: one step on a micro-batch of the largest images.",
        "\n".join(phases),
        f"Per step, summed over its passes. {HIDDEN_WAITING if spec.device == 'cuda' else ''}".strip(),
        *noted(rows),
    ]


def noted(rows: Sequence[Row]) -> list[str]:
    """Return one list of reasons for missing figures and for doubt.

    Few steps are not a reason for doubt: no interval here depends on their number.
    """
    notes = row_notes(
        [
            replace(row.summary, warnings=tuple(one for one in row.summary.warnings if one.code != "few-steps"))
            for row in rows
        ]
    )
    return ["\n".join(f"- {note.removeprefix('! ')}" for note in notes)] if notes else []


def answer(rows: Sequence[Row]) -> str:
    """Return a comparison of the smallest micro-batch with the largest, the quickest one, and each one's memory."""
    timed = [row for row in rows if row.summary.num_processes]
    base = next(row for row in timed if row.ratio is None)
    single = min(timed, key=lambda row: row.micro_batch_size)
    if single is base:
        return "Only one micro-batch was timed."
    assert single.ratio is not None  # only the largest has no ratio
    size, passes = single.micro_batch_size, single.summary.spec.accumulation_steps
    padded, alone = (row.summary.subset_padding_ratio or 0.0 for row in (base, single))
    pixels = (1 - padded) / (1 - alone)
    quickest = min(timed, key=lambda row: row.ratio.value if row.ratio else 1.0)
    sentences = [
        f"A micro-batch of {size}, accumulated over {passes} passes and padded by {format_percent(alone)}"
        f"{', which is the rounding of sides to 32 px alone' if size == 1 else ''}, takes {told(single.ratio)} times "
        f"as long for the same examples as a micro-batch of {base.micro_batch_size} padded by "
        f"{format_percent(padded)}: {verdict(single.ratio)}.",
        f"It computes {pixels:.2f} times the pixels, each of which takes {told(single.ratio, per=pixels)} times as "
        "long.",
    ]
    if quickest is not single and quickest.ratio is not None:
        sentences.append(
            f"The least time is that of a micro-batch of {quickest.micro_batch_size}"
            f"{f', {grouped(quickest)}' if grouped(quickest) != MISSING else ''}: {told(quickest.ratio)} times."
        )
    return " ".join([*sentences, *needed_memory(rows)])


def told(ratio: Ratio, *, per: float = 1.0) -> str:
    """Return a ratio, divided by the exact number ``per``, with its interval."""
    return with_ends(ratio.value / per, None if ratio.interval is None else [end / per for end in ratio.interval])


def verdict(ratio: Ratio) -> str:
    """Return whether a ratio of times means slower or faster, and by what share of the base's time."""
    if ratio.interval is None:
        return "which of both is faster is not told by single processes"
    low, high = ratio.interval
    if low <= 1 <= high:
        return "which of both is faster is not told apart"
    changes = sorted(100 * abs(end - 1) for end in ratio.interval)
    how = "slower" if low > 1 else "faster"
    return f"it is {how}, by {with_ends(100 * abs(ratio.value - 1), changes, unit=' %')}"


def with_ends(value: float, ends: Sequence[float] | None, *, unit: str = "") -> str:
    """Return ``value (low to high)`` with the digits that the interval supports."""
    if ends is None:
        return f"{significant(value, digits=2)}{unit}"
    low, high = ends
    # In a skewed interval the nearer end decides how many digits are known.
    half_width = min(value - low, high - value)
    between = f"{supported(low, half_width)} to {supported(high, half_width)}{unit}"
    return f"{supported(value, half_width)}{unit} ({between})"


def needed_memory(rows: Sequence[Row]) -> list[str]:
    """Return a sentence about the worst cases of the largest and the smallest micro-batch that have one."""
    peaks = {row.micro_batch_size: peak for row in rows if (peak := row.summary.worst_case_peak_bytes) is not None}
    if not peaks:
        return []
    largest, least = max(peaks), min(peaks)
    return [
        f"At the worst case a micro-batch of {largest} needs {format_bytes(peaks[largest])}, one of {least} "
        f"{format_bytes(peaks[least])}."
    ]


def grouped(row: Row) -> str:
    spec = row.summary.spec
    return GROUPINGS[spec.sampler] if 1 < spec.micro_batch_size < spec.batch_size else MISSING


def time_cells(row: Row) -> list[str]:
    one = row.summary
    peak = one.worst_case_peak_bytes
    return [
        str(row.micro_batch_size),
        grouped(row),
        str(one.spec.accumulation_steps),
        told_figure(row, STEP),
        told(row.ratio) if row.ratio else "1" if one.num_processes else MISSING,
        told_figure(row, VALID, scale=mpx(1)),
        told_figure(row, PADDED, scale=mpx(1)),
        MISSING if one.subset_padding_ratio is None else format_percent(one.subset_padding_ratio),
        str(one.worst_case_status or MISSING) if peak is None else format_bytes(peak),
    ]


def phase_cells(row: Row) -> list[str]:
    phases = [told_figure(row, phase, scale=1000) for phase in PHASES]
    return [str(row.micro_batch_size), grouped(row), *phases, f"{told_figure(row, SHARE, scale=100)} %"]


def told_figure(row: Row, name: str, *, scale: float = 1.0) -> str:
    if name not in row.figures:
        return MISSING
    figure = row.figures[name]
    return format_estimate(scale * figure.value, times(figure.half_width, scale))


def spanned(side: PixelRange) -> str:
    return f"{side.start:,} to {side.stop:,}"


def padding_section(batch_size: int) -> list[str]:
    """Return the padding of the published run's plans, which does not depend on the measured sizes."""
    sizes_N2 = draw_sizes(TRUE_SIZES, NUM_EXAMPLES, seed=0)
    lines = [f"| micro-batch | {' | '.join(GROUPINGS.values())} |", f"|---:|{'---:|' * len(GROUPINGS)}"]
    for micro_batch_size in MICRO_BATCH_SIZES:
        accounts = [
            account_for_epoch(
                sizes_N2, PlanConfig(sampler=sampler, batch_size=batch_size, micro_batch_size=micro_batch_size)
            )
            for sampler in GROUPINGS
        ]
        lines.append(f"| {micro_batch_size} | {' | '.join(format_percent(one.padding_ratio) for one in accounts)} |")
    return [
        "## Padding at the true sizes",
        f"Plans of {NUM_EXAMPLES:,} logs of {spanned(TRUE_SIZES.heights)} x {spanned(TRUE_SIZES.widths)} px, "
        f"{batch_size} per step, without training.",
        "\n".join(lines),
    ]


def gradient_section(differences: Sequence[Difference]) -> list[str]:
    sizes = sorted({one.micro_batch_size for one in differences}, reverse=True)
    whole, least = sizes[0], sizes[-1]

    def values(size: int, padding: Padding, arithmetic: Arithmetic = "fp32") -> list[float]:
        return [
            one.gradient
            for one in differences
            if (one.micro_batch_size, one.padding, one.arithmetic) == (size, padding, arithmetic)
        ]

    def padded(size: int) -> str:
        return format_percent(fmean(one.padding_ratio for one in differences if one.micro_batch_size == size))

    rows = [
        f"| {size} | {padded(size)} | {ranged(values(size, 'plain'))} | {ranged(values(size, 'exact'))} "
        f"| {ranged(values(size, 'exact', 'float64'))} |"
        for size in sizes
    ]
    is_rounding = max(values(least, "exact", "float64")) < ROUNDING
    return [
        "## Gradient",
        f"The gradient of one step of {whole} examples in micro-batches by size against that of one pass of {whole}: "
        f"norm of the difference over the norm. Mean over {len({one.seed for one in differences})} drawn steps and "
        "weights, not trained, with the smallest and the largest; float64 on one of them. Images of "
        f"{spanned(SIZES.heights)} x {spanned(SIZES.widths)} px, no lever but padding.",
        "\n".join(
            [
                "| micro-batch | padding of the step | plain padding, fp32 | exact padding, fp32 | exact, float64 |",
                "|---:|---:|---:|---:|---:|",
                *rows,
            ]
        ),
        f"With plain padding, passes of {least} give a gradient that is off by {ranged(values(least, 'plain'))} of its "
        "norm: each micro-batch has another canvas, so norms and attention see other padding, and accumulation "
        f"follows another gradient. With `--padding exact` it is off by {ranged(values(least, 'exact'))} in fp32 and "
        f"by {ranged(values(least, 'exact', 'float64'))} in float64: "
        f"{'that is rounding, and nothing else' if is_rounding else 'more than rounding'}.",
    ]


def ranged(values: Sequence[float]) -> str:
    """Return the mean, with the smallest and the largest value if they differ."""
    spread = f" ({min(values):.2g} to {max(values):.2g})" if min(values) < max(values) else ""
    return f"{fmean(values):.2g}{spread}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
