"""What fits at the worst case, the memory law behind it, and the effect of each lever of the leanest recipe.

Run with: vnbench sweep --config benchmarks/definitions/memory_search.toml --out results/cpu-amd-epyc/memory.jsonl
          vnbench sweep --config benchmarks/definitions/memory_times.toml --out results/cpu-amd-epyc/memory.jsonl
          vnbench sweep --config benchmarks/definitions/memory_soak.toml --out results/cpu-amd-epyc/memory.jsonl
          python benchmarks/experiments/memory_report.py results/cpu-amd-epyc/memory.jsonl --out reports

The first command searches, the second times one image on several canvases, the third measures the worst case after
passes of mixed widths. All write to one file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from markdown_page import records_page_name, write_page
from matplotlib.figure import Figure
from recipe import Choice, Cost, LeverCost, choice_of, leanest, take_levers_away

from vnbench.analysis.models.certification import Certificate, certify
from vnbench.analysis.models.max_batch import MaxBatchSummary, summarize_search
from vnbench.analysis.trials.compute import summarize_compute
from vnbench.analysis.trials.memory_law import CARD_SIZES_GIB, NEAR_LIMIT, USABLE, fit_memory_law, fits_right_ratio
from vnbench.batching.sizes import SizeArray, SizeDistribution, draw_sizes
from vnbench.output.plots.style import legend_below, new_figure, save, styled
from vnbench.output.tables.certification import certificate_columns, explanations
from vnbench.output.tables.lever_columns import lever_columns
from vnbench.output.view import Column, View
from vnbench.output.words.levers import varying
from vnbench.output.words.numbers import MISSING, format_estimate, significant
from vnbench.output.words.provenance import CPU_LABEL, Provenance, note_on_peaks, provenance
from vnbench.records.placement import placed
from vnbench.records.record import TrialRecord, of_kind
from vnbench.records.spec.trial_spec import MemorySpec
from vnbench.records.store import load_all
from vnbench.sweep.search import probes_of
from vnbench.units import BYTES_PER_UNIT, PixelRange, format_bytes, format_percent, gib

NUM_SIZES = 2000
"""Number of images on whose steps a plan by mean size is tried. Their widths (heights) are uniform from a quarter
(three
quarters) of the worst case up to it, such as 3,200 to 12,800 x 480 to 640 px."""

LOGICAL_BATCH = 16
"""Batch of the published run, to show what accumulation saves."""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder of the report")
    options = parser.parse_args(arguments)

    records = load_all(placed(options.results)).records
    searches = find_searches(records)
    if not searches:
        print(f"{options.results}: holds no search; run vnbench sweep --find-max-batch first", file=sys.stderr)
        return 2
    costs = costs_of(searches, records)
    recipe = leanest(costs)
    origin = provenance(records)
    name = records_page_name("memory", records)
    options.out.mkdir(parents=True, exist_ok=True)
    levers = take_levers_away(recipe, costs)
    with styled():
        save(waterfall(recipe, costs[recipe], levers, origin=origin), options.out, name=name)
    blocks = [
        *heading(searches[0], origin, num_records=len(records)),
        *note_on_peaks(records),
        *search_table(searches),
        *lever_table(recipe, costs[recipe], levers, searches),
        f"![Memory of the recipe without each lever]({name}.png)",
        *(card_table(searches) if origin.device_type == "cuda" else ()),
        *canvas_table(records),
        *certification(records),
    ]
    write_page(blocks, options.out / f"{name}.md", script=__file__, arguments=arguments)
    return 0


def find_searches(records: Sequence[TrialRecord]) -> list[MaxBatchSummary]:
    memory = [record for record in of_kind(records, MemorySpec) if record.spec.soak is None]
    widest = max((record.spec.worst_case_width for record in memory), default=0)
    # A search begins with one example; trials at another micro-batch alone are not a search.
    bases = list(
        dict.fromkeys(
            one.spec for one in memory if one.spec.worst_case_width == widest and one.spec.micro_batch_size == 1
        )
    )
    summaries = []
    for base in bases:
        sizes_N2 = likely_sizes(base.worst_case_height, base.worst_case_width)
        own = probes_of(base, memory)
        summaries.append(summarize_search(base, own, train_sizes_N2=sizes_N2, sampler="bucketed"))
    return sorted(summaries, key=lambda one: one.found.largest)


def likely_sizes(height: int, width: int) -> SizeArray:
    widths, heights = PixelRange(start=width // 4, stop=width), PixelRange(start=3 * height // 4, stop=height)
    return draw_sizes(SizeDistribution(widths=widths, heights=heights), NUM_SIZES, seed=0)


def costs_of(searches: Sequence[MaxBatchSummary], records: Sequence[TrialRecord]) -> dict[Choice, Cost]:
    """Return the cost of a further worst-case example in each configuration with a memory law."""
    times: dict[Choice, tuple[float, float | None]] = {}
    for row in summarize_compute(record for record in records if record.kind == "compute"):
        largest = max(row.canvases, key=lambda canvas: canvas.padded_pixels, default=None)
        if largest is not None and row.spec.batch_size == 1:
            time = largest.step_time
            times[choice_of(row.spec)] = (time.value, time.relative_half_width)
    costs = {}
    for search in searches:
        if search.law is not None:
            step_time_s, relative_half_width = times.get(choice_of(search.spec), (None, None))
            costs[choice_of(search.spec)] = Cost(
                bytes_per_example=search.law.bytes_per_pixel * search.pixels_per_example,
                largest_micro_batch=search.found.largest,
                step_time_s=step_time_s,
                relative_half_width=relative_half_width,
            )
    return costs


def heading(search: MaxBatchSummary, origin: Provenance, *, num_records: int) -> list[str]:
    spec = search.spec
    size = f"{spec.worst_case_height} x {spec.worst_case_width:,} px"
    memory = "unknown memory" if search.capacity_bytes is None else format_bytes(search.capacity_bytes)
    return [
        f"# Memory at the worst case of {size}: {spec.model} in {memory}",
        f"{origin.line(f'{num_records} trials')}. {CPU_LABEL + '.' if origin.is_cpu else ''}",
        "Every figure is of whole training steps, each in a process of its own. The largest micro-batch and the next "
        "one were seen in two processes each (? where not). The law is peak = fixed + per example x examples; its "
        "error is that at a micro-batch which it was fitted without. The next one ran out where the law gives it so "
        "much of the memory: the rest is what is no tensor. Planned by the mean size: what the mean of "
        f"{NUM_SIZES:,} images of a quarter of that width and more, and three quarters of that height and more, would "
        "suggest for the same memory, and the share of an epoch's bucketed steps that would then not fit.",
    ]


def search_table(searches: Sequence[MaxBatchSummary]) -> list[str]:
    lines = [
        "| precision | norm | checkpointing | largest micro-batch | the next one | ran out at | peak, GiB | fixed, GiB "
        "| per example, GiB | law's error, median and worst | by the mean size | steps that fail |",
        "|---|---|---|---:|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for search in searches:
        found, law, mean, blocker = search.found, search.law, search.by_mean_size, search.found.blocker
        why = MISSING if blocker is None else f"{blocker.status}, {blocker.cause.kind if blocker.cause else ''}"
        cells = [
            *choice_of(search.spec),
            f"{found.largest}{'' if found.is_confirmed else ' ?'}",
            why,
            MISSING if search.ran_out_ratio is None else format_percent(search.ran_out_ratio),
            MISSING if search.peak_bytes is None else significant(gib(search.peak_bytes)),
            MISSING if law is None else significant(gib(law.bytes_fixed), digits=2),
            MISSING if law is None else significant(gib(law.bytes_per_pixel * search.pixels_per_example)),
            MISSING
            if law is None or law.loo_error_median is None or law.loo_error_max is None
            else f"{100 * law.loo_error_median:.2f} and {100 * law.loo_error_max:.2f} %",
            MISSING if mean is None else str(mean.micro_batch_size),
            MISSING if mean is None else format_percent(mean.failing_steps_ratio),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return ["## What fits", "\n".join(lines)]


def lever_table(
    recipe: Choice, cost: Cost, levers: Sequence[LeverCost], searches: Sequence[MaxBatchSummary]
) -> list[str]:
    lines = [
        "| recipe | largest micro-batch | GiB per example | step of one example, s | price of the lever, s per GiB |",
        "|---|---:|---:|---:|---:|",
        f"| {told(recipe)} | {' | '.join(figures(cost))} | |",
    ]
    for lever in levers:
        price = format_estimate(lever.price_s_per_gib, lever.price_half_width_s_per_gib, is_difference=True)
        lines.append(f"| without {lever.lever} | {' | '.join(figures(lever.without))} | {price} |")
    search = next(search for search in searches if choice_of(search.spec) == recipe)
    return [
        "## What each lever buys",
        "The recipe that takes least memory, and the same without one lever at a time. A lever's price is the step "
        "time that it costs per GiB that it saves, both for one worst-case example; below zero it saves time as well.",
        "\n".join(lines),
        *accumulation_table(search),
    ]


def accumulation_table(search: MaxBatchSummary) -> list[str]:
    """Return a table of a logical batch's cost under the recipe, with and without accumulation, for any sampler."""
    if search.law is None:
        return []
    lines = [
        "| recipe | examples in a pass | passes of a step | peak by the law, GiB | seen to fit |",
        "|---|---:|---:|---:|---|",
    ]
    for told_as, size in (
        ("accumulated one by one", 1),
        ("as many in a pass as fit, by halves", fitting_divisor(search.found.largest)),
        ("without accumulation", LOGICAL_BATCH),
    ):
        peak = significant(gib(search.law.peak_bytes(size * search.pixels_per_example)))
        fits = "yes" if size <= search.found.largest else "no"
        lines.append(f"| {told_as} | {size} | {LOGICAL_BATCH // size} | {peak} | {fits} |")
    return [
        f"A step of {LOGICAL_BATCH} worst-case examples under the recipe. No sampler changes these rows: each of them "
        "may fill a pass with the largest images; a pixel budget holds passes of smaller images to the same memory.",
        "\n".join(lines),
    ]


def fitting_divisor(largest: int) -> int:
    """Return the largest divisor of the logical batch that fits."""
    return max(size for size in range(1, LOGICAL_BATCH + 1) if LOGICAL_BATCH % size == 0 and size <= max(1, largest))


def figures(cost: Cost) -> list[str]:
    half_width = None
    if cost.step_time_s is not None and cost.relative_half_width is not None:
        half_width = cost.relative_half_width * cost.step_time_s
    return [
        str(cost.largest_micro_batch),
        significant(gib(cost.bytes_per_example)),
        format_estimate(cost.step_time_s, half_width),
    ]


def card_table(searches: Sequence[MaxBatchSummary]) -> list[str]:
    lines = [
        f"| precision | norm | checkpointing | {' | '.join(f'{size} GiB' for size in CARD_SIZES_GIB)} |",
        f"|---|---|---|{'---:|' * len(CARD_SIZES_GIB)}",
    ]
    for search in searches:
        cells = [on_card(search, size) for size in CARD_SIZES_GIB]
        lines.append(f"| {' | '.join((*choice_of(search.spec), *cells))} |")
    return [
        "## On other cards",
        f"Largest micro-batch that the law puts into {format_percent(USABLE)} of a card, and in brackets into all of "
        "it (tight). What was not measured on such a card is a forecast.",
        "\n".join(lines),
    ]


def certification(records: Sequence[TrialRecord]) -> list[str]:
    """Return the worst case's memory after passes of mixed widths compared with alone, if measured."""
    certificates = certify(records)
    families = {one.spec.family for one in certificates if one.spec.soak is not None}
    rows = [one for one in certificates if one.spec.family in families]
    if not rows:
        return []
    names = [name for name in varying([row.spec for row in rows]) if name not in ("batch_size", "micro_batch_size")]
    micro_batch: Column[Certificate] = Column("micro-batch", lambda row: row.spec.micro_batch_size)
    view = View(rows, (*lever_columns(names, lambda row: row.spec), micro_batch, *certificate_columns(rows)))
    notes = explanations(is_cpu=rows[0].spec.device == "cpu")
    return ["## After passes of mixed widths", *notes, view.markdown()]


def canvas_table(records: Sequence[TrialRecord]) -> list[str]:
    """Return the law fitted to one example's peaks on several canvases, with its error at each canvas left out."""
    lines = [
        "| precision | norm | checkpointing | canvases | fixed, MiB | bytes per padded pixel | error, median "
        "| error, largest | fits or not, right |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in summarize_compute(record for record in records if record.kind == "compute"):
        law, right = fit_memory_law(row.peaks), fits_right_ratio(row.peaks)
        if law is None or law.loo_error_median is None or law.loo_error_max is None or right is None:
            continue
        cells = [*choice_of(row.spec), str(len(row.peaks)), f"{law.bytes_fixed / BYTES_PER_UNIT['MiB']:.1f}"]
        cells += [
            f"{law.bytes_per_pixel:.1f}",
            f"{100 * law.loo_error_median:.3f} %",
            f"{100 * law.loo_error_max:.3f} %",
        ]
        lines.append(f"| {' | '.join((*cells, format_percent(right)))} |")
    if len(lines) == 2:
        return []
    margins = ", ".join(f"{100 * margin:.0f}" for margin in NEAR_LIMIT)
    return [
        "## The law over canvases",
        "The same law fitted to the peaks of tensors of one example on several canvases. Its error is that at a canvas "
        f"which it was fitted without; fits or not is asked of memory {margins} % below and above each such peak.",
        "\n".join(lines),
    ]


def on_card(search: MaxBatchSummary, size_gib: int) -> str:
    card_bytes = size_gib * BYTES_PER_UNIT["GiB"]
    safe, tight = (search.on_card(card_bytes, share=share) for share in (USABLE, 1.0))
    return MISSING if safe is None else str(safe) if safe == tight else f"{safe} ({tight})"


def told(recipe: Choice) -> str:
    precision, norm_precision, checkpointing = recipe
    norm = "input precision" if norm_precision == "input" else norm_precision
    return f"{precision}, norm in {norm}, checkpointing {checkpointing}"


def waterfall(recipe: Choice, cost: Cost, levers: Sequence[LeverCost], *, origin: Provenance) -> Figure:
    """Draw the recipe's memory per example and, on top, the extra memory without each lever."""
    figure, axes = new_figure(
        title="What each lever saves",
        caption="Memory of one more of the largest images, with the recipe and without one of its levers. Beside: the "
        "largest micro-batch that fits, and its step of one image.",
        origin=origin,
        trials="slopes of fitted laws",
        remarks=[f"Recipe: {told(recipe)}."],
    )
    names = ["the recipe", *(f"without {lever.lever}" for lever in levers)]
    base = gib(cost.bytes_per_example)
    saved = [0.0, *(gib(lever.saved_bytes) for lever in levers)]
    places = range(len(names))
    axes.barh(places, [base] * len(names), color="#0072B2", label="the recipe")
    axes.barh(places, saved, left=base, color="#E69F00", hatch="////", edgecolor="#333333", label="without the lever")
    for place, (one, more) in enumerate(zip([cost, *(lever.without for lever in levers)], saved, strict=True)):
        time = "" if one.step_time_s is None else f", {figures(one)[2]} s"
        label = f"fits {one.largest_micro_batch}{time}"
        axes.annotate(label, (base + more, place), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(list(places), names, fontsize=8.5)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.9 * (base + max(saved)))
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("memory per image (GiB)")
    legend_below(axes)
    return figure


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
