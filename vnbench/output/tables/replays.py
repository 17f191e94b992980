"""What a recorded run takes under other settings of the allocator and on other cards, in words and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vnbench.forecast.cards import Card
from vnbench.forecast.replay import Replayed
from vnbench.output.fitted_table import FittedTable
from vnbench.output.view import Column, View
from vnbench.units import count, first_few, format_bytes, format_percent, gib

Verdict = Literal["fits", "tight", "does not fit"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplayRow:
    """A recorded run under one setting of the allocator, on one card."""

    allocator: str
    """What the settings are called."""
    card: Card | None
    """None where the memory has no end."""
    endless: Replayed
    """What it takes where the memory has no end."""
    replayed: Replayed
    """What it takes of what the card leaves beside the largest context; the same without a card."""
    verdict: Verdict
    """Tight: it fits beside the smallest context alone."""

    @property
    def capacity_bytes(self) -> int | None:
        """What the card leaves for the allocator beside the largest context."""
        return None if self.card is None else self.card.usable_bytes[0]

    @property
    def fragmentation(self) -> float:
        """Reserved over allocated, less one, at their peaks."""
        return self.replayed.peak_reserved_bytes / max(self.replayed.peak_allocated_bytes, 1) - 1

    def to_json(self) -> dict[str, Any]:
        """Return the keys that other programs rely on, and what belongs to them."""
        again = self.replayed
        return {
            "card": self.card and self.card.name,
            "allocator": self.allocator,
            "capacity_bytes": self.capacity_bytes,
            "context_bytes": self.card and dict(zip(("low", "high"), self.card.context_bytes, strict=True)),
            "peak_allocated_bytes": again.peak_allocated_bytes,
            "peak_reserved_bytes": again.peak_reserved_bytes,
            "num_segments": again.num_segments,
            "num_retries": again.num_retries,
            "fits": again.fits,
            "verdict": self.verdict,
            "reserved_bytes_without_limit": self.endless.peak_reserved_bytes,
            "failed_at_event": again.failed_at_event,
            "failed_bytes": again.failed_bytes,
        }


def answer(rows: Sequence[ReplayRow], *, num_events: int) -> str:
    """Return what was asked, in a sentence or two."""
    if len(rows) == 1:
        return _answer_of_one(rows[0], num_events=num_events)
    if rows[0].card is None:
        least = min(rows, key=lambda row: row.replayed.peak_reserved_bytes)
        return f"The run takes least with {least.allocator}: {_peaks(least)}."
    fitting = [_named(row) for row in rows if row.verdict == "fits"]
    if not fitting:
        return "The run fits none of these for certain."
    if len(fitting) == len(rows):
        return "The run fits all of these."
    return f"The run fits {first_few(fitting)}; not the others, or not for certain."


def replay_table(rows: Sequence[ReplayRow]) -> FittedTable[ReplayRow]:
    """Return the rows as a table."""
    columns: tuple[Column[ReplayRow], ...] = (
        Column("card", lambda row: row.card and row.card.name, align="left"),
        Column("allocator", lambda row: row.allocator, align="left", is_folded=True),
        Column("verdict", lambda row: None if row.card is None else row.verdict, align="left"),
        Column("allocated", lambda row: row.replayed.peak_allocated_bytes, unit="GiB", text=_gib),
        Column("reserved", lambda row: row.replayed.peak_reserved_bytes, unit="GiB", text=_gib),
        Column("card\nleaves", lambda row: row.capacity_bytes, unit="GiB", text=_gib),
        Column("fragmen-\ntation", lambda row: row.fragmentation, text=format_percent, gives_way=1),
        Column("retries", lambda row: row.replayed.num_retries),
        Column("segments\ntaken", lambda row: row.replayed.num_segments, gives_way=2),
    )
    return FittedTable(view=View(rows, columns).told())


def _answer_of_one(row: ReplayRow, *, num_events: int) -> str:
    again, card = row.replayed, row.card
    if card is None:
        return f"The run takes {_peaks(row)}."
    room = f"{format_bytes(row.capacity_bytes or 0)} that {card.name} leaves"
    if row.verdict == "fits":
        retries = f" with {count(again.num_retries, 'retry')}" if again.num_retries else ""
        return f"The run fits{retries}: {_peaks(row)}, of {room}."
    where = (
        "what was there when the recording began is too much"
        if again.failed_at_event == -1
        else f"event {again.failed_at_event:,} of {num_events:,} asks for {format_bytes(again.failed_bytes or 0)} "
        "that there is not"
    )
    tight = ", though it would beside the smallest context that is known" if row.verdict == "tight" else ""
    return (
        f"The run does not fit{tight}: {where}. Without an end it takes "
        f"{format_bytes(row.endless.peak_reserved_bytes)}, of {room}."
    )


def _peaks(row: ReplayRow) -> str:
    again = row.replayed
    return (
        f"{format_bytes(again.peak_reserved_bytes)} at its peak, {format_percent(row.fragmentation)} above the "
        f"{format_bytes(again.peak_allocated_bytes)} that tensors take"
    )


def _named(row: ReplayRow) -> str:
    number = row.replayed.num_retries
    retries = f" ({count(number, 'retry')})" if number else ""
    return f"{row.card.name if row.card else ''} with {row.allocator}{retries}"


def _gib(num_bytes: float) -> str:
    return f"{gib(num_bytes):.2f}"
