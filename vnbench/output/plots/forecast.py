"""What cards are forecast to take: memory and step time as brackets, a row per setting of the levers and card."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vnbench.output.plots.looks import BLUE, CYCLE, ORANGE, VERMILLION, Look
from vnbench.output.plots.style import HATCH, decades, new_columns
from vnbench.output.words.levers import describe, varying, worth_naming
from vnbench.output.words.provenance import Provenance
from vnbench.records.readings import CardForecast
from vnbench.records.record import TrialRecord, of_kind
from vnbench.records.spec.trial_spec import ForecastSpec
from vnbench.units import count, gib, mpx

MAX_ROWS = 24
"""Bars that one figure has room for."""

LABEL_COLUMNS, HEADING_COLUMNS = 26, 52
"""Characters of a setting before its label breaks, beside the axes and within them."""

WIDE = 60
"""Factor between the ends of the times from which fewer of them are written under the axis."""

LINE_ROWS = 0.7
"""Rows of the figure for each line of a label."""

ROOM = 1.25
"""Factor of room beside the outermost end."""

INK = "#333333"


class _Bar(NamedTuple):
    """A setting of the levers on one card."""

    record: TrialRecord[ForecastSpec]
    card: CardForecast

    @property
    def batch_size(self) -> int:
        return self.record.spec.batch_size


@dataclass(frozen=True, slots=True)
class _Row:
    """A line of the figure: a bar, or the heading of those below it."""

    label: str
    bar: _Bar | None = None


def forecast_figure(records: Sequence[TrialRecord], *, origin: Provenance) -> Figure | None:
    """Return the brackets of each setting's largest micro-batch that fits, or of its smallest; None without forecasts.

    Several cards stand side by side under each setting. Only passes that are whole steps are drawn.
    """
    groups = _largest_fitting(records)
    cards = list(dict.fromkeys(record.spec.card for record in of_kind(records, ForecastSpec)))
    kept = groups[: max(1, MAX_ROWS // max(1, len(cards)))]
    bars = [bar for group in kept for bar in group][:MAX_ROWS]
    if not bars:
        return None
    specs = [bar.record.spec for bar in bars]
    differing = [name for name in varying(specs) if name != "batch_size"]
    shared = [name for name in worth_naming(specs) if name not in (*differing, "batch_size", "micro_batch_size")]
    spec = specs[0]
    rows = [_Row(_label(bar, differing), bar) for bar in bars] if len(cards) == 1 else list(_grouped(kept, differing))
    looks = dict(zip(cards, cycle(CYCLE), strict=False)) if len(cards) > 1 else {}
    figure, (memory, times) = new_columns(
        title=f"What {' and '.join(filter(None, (', '.join(cards[:-1]), cards[-1])))} would take",
        caption="Hatched: from the lower to the upper end of the forecast; ticks: the central time. Dashed: what the "
        "card has.",
        origin=origin,
        trials=f"{count(len(bars), 'forecast')}: nothing was measured",
        remarks=[
            f"{describe(spec, names=shared)}.".capitalize(),
            f"Worst case {spec.worst_case_height} x {spec.worst_case_width} px; each at its largest batch that fits.",
            f"Not drawn: {count(len(groups) - len(kept), 'more setting')}." if len(groups) > len(kept) else "",
        ],
        ratios=(1, 1),
        num_rows=max(len(rows), round(LINE_ROWS * sum(row.label.count("\n") + 1 for row in rows if row.bar))),
    )
    ends = [end for place, row in enumerate(rows) if row.bar for end in _draw(memory, times, place, row.bar, looks)]
    _finish(memory, times, rows, ends)
    return figure


def _draw(memory: Axes, times: Axes, place: int, bar: _Bar, looks: Mapping[str, Look]) -> list[float]:
    """Draw a bar into both panels, and return the ends of its time in ms/Mpx."""
    card, spec = bar.card, bar.record.spec
    look = looks.get(spec.card)
    low, high = gib(card.device_bytes.low), gib(card.device_bytes.high)
    colour = look.colour if look else ORANGE if card.verdict == "fits" else VERMILLION
    hatch = look.hatch if look else HATCH
    memory.barh(place, low, height=0.6, color=colour)
    memory.barh(place, high - low, left=low, height=0.6, color="white", hatch=hatch, edgecolor=colour)
    if look:
        memory.plot([gib(card.card_bytes)] * 2, [place - 0.4, place + 0.4], color=INK, linewidth=1.2, linestyle="--")
    step = card.worst_case.step_time_s
    if step is None:
        return []
    per_mpx = 1000 / mpx(spec.batch_size * card.worst_case.height * card.worst_case.width)
    first, last = step.low * per_mpx, step.high * per_mpx
    times.barh(
        place,
        last - first,
        left=first,
        height=0.6,
        color="white",
        hatch=hatch,
        edgecolor=look.colour if look else BLUE,
    )
    times.plot([step.central * per_mpx] * 2, [place - 0.34, place + 0.34], color=INK, linewidth=2)
    return [first, last]


def _finish(memory: Axes, times: Axes, rows: Sequence[_Row], ends: Sequence[float]) -> None:
    cards = [row.bar.card for row in rows if row.bar]
    largest = max(card.card_bytes for card in cards)
    if len({row.bar.record.spec.card for row in rows if row.bar}) == 1:
        memory.axvline(gib(largest), color=INK, linewidth=1.2, linestyle="--")
    memory.set_xlim(0, 1.06 * max(gib(largest), *(gib(card.device_bytes.high) for card in cards)))
    memory.set_xlabel("memory (GiB)", fontsize=8.5)
    times.set_xscale("log")
    decades(times.xaxis)
    if ends:
        times.set_xlim(min(ends) / ROOM, max(ends) * ROOM)
        if max(ends) > WIDE * min(ends):
            decades(times.xaxis, times=(1, 3))
    times.set_xlabel("step (ms/Mpx)", fontsize=8.5)
    times.tick_params(axis="y", length=0)
    named = {place: row.label for place, row in enumerate(rows) if row.bar}
    memory.set_yticks(list(named), list(named.values()), fontsize=8.5)
    memory.set_zorder(times.get_zorder() + 1)
    memory.patch.set_visible(False)
    for place, row in enumerate(rows):
        if row.bar is None:
            # A heading has the width of both panels.
            around = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
            told = memory.annotate(
                row.label,
                (0, place + 0.4),
                xytext=(4, 0),
                textcoords="offset points",
                va="bottom",
                fontsize=8,
                fontweight="bold",
                bbox=around,
            )
            told.set_in_layout(False)
    memory.set_ylim(len(rows) - 0.5, -0.5)
    for axes in (memory, times):
        axes.grid(visible=False, axis="y")


def _label(bar: _Bar, differing: Sequence[str]) -> str:
    label = ", ".join([*filter(None, [describe(bar.record.spec, names=differing)]), f"batch {bar.batch_size}"])
    return textwrap.fill(label, LABEL_COLUMNS, break_on_hyphens=False)


def _grouped(groups: Sequence[Sequence[_Bar]], differing: Sequence[str]) -> Iterator[_Row]:
    """Yield the heading of each setting and a bar for each card, whose label says where it does not fit."""
    for group in groups:
        heading = describe(group[0].record.spec, names=differing)
        if heading:
            yield _Row(textwrap.fill(heading, HEADING_COLUMNS, break_on_hyphens=False))
        for bar in group:
            verdict = "" if bar.card.verdict == "fits" else f": {bar.card.verdict}"
            yield _Row(f"{bar.record.spec.card}, batch {bar.batch_size}{verdict}", bar)


def _largest_fitting(records: Sequence[TrialRecord]) -> list[list[_Bar]]:
    """Return for each setting and card the forecast of its largest batch that fits, or of its smallest."""
    groups: dict[str, dict[str, list[_Bar]]] = {}
    for record in of_kind(records, ForecastSpec):
        if record.card is not None and record.spec.accumulation_steps == 1:
            of_card = groups.setdefault(record.spec.lever_key, {}).setdefault(record.spec.card, [])
            of_card.append(_Bar(record, record.card))

    def worth(bar: _Bar) -> tuple[bool, int]:
        does_fit = bar.card.verdict == "fits"
        return does_fit, bar.batch_size if does_fit else -bar.batch_size

    return [[max(members, key=worth) for members in cards.values()] for cards in groups.values()]
