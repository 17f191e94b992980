"""What a framework's training loop adds to a pass, by canvas: Lightning's Trainer and Fabric over the own loop.

    python benchmarks/experiments/loop_report.py RECORDS --out reports

The records are those of benchmarks/definitions/loops.toml, or of loops_cuda.toml.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from markdown_page import records_page_name, write_page
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

from vnbench.analysis.trials.compute import ComputeSummary, summarize_compute
from vnbench.analysis.trials.loop_costs import TOLERATED_SHARE, LoopCost, break_even_px, on_any_canvas
from vnbench.analysis.trials.summary import latest_attempts
from vnbench.output.plots.style import DOTS_PER_INCH, WIDTH_INCHES, save, styled
from vnbench.output.tables.compute import added_ms
from vnbench.output.view import Column, View
from vnbench.output.words.numbers import significant
from vnbench.output.words.provenance import provenance
from vnbench.records.record import TrialRecord
from vnbench.records.spec.words import Loop, LoopFeatures
from vnbench.records.store import load_all
from vnbench.units import count, mpx

LOOPS: Mapping[Loop, str] = {
    "lightning": "Lightning, manual",
    "lightning-automatic": "Lightning, automatic",
    "fabric": "Fabric",
}
"""Names of the loops, by who calls the optimizer."""

FEATURES: Mapping[LoopFeatures, str] = {"barebones": "", "log": ", with log", "defaults": ", its defaults"}

MARKERS = "osD^v"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", type=Path, nargs="+", help="results files")
    parser.add_argument("--out", type=Path, required=True, help="folder of the report")
    options = parser.parse_args(arguments)
    records = latest_attempts(load_all(options.records).records)
    rows = [row for row in summarize_compute(records) if row.loop_costs]
    if not rows:
        parser.error("the records hold no framework's loop: measure them with benchmarks/definitions/loops.toml")
    name = records_page_name("loops", records)
    with styled():
        save(figure(rows), options.out, name=name)
    write_page(list(page(rows, records, name=name)), options.out / f"{name}.md", script=__file__, arguments=arguments)
    return 0


def page(rows: Sequence[ComputeSummary], records: Sequence[TrialRecord], *, name: str) -> Iterator[str]:
    """Yield the blocks of the page."""
    spec = rows[0].spec
    equal = [record.parity.differs_in is None for record in records if record.parity is not None]
    yield "# What a framework adds to a pass"
    yield (
        f"{provenance(records).line(count(len(records), 'trial'))}. {spec.model}, {spec.precision}, micro-batch "
        f"{spec.micro_batch_size}. In each process a step of the own loop and one of the framework's take turns on the "
        "same network and batch, so that neither processes nor drift are between them; figures are medians of the "
        "differences, with 95 % intervals from their order. A step here is one pass and its update."
    )
    yield (
        f"Before they were timed, {sum(equal)} of {count(len(equal), 'process')} trained to the same bits as the own "
        "loop, in windows of three, three and two passes."
    )
    yield View(
        [(row, whole) for row in rows if (whole := on_any_canvas(row.loop_costs)) is not None],
        [
            Column("loop", lambda pair: named(pair[0]), align="left"),
            Column("ms per pass over the own loop", lambda pair: told_ms(pair[1])),
            Column("pairs", lambda pair: str(pair[1].num_pairs)),
            Column(
                f"more than {100 * TOLERATED_SHARE:g} % of a step",
                lambda pair: border(pair[0].loop_costs, pair[1]),
            ),
        ],
    ).markdown()
    yield f"![What each loop adds, by canvas]({name}.png)"
    yield "## By canvas, in ms per pass"
    sizes = {(canvas.height, canvas.width): canvas for row in rows for canvas in row.canvases}
    by_row = [{(one.height, one.width): one.over_own_loop for one in row.canvases if one.over_own_loop} for row in rows]
    yield View(
        sorted(sizes, key=math.prod, reverse=True),
        [
            Column("canvas, px", lambda size: f"{size[0]} x {size[1]}", align="left"),
            Column("own step, ms", lambda size: own_ms([costs[size] for costs in by_row if size in costs])),
            *(
                Column(named(row), lambda size, costs=costs: told_ms(costs.get(size)))  # type: ignore[misc]
                for row, costs in zip(rows, by_row, strict=True)
            ),
        ],
    ).markdown()


def named(row: ComputeSummary) -> str:
    return LOOPS[row.spec.loop] + FEATURES[row.spec.loop_features]


def own_ms(costs: Sequence[LoopCost]) -> str:
    whole = on_any_canvas(costs)
    return "" if whole is None else significant(1000 * whole.own_s)


def told_ms(cost: LoopCost | None) -> str:
    """Return the milliseconds of a cost, with their interval."""
    return "" if cost is None else added_ms(cost)


def border(costs: Sequence[LoopCost], whole: LoopCost) -> str:
    """Return below which size of a pass the framework takes a larger share, for its cost and both ends of it."""
    middle = break_even_px(costs, whole.added_s)
    if whole.interval_s is None:
        return f"below {told_mpx(middle)}"
    low, high = (told_mpx(break_even_px(costs, end)) for end in whole.interval_s)
    return f"below {told_mpx(middle)} padded Mpx ({low} to {high})" if middle else f"on no canvas (up to {high})"


def told_mpx(pixels: float) -> str:
    """Return a size; beyond the canvases that were measured there is none to tell."""
    return significant(mpx(pixels)) if 0 < pixels < math.inf else "none" if not pixels else "all"


def figure(rows: Sequence[ComputeSummary]) -> Figure:
    """Return what each loop adds, in milliseconds and as a share of the own step, over the padded pixels of a pass."""
    drawn = Figure(figsize=(WIDTH_INCHES, 5.6), dpi=DOTS_PER_INCH, layout="constrained")
    above, below = drawn.subplots(2, 1, sharex=True)
    for place, (row, marker) in enumerate(zip(rows, MARKERS, strict=False)):
        shift = 1 + 0.02 * (place - (len(rows) - 1) / 2)
        label, color = named(row), f"C{place}"
        for cost in row.loop_costs:
            if cost.interval_s is None:
                continue
            pixels = shift * mpx(cost.padded_pixels)
            for axes, scale in ((above, 1000.0), (below, 100 / cost.own_s)):
                low, high = (scale * end for end in cost.interval_s)
                axes.vlines(pixels, low, high, color=color, linewidth=1)
                axes.plot(pixels, scale * cost.added_s, marker, color=color, markersize=4, label=label)
            label = "_"  # one entry of the legend per loop
    for axes in (above, below):
        axes.axhline(0, color="0.3", linewidth=0.8)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
    below.axhline(100 * TOLERATED_SHARE, color="0.3", linewidth=0.8, linestyle="--")
    below.annotate(f"{100 * TOLERATED_SHARE:g} %", (1, 100 * TOLERATED_SHARE), xycoords=("axes fraction", "data"))
    above.set_yscale("symlog", linthresh=2)
    above.yaxis.set_major_locator(FixedLocator([-20, -10, -5, -2, -1, 0, 1, 2, 5, 10, 20]))
    above.yaxis.set_major_formatter("{x:g}")
    above.set_ylabel("added to a pass, ms")
    below.set_ylabel("of a step of the own loop, %")
    below.set_xlabel("padded pixels of the pass, Mpx")
    drawn.legend(*above.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return drawn


if __name__ == "__main__":
    import sys

    sys.exit(main(sys.argv[1:]))
