"""What a card is forecast to take: memory and step time as brackets, a row per setting of the levers."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from matplotlib.figure import Figure

from vnbench.output.plots.looks import BLUE, ORANGE, VERMILLION
from vnbench.output.plots.style import decades, new_columns
from vnbench.output.words.levers import describe, varying, worth_naming
from vnbench.output.words.provenance import Provenance
from vnbench.records.readings import CardForecast
from vnbench.records.record import TrialRecord, of_kind
from vnbench.records.spec.trial_spec import ForecastSpec
from vnbench.units import count, gib, mpx

MAX_ROWS = 24
"""Settings that one figure has room for."""

LABEL_COLUMNS = 26
"""Characters of a setting before its label breaks."""

LINE_ROWS = 0.7
"""Rows of the figure for each line of a label."""

ROOM = 1.25
"""Factor of room beside the outermost end."""

HATCH = "////"
"""Marks what was forecast and not measured, wherever it is drawn."""


def forecast_figure(records: Sequence[TrialRecord], *, origin: Provenance) -> Figure | None:
    """Return the brackets of each setting's largest micro-batch that fits, or of its smallest; None without forecasts.

    Only passes that are whole steps are drawn.
    """
    chosen = _largest_fitting(records)[:MAX_ROWS]
    if not chosen:
        return None
    specs = [record.spec for record, _ in chosen]
    differing = [name for name in varying(specs) if name != "batch_size"]
    shared = [name for name in worth_naming(specs) if name not in (*differing, "batch_size", "micro_batch_size")]
    spec = specs[0]
    labels = [_label(record.spec, differing) for record, _ in chosen]
    figure, (memory, times) = new_columns(
        title=f"What {spec.card} would take",
        caption="Hatched: from the lower to the upper end of the forecast; ticks: the central time. Dashed: what the "
        "card has.",
        origin=origin,
        trials=f"{count(len(chosen), 'forecast')}: nothing was measured",
        remarks=[
            f"{describe(spec, names=shared)}.".capitalize(),
            f"Worst case {spec.worst_case_height} x {spec.worst_case_width} px; each at its largest batch that fits.",
        ],
        ratios=(1, 1),
        num_rows=max(len(chosen), round(LINE_ROWS * sum(label.count("\n") + 1 for label in labels))),
    )
    ends: list[float] = []
    for place, (record, card) in enumerate(chosen):
        low, high = gib(card.device_bytes.low), gib(card.device_bytes.high)
        colour = ORANGE if card.verdict == "fits" else VERMILLION
        memory.barh(place, low, height=0.6, color=colour)
        memory.barh(place, high - low, left=low, height=0.6, color="white", hatch=HATCH, edgecolor=colour)
        step = card.worst_case.step_time_s
        if step is None:
            continue
        per_mpx = 1000 / mpx(record.spec.batch_size * card.worst_case.height * card.worst_case.width)
        times.barh(
            place,
            (step.high - step.low) * per_mpx,
            left=step.low * per_mpx,
            height=0.6,
            color="white",
            hatch=HATCH,
            edgecolor=BLUE,
        )
        ends += [step.low * per_mpx, step.high * per_mpx]
        times.plot([step.central * per_mpx] * 2, [place - 0.34, place + 0.34], color="#333333", linewidth=2)
    largest = chosen[0][1].card_bytes
    memory.axvline(gib(largest), color="#333333", linewidth=1.2, linestyle="--")
    memory.set_xlim(0, 1.06 * max(gib(largest), *(gib(card.device_bytes.high) for _, card in chosen)))
    memory.set_xlabel("memory (GiB)", fontsize=8.5)
    times.set_xscale("log")
    decades(times.xaxis)
    if ends:
        times.set_xlim(min(ends) / ROOM, max(ends) * ROOM)
    times.set_xlabel("step (ms/Mpx)", fontsize=8.5)
    times.tick_params(axis="y", length=0)
    memory.set_yticks(range(len(chosen)), labels, fontsize=8.5)
    memory.set_ylim(len(chosen) - 0.5, -0.5)
    for axes in (memory, times):
        axes.grid(visible=False, axis="y")
    return figure


def _label(spec: ForecastSpec, differing: Sequence[str]) -> str:
    label = ", ".join([*filter(None, [describe(spec, names=differing)]), f"batch {spec.batch_size}"])
    return textwrap.fill(label, LABEL_COLUMNS, break_on_hyphens=False)


def _largest_fitting(records: Sequence[TrialRecord]) -> list[tuple[TrialRecord[ForecastSpec], CardForecast]]:
    """Return for each setting the forecast of its largest batch that fits, or of its smallest."""
    groups: dict[str, list[tuple[TrialRecord[ForecastSpec], CardForecast]]] = {}
    for record in of_kind(records, ForecastSpec):
        if record.card is not None and record.spec.accumulation_steps == 1:
            groups.setdefault(record.spec.lever_key, []).append((record, record.card))

    def worth(one: tuple[TrialRecord[ForecastSpec], CardForecast]) -> tuple[bool, int]:
        does_fit = one[1].verdict == "fits"
        return does_fit, one[0].spec.batch_size if does_fit else -one[0].spec.batch_size

    return [max(members, key=worth) for members in groups.values()]
