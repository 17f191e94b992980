"""The figure of padding waste against repeated pairs: what each sampler pays for one with the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from vnbench.analysis.trials.summary import TrialSummary
from vnbench.batching.plan import BUDGETED_SAMPLER
from vnbench.output.plots.looks import looks_of
from vnbench.output.plots.style import legend_below, new_figure
from vnbench.output.words.numbers import scaled, told
from vnbench.output.words.provenance import Provenance
from vnbench.units import count, mpx

FEWEST_REPEATS = 0.05
"""Left end of the axis in per cent: rarer repeats stand there."""


def repetition_figure(summaries: Sequence[TrialSummary], *, origin: Provenance) -> Figure | None:
    """Return padding against repeated pairs, both in per cent of the full plan, a point per plan.

    The legend gives the throughput of the fastest configuration of each plan. None where fewer than two samplers have a
    plan with pairs, as there is nothing to choose between.
    """
    rows = [row for row in summaries if row.padding_ratio is not None and row.repeated_pair_ratio is not None]
    if len({row.spec.sampler for row in rows}) < 2:
        return None
    plans: dict[tuple[str, int, int, int | None], list[TrialSummary]] = {}
    for row in rows:
        spec = row.spec
        assert spec.sampler is not None  # a plan has one
        plans.setdefault((spec.sampler, spec.batch_size, spec.micro_batch_size, spec.shapes), []).append(row)
    figure, axes = new_figure(
        title="Padding against repeated pairs",
        caption="Counted in the plan of all training examples, so exact. Throughput: of the fastest configuration of a "
        "plan, with its 95 % interval.",
        origin=origin,
        trials=f"{count(len(rows), 'configuration')} with {count(len(plans), 'plan')}",
    )
    looks = looks_of(sampler for sampler, *_ in plans)
    handles: list[Line2D] = []
    places = []
    labels: dict[tuple[float, float], list[str]] = {}
    # The legend may not have room for all: it names the fastest.
    plans = dict(
        sorted(
            plans.items(),
            key=lambda plan: -max(row.valid_px_per_s.value if row.valid_px_per_s else 0.0 for row in plan[1]),
        )
    )
    bound = min(row.lower_bound_padding_ratio for row in rows if row.lower_bound_padding_ratio is not None)
    axes.axhline(100 * bound, color="black", linewidth=1)
    handles.append(Line2D([], [], color="black", linewidth=1, label="least that any grouping pads"))
    for (sampler, batch_size, micro_batch_size, shapes), members in plans.items():
        first = members[0]
        assert first.repeated_pair_ratio is not None
        assert first.padding_ratio is not None
        style: dict[str, Any] = {
            "marker": looks[sampler].marker,
            "color": looks[sampler].colour,
            "linestyle": "none",
        }
        is_cross = looks[sampler].marker == "x"
        style |= {"markeredgewidth": 2} if is_cross else {"markeredgewidth": 0.6, "markeredgecolor": "#333333"}
        x = max(100 * first.repeated_pair_ratio, FEWEST_REPEATS)
        places.append(x)
        axes.plot(x, 100 * first.padding_ratio, markersize=8, **style)
        labels.setdefault((x, 100 * first.padding_ratio), []).append(str(batch_size))
        passes = f"{batch_size}" if batch_size == micro_batch_size else f"{batch_size} in passes of {micro_batch_size}"
        if sampler == BUDGETED_SAMPLER:
            passes = f"{batch_size} in passes of {micro_batch_size} largest images' pixels"
        held_to = f", {count(shapes, 'shape')}" if shapes else ""
        label = f"{sampler}, batch {passes}{held_to}: {_throughput(members)} valid Mpx/s"
        handles.append(Line2D([], [], markersize=8, label=label, **style))
    if len({batch_size for _, batch_size, *_ in plans}) > 1:
        for place, batch_sizes in labels.items():  # a marker tells the sampler alone
            told = f"batch {', '.join(batch_sizes)}"
            axes.annotate(told, place, xytext=(7, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_xscale("log")
    axes.set_xlim(max(min(places) / 3, FEWEST_REPEATS / 1.3), 130)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(0, 1.12 * 100 * max(row.padding_ratio or 0 for row in rows) or 1)
    axes.set_xlabel("pairs repeated within two epochs (% of pairs)")
    axes.set_ylabel("padding (% of padded pixels)")
    legend_below(axes, handles=handles)
    return figure


def _throughput(members: Sequence[TrialSummary]) -> str:
    speeds = [row.valid_px_per_s for row in members if row.valid_px_per_s is not None]
    return told(scaled(max(speeds, key=lambda one: one.value, default=None), mpx(1)))
