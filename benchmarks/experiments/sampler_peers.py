"""Padding and repeated pairs of vnbench's samplers, compared with those of other projects.

Run with: pip install -e '.[peers]'
          python benchmarks/experiments/sampler_peers.py --out reports

Each sampler has a knob that trades one for the other. The exit code is 1 if a target is missed, 2 without the peers.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
import timeit
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from markdown_page import write_page
from matplotlib.figure import Figure

from vnbench.batching.accounts import account, account_for_epoch
from vnbench.batching.alignment import IntArray, align
from vnbench.batching.bucketing import JITTER_BATCHES
from vnbench.batching.epoch import plan_epoch, worst_case_budget
from vnbench.batching.plan import BUDGETED_SAMPLER, BatchPlan, PlanConfig, starts
from vnbench.batching.samplers import Sampler, sample_bucketed, sample_random
from vnbench.batching.sizes import SizeArray, SizeDistribution, draw_sizes
from vnbench.records.readings import BatchingAccount
from vnbench.records.spec.words import SAMPLER_NAMES, SamplerName
from vnbench.trial.instruments.environment import describe_environment
from vnbench.units import PixelRange

PEER_MODULES = ("transformers.trainer_pt_utils", "lhotse.dataset.sampling", "lhotse.cut")
INSTALL = "pip install -e '.[peers]'"
NUM_EXAMPLES, BATCH_SIZE, EPOCHS = 12_000, 16, (0, 1, 2)
LOGS = SizeDistribution(widths=PixelRange(start=3200, stop=12800), heights=PixelRange(start=480, stop=640))
ONE_HEIGHT = SizeDistribution(widths=LOGS.widths, heights=PixelRange(start=640, stop=640))
PLANNED = (10_000, 100_000, 1_000_000)

JITTERS = np.geomspace(0.256, 390.625, 161).tolist()  # close enough that each peer's point has one with as many repeats
SHOWN_EVERY = 20  # every twentieth point of the curve has a row and a marker
MEGA_BATCHES = (2, 5, 10, 20, 50, 100, 200, 375)  # 1 would be random order, 750 one sorted epoch
BUCKETS = (2, 5, 10, 30, 100, 300)

HEAVY_TAILED = "heavy-tailed widths, heights of 480 to 640 px"
"""The panel where bucketed need not be ahead everywhere: its jitter is as wide for rare widths as for common ones."""

RANDOM, BUCKETED, DEFAULT = "vnbench random", "vnbench bucketed", "vnbench bucketed, default"
PEERS = GROUPED, DYNAMIC = "transformers length grouping", "lhotse dynamic buckets"
STYLES: dict[str, tuple[str, str, tuple[tuple[int, int], ...]]] = {
    BUCKETED: ("o-", "#0072B2", ((-10, -8), (-9, -8))),
    DEFAULT: ("*", "black", ((-10, -8), (-9, -8))),
    RANDOM: ("P", "black", ()),
    f"{GROUPED}, by width": ("s--", "#D55E00", ((3, -10), (9, -7))),
    f"{DYNAMIC}, by width": ("^:", "#009E73", ((5, 5), (9, 4))),
    f"{GROUPED}, by area": ("D-.", "#E69F00", ()),
    f"{DYNAMIC}, by area": ("v:", "#CC79A7", ()),
}
"""Marker with line, colour (Okabe and Ito) and the offset of a point's label, in points: of the panel of one height
apart from the others."""

INTRODUCTION = """\
Each sampler plans epochs 0, 1 and 2 of the same images, widths uniform from 3,200 to 12,800 px. A step is one
micro-batch, padded to the largest height by the largest width of its members, both aligned. Padding is the share of
padded pixels that no image covers; repeated is the share of a step's pairs that shared one in the epoch before, or two
before; lag-1 correlation is of neighbouring steps' mean widths. A knob trades padding for repeats: the mean jitter in
batches (bucketed), mega_batch_mult (transformers, 50 by default), num_buckets (lhotse, 10 by default; max_cuts=16,
shuffle=True, all else by default). Each peer's own code ran, but what they know differs: the peers group by one length,
here the width or the area, as they were made for sound and text; vnbench knows height and width. So the same is shown
for images of one height, where all know the same, and for widths with a heavy tail (Pareto with exponent 1.6, 3,200 to
40,000 px). lhotse may leave short batches: more steps, each of less padding.
"""
TABLE_HEAD = "| sampler | knob | padding | repeated | two before | lag-1 correlation | shapes | steps | ms to plan |"

Planner: TypeAlias = Callable[[int], tuple[IntArray, IntArray]]  # epoch -> order of the visit, examples of each step
Target: TypeAlias = tuple[str, str, str, bool]
"""Name of the target, the figure, its limit, and whether it is met."""


class Point(NamedTuple):
    family: str
    knob: str
    account: BatchingAccount  # of the last epoch, with the pairs repeated from those before
    seconds: float  # to plan an epoch, the median

    @property
    def costs(self) -> tuple[float, float]:
        return self.account.padding_ratio, most_repeated(self.account)


Panels: TypeAlias = Mapping[str, Sequence[Point]]
Times: TypeAlias = Mapping[SamplerName, Sequence[float]]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the report")
    options = parser.parse_args(arguments)
    try:
        peers = [importlib.import_module(name) for name in PEER_MODULES]
    except ImportError as error:
        print(f"{error}: install the samplers to compare with: {INSTALL}", file=sys.stderr)
        return 2

    panels = {
        "heights of 480 to 640 px": measure(draw_sizes(LOGS, NUM_EXAMPLES, seed=0), ("width", "area"), *peers),
        "one height, 640 px": measure(draw_sizes(ONE_HEIGHT, NUM_EXAMPLES, seed=0), ("width",), *peers),
        HEAVY_TAILED: measure(heavy_tailed_sizes(), ("width", "area"), *peers),
    }
    times = {sampler: planning_seconds(sampler) for sampler in SAMPLER_NAMES}
    ahead = [ahead_target(panel, points) for panel, points in panels.items() if panel != HEAVY_TAILED]
    targets = [*padding_targets(), *ahead]
    slowest_s = max(seconds[-1] for seconds in times.values())
    targets.append(
        ("planning a million examples, slowest sampler, CPU time", f"{slowest_s:.1f} s", "< 3 s", slowest_s < 3)
    )

    now = datetime.now(UTC)
    versions = ", ".join(f"{name} {version(name)}" for name in ("vnbench", "transformers", "lhotse"))
    footer = f"{NUM_EXAMPLES:,} examples, batches of {BATCH_SIZE}, {now:%Y-%m-%d}, {versions}"
    report = options.out / f"samplers_{now:%Y%m}.md"
    options.out.mkdir(parents=True, exist_ok=True)
    draw(panels, report.with_suffix(".png"), footer=footer)
    figure = f"![Padding against repeated pairs of each sampler]({report.stem}.png)\n\n{footer}"
    text = describe(panels, targets, times, figure=figure)
    write_page([text], report, script=__file__, arguments=arguments, before=[INSTALL])
    return 0 if all(is_met for *_, is_met in targets) else 1


def measure(sizes_N2: SizeArray, lengths_of: Sequence[str], grouping: Any, sampling: Any, cut: Any) -> list[Point]:
    """Return a point for every sampler and knob; ``lengths_of`` names what the peers use as an image's length."""
    planners: list[tuple[str, str, Planner]] = [(RANDOM, "", partial(plan_own, sizes_N2, sample_random))]
    planners.append((DEFAULT, f"{JITTER_BATCHES:g}", partial(plan_own, sizes_N2, sample_bucketed)))
    for jitter in JITTERS:
        sampler = partial(sample_bucketed, jitter_batches=jitter)
        planners.append((BUCKETED, f"{float(f'{jitter:.2g}'):g}", partial(plan_own, sizes_N2, sampler)))
    for name in lengths_of:
        lengths = (sizes_N2[:, 1] if name == "width" else sizes_N2.prod(axis=1)).tolist()
        for mult in MEGA_BATCHES:
            group = partial(grouping.get_length_grouped_indices, lengths, BATCH_SIZE, mega_batch_mult=mult)
            planners.append((f"{GROUPED}, by {name}", str(mult), partial(plan_grouped, group)))
        cuts = [cut.MonoCut(id=str(i), start=0, duration=n / 1000, channel=0) for i, n in enumerate(lengths)]
        for count in BUCKETS:
            buckets = sampling.DynamicBucketingSampler(cuts, max_cuts=BATCH_SIZE, num_buckets=count, shuffle=True)
            planners.append((f"{DYNAMIC}, by {name}", str(count), partial(plan_dynamic, buckets)))
    return [Point(family, knob, *run(sizes_N2, planner)) for family, knob, planner in planners]


def run(sizes_N2: SizeArray, planner: Planner) -> tuple[BatchingAccount, float]:
    canvases_N2, plans, seconds = align(sizes_N2), [], []
    for epoch in EPOCHS:
        start_s = timeit.default_timer()
        order_N, lengths_S = planner(epoch)
        seconds.append(timeit.default_timer() - start_s)
        canvases_S2 = np.maximum.reduceat(canvases_N2[order_N], starts(lengths_S), axis=0)
        ones_S = np.ones_like(lengths_S)
        plans.append(BatchPlan(order_N=order_N, lengths_M=lengths_S, canvases_M2=canvases_S2, passes_S=ones_S))
    # ``account`` refuses a plan that lacks an example or holds one twice.
    return account(sizes_N2, plans[-1], previous=plans[-2::-1]), float(np.median(seconds))


def plan_own(sizes_N2: SizeArray, sampler: Sampler, epoch: int) -> tuple[IntArray, IntArray]:
    return sampler(align(sizes_N2), config_of("bucketed"), np.random.default_rng(epoch))[:2]


def plan_grouped(group: Any, epoch: int) -> tuple[IntArray, IntArray]:
    order_N = np.array(group(generator=torch.Generator().manual_seed(epoch)))
    return order_N, np.diff(np.arange(0, len(order_N), BATCH_SIZE), append=len(order_N))


def plan_dynamic(sampler: Any, epoch: int) -> tuple[IntArray, IntArray]:
    sampler.set_epoch(epoch)
    steps = [[int(cut.id) for cut in batch] for batch in sampler]
    return np.array([i for step in steps for i in step]), np.array([len(step) for step in steps])


def config_of(sampler: SamplerName, *, micro_batch_size: int = BATCH_SIZE, budget: int | None = None) -> PlanConfig:
    return PlanConfig(sampler=sampler, batch_size=BATCH_SIZE, micro_batch_size=micro_batch_size, pixel_budget=budget)


def most_repeated(accounted: BatchingAccount) -> float:
    """Return the larger of the shares of pairs repeated from one and from two epochs before."""
    return max(accounted.repeated_pair_ratio or 0.0, accounted.repeated_pair_ratio_two_before or 0.0)


def heavy_tailed_sizes() -> SizeArray:
    """Return sizes of 480 to 640 px, and widths of 3,200 to 40,000 px by the law of Pareto with exponent 1.6."""
    rng = np.random.default_rng(0)
    widths_N = np.minimum(3200 * (1 + rng.pareto(1.6, size=NUM_EXAMPLES)), 40_000).astype(np.int64)
    return np.stack([rng.integers(480, 641, size=NUM_EXAMPLES), widths_N], axis=1)


def padding_targets() -> Iterator[Target]:
    sizes_N2 = draw_sizes(LOGS, NUM_EXAMPLES, seed=0)
    tailed_N2 = heavy_tailed_sizes()
    budget = worst_case_budget(sizes_N2, micro_batch_size=2)
    padding, repeated, _ = worst(sizes_N2, config_of("bucketed"))
    paired, *_ = worst(sizes_N2, config_of("step-sorted", micro_batch_size=2))
    budgeted, _, largest = worst(sizes_N2, config_of(BUDGETED_SAMPLER, micro_batch_size=2, budget=budget))
    tailed, tailed_random = (worst(tailed_N2, config_of(sampler))[0] for sampler in ("bucketed", "random"))
    for what, figure, limit in (
        ("padding of bucketed", padding, 0.05),
        ("pairs that bucketed repeats from one epoch before, or from two", repeated, 0.12),
        ("padding of step-sorted, micro-batches of 2", paired, 0.105),
        ("padding of pixel-budget, two worst-case images", budgeted, 0.06),
        ("largest micro-batch of pixel-budget, of its budget", largest / budget, 1.0),
        ("padding of bucketed, of random's, Pareto(1.6) widths of 3,200 to 40,000 px", tailed / tailed_random, 0.25),
    ):
        yield what, f"{100 * figure:.1f} %", f"≤ {100 * limit:g} %", bool(figure <= limit)


def worst(sizes_N2: SizeArray, config: PlanConfig) -> list[float]:
    """Return the maxima over epochs 2 to 9 of padding, repeated pairs and the largest micro-batch's pixels."""
    accounts = [account_for_epoch(sizes_N2, config, epoch=epoch) for epoch in range(2, 10)]
    costs = [(one.padding_ratio, most_repeated(one), one.largest_padded_pixels or 0) for one in accounts]
    return [max(values) for values in zip(*costs, strict=True)]


def ahead_target(panel: str, points: Sequence[Point]) -> Target:
    num_peers, num_left = sum(point.family.startswith(PEERS) for point in points), len(not_beaten(points))
    what = f"points of the peers that the curve of bucketed is ahead of, {panel}"
    return what, f"{num_peers - num_left} of {num_peers}", "all", num_left == 0


def not_beaten(points: Sequence[Point]) -> list[Point]:
    """Return the peers' points that no point of the curve beats in one cost without losing in the other."""
    curve = np.array([point.costs for point in points if point.family == BUCKETED])
    peers = (point for point in points if point.family.startswith(PEERS))
    return [p for p in peers if not ((curve <= p.costs).all(axis=1) & (curve < p.costs).any(axis=1)).any()]


def planning_seconds(sampler: SamplerName) -> list[float]:
    best = []
    for sizes_N2 in (draw_sizes(LOGS, num_examples, seed=0) for num_examples in PLANNED):
        budget = worst_case_budget(sizes_N2, micro_batch_size=2) if sampler == BUDGETED_SAMPLER else None
        plan = partial(plan_epoch, sizes_N2, config_of(sampler, micro_batch_size=2, budget=budget), epoch=0)
        best.append(min(timeit.repeat(plan, number=1, repeat=3, timer=time.process_time)))
    return best


def describe(panels: Panels, targets: Sequence[Target], times: Times, *, figure: str) -> str:
    lines = ["# Padding against repeated pairs, samplers side by side", "", INTRODUCTION, figure, ""]
    for panel, points in panels.items():
        lines += [f"Is bucketed's curve ahead of both peers everywhere? With {panel}: {verdict(points)}", ""]
    lines += ["| target (of plans, the worst of epochs 2 to 9) | figure | limit | |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(texts)} | {'met' if is_met else '**missed**'} |" for *texts, is_met in targets]
    for panel, points in panels.items():
        bound = percent(points[0].account.lower_bound_padding_ratio)
        lines += ["", f"## {panel.capitalize()}", "", f"No 750 batches of 16 can have less padding than {bound}.", ""]
        lines += [TABLE_HEAD, "|---|" + "---:|" * 8]
        curve = [point for point in points if point.family == BUCKETED]
        for point in points:
            if point not in curve or point in curve[::SHOWN_EVERY]:
                own, milliseconds = point.account, 1000 * point.seconds
                ratios = (own.padding_ratio, own.repeated_pair_ratio or 0.0, own.repeated_pair_ratio_two_before or 0.0)
                cells = [point.family, point.knob, *map(percent, ratios), f"{own.lag_1_width_correlation or 0.0:.2f}"]
                cells += [str(own.distinct_shapes), str(own.num_steps), f"{milliseconds:.{milliseconds < 10:d}f}"]
                lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "## Time to plan an epoch",
        "",
        "Seconds of CPU time, best of three, and (nanoseconds per n log2 n).",
        "",
    ]
    lines += [f"| sampler | {' | '.join(f'{n:,} examples' for n in PLANNED)} |", "|---|" + "---:|" * len(PLANNED)]
    for name, seconds in times.items():
        cells = [f"{s:.2g} ({1e9 * s / (n * np.log2(n)):.0f})" for n, s in zip(PLANNED, seconds, strict=True)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    machine = describe_environment("cpu")
    lines += ["", f"Times on {machine['device_name']}, at a load of {machine['load_average_1min']:.1f}."]
    return "\n".join(lines)


def verdict(points: Sequence[Point]) -> str:
    if not (left := not_beaten(points)):
        return "yes."
    knobs = {family: ", ".join(point.knob for point in left if point.family == family) for family in STYLES}
    names = "; ".join(f"{family} ({values})" for family, values in knobs.items() if values)
    return f"no, not of {names}."


def percent(ratio: float) -> str:
    return f"{100 * ratio:.{1 if ratio >= 0.01 else 2}f} %"


def draw(panels: Panels, path: Path, *, footer: str) -> None:
    figure = Figure(figsize=(5 * len(panels), 5.6), layout="constrained")
    for place, (axes, (panel, points)) in enumerate(zip(figure.subplots(1, len(panels)), panels.items(), strict=True)):
        for family, (style, colour, offsets) in STYLES.items():
            own = [point for point in points if point.family == family]
            every = SHOWN_EVERY if family == BUCKETED else 1
            padding, repeated = 100 * np.array([point.costs for point in own]).reshape(-1, 2).T
            axes.plot(repeated, padding, style, color=colour, markevery=every, markersize=5, linewidth=1, label=family)
            for x, y, point in list(zip(repeated, padding, own, strict=True))[::every] if offsets else ():
                axes.annotate(
                    point.knob, (x, y), offsets[place == 1], textcoords="offset points", fontsize=6.5, ha="center"
                )
        bound = 100 * points[0].account.lower_bound_padding_ratio
        axes.axhline(bound, color="gray", linewidth=1, label="lower bound on padding")
        axes.set(
            xlabel="pairs repeated from one epoch before or two, the larger (%)", ylabel="padding (%)", title=panel
        )
        axes.loglog()
        axes.set_yticks([tick for tick in (0.3, 1, 3, 5, 10, 20, 40, 70) if tick > bound])
        axes.minorticks_off()
        axes.xaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, ncols=3, loc="outside upper center", frameon=False)
    figure.supxlabel(f"Beside the points: the knob, by area as by width. {footer}", fontsize=7.5)
    figure.savefig(path, dpi=200)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
