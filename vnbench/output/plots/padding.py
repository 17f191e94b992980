"""The figure of padding waste by sampler and batch size, with the least that any grouping can reach."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from vnbench.analysis.trials.summary import TrialSummary
from vnbench.output.plots.looks import Look, looks_of
from vnbench.output.plots.style import legend_below, new_figure
from vnbench.output.words.provenance import Provenance
from vnbench.units import count

GROUP_WIDTH = 0.72
"""Width of all bars of one batch size together; neighbouring groups are 1 apart."""

Group = tuple[int, int, int]
"""Batch size, micro-batch and number of shapes (0 for any): what a plan depends on beside the sampler."""


def padding_figure(summaries: Sequence[TrialSummary], *, origin: Provenance) -> Figure | None:
    """Return bars of the full plan's padding ratio in per cent; None where no trial has a plan.

    Configurations that share a plan share a bar; where seeds or image files give several plans, the bar is their mean
    and a line spans them.
    """
    plans: dict[tuple[Group, str], set[tuple[float, float]]] = {}
    num_rows = 0
    for row in summaries:
        if row.padding_ratio is None or row.lower_bound_padding_ratio is None or row.spec.sampler is None:
            continue
        group = (row.spec.batch_size, row.spec.micro_batch_size, row.spec.shapes or 0)
        account = (100 * row.padding_ratio, 100 * row.lower_bound_padding_ratio)
        num_rows += 1
        plans.setdefault((group, row.spec.sampler), set()).add(account)
    if not plans:
        return None
    groups = sorted({group for group, _ in plans})
    looks = looks_of(sampler for _, sampler in plans)
    bar_width = GROUP_WIDTH / max(len(looks), 2)
    sizes = sorted({row.num_examples for row in summaries if row.num_examples is not None})
    figure, axes = new_figure(
        title="Padding by sampler",
        caption=f"Counted in the plan of all {' or '.join(f'{size:,}' for size in sizes)} training examples, so exact.",
        origin=origin,
        trials=f"{count(num_rows, 'configuration')} with {count(sum(map(len, plans.values())), 'plan')}",
    )
    for index, group in enumerate(groups):
        present = [name for name in looks if (group, name) in plans]
        for rank, sampler in enumerate(present):
            x = index + (rank - (len(present) - 1) / 2) * bar_width
            ratios, bounds = zip(*plans[group, sampler], strict=True)
            mean = math.fsum(ratios) / len(ratios)
            axes.bar(x, mean, width=0.92 * bar_width, linewidth=0.6, **_bar_style(looks[sampler]))
            if len(ratios) > 1:
                axes.vlines(x, min(ratios), max(ratios), color="black")
            axes.hlines(min(bounds), x - 0.5 * bar_width, x + 0.5 * bar_width, color="black", linewidth=2)
            axes.annotate(
                f"{mean:.1f}", (x, max(ratios)), xytext=(0, 3), textcoords="offset points", ha="center", fontsize=8
            )
    axes.set_xticks(range(len(groups)), [_group_label(group) for group in groups])
    axes.set_xlim(-0.6, len(groups) - 0.4)
    highest = max(ratio for accounts in plans.values() for ratio, _ in accounts)
    axes.set_ylim(0, 1.15 * highest if highest > 0 else 1)
    axes.grid(visible=False, axis="x")
    axes.set_xlabel("batch size (examples per optimizer step)")
    axes.set_ylabel("padding (% of padded pixels)")
    bars = [Patch(label=f"{name} sampler", **_bar_style(look)) for name, look in looks.items()]
    bound = Line2D([], [], color="black", linewidth=2, label="least that any grouping pads")
    legend_below(axes, handles=[*bars, bound])
    return figure


def _bar_style(look: Look) -> dict[str, Any]:
    return {"facecolor": look.colour, "hatch": look.hatch, "edgecolor": "#333333"}


def _group_label(group: Group) -> str:
    batch_size, micro_batch_size, shapes = group
    label = str(batch_size) if batch_size == micro_batch_size else f"{batch_size}\n(micro {micro_batch_size})"
    return f"{label}\n({count(shapes, 'shape')})" if shapes else label
