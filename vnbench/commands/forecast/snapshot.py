"""``vnbench forecast --snapshot``: a recorded run again, under other settings of the allocator and on other cards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vnbench.forecast.cards import Card
from vnbench.forecast.replay import replay
from vnbench.forecast.settings import AllocatorSettings, idle_garbage_collection
from vnbench.forecast.trace import AllocationTrace
from vnbench.output.tables.replays import ReplayRow, Verdict
from vnbench.units import count, format_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class SnapshotReport:
    """A recorded run, taken again."""

    path: Path
    """Where the recording lies."""
    trace: AllocationTrace
    """What it holds."""
    rows: tuple[ReplayRow, ...]
    """What the run takes: by card, and by settings of the allocator."""
    notes: tuple[str, ...]
    """What a reader should know."""

    @property
    def exit_code(self) -> int:
        """0: whether the run fits is an answer, not a failure."""
        return 0

    def to_json(self) -> dict[str, Any]:
        """Return the first row's keys, all rows, and what the recording says itself."""
        rows = [row.to_json() for row in self.rows]
        return rows[0] | {
            "snapshot": str(self.path),
            "recorded": {
                "allocator": self.trace.settings_text,
                "num_events": len(self.trace.events),
                "peak_reserved_bytes": self.trace.peak_reserved_bytes,
                "num_segments": self.trace.num_segments,
            },
            "replays": rows,
            "notes": list(self.notes),
        }


def forecast_snapshot(
    trace: AllocationTrace, *, path: Path, cards: tuple[Card, ...], allocators: Mapping[str, AllocatorSettings]
) -> SnapshotReport:
    """Return what a recorded run takes on each card under each setting; without a card, without an end.

    Without settings, those of the recording.
    """
    settings = allocators or {trace.settings_text: trace.settings}
    rows = tuple(_row(trace, name, chosen, card=card) for card in cards or (None,) for name, chosen in settings.items())
    return SnapshotReport(path=path, trace=trace, rows=rows, notes=tuple(_notes(trace, rows, settings)))


def _row(trace: AllocationTrace, name: str, settings: AllocatorSettings, *, card: Card | None) -> ReplayRow:
    endless = replay(trace, settings, total=None if card is None else card.total_bytes)
    if card is None:
        return ReplayRow(allocator=name, card=None, endless=endless, replayed=endless, verdict="fits")
    least, most = (replay(trace, settings, capacity=usable, total=card.total_bytes) for usable in card.usable_bytes)
    verdict: Verdict = "fits" if least.fits else "tight" if most.fits else "does not fit"
    return ReplayRow(allocator=name, card=card, endless=endless, replayed=least, verdict=verdict)


def _notes(
    trace: AllocationTrace, rows: tuple[ReplayRow, ...], settings: Mapping[str, AllocatorSettings]
) -> Iterator[str]:
    yield from trace.notes
    for low, high in sorted({row.card.context_bytes for row in rows if row.card is not None}):
        yield (
            f"Of what torch sees of a card a process keeps {format_bytes(low)} to {format_bytes(high)} for itself (its "
            "CUDA context); the larger is taken off."
        )
    if any(chosen != trace.settings for chosen in settings.values()) and trace.live_at_start:
        yield (
            f"Under other settings than the recording's ({trace.settings_text}) the run begins with the "
            f"{count(len(trace.live_at_start), 'block')} that were alive, laid out afresh."
        )
    recorded = trace.peak_reserved_bytes
    again = next((row.endless for row in rows if settings[row.allocator] == trace.settings), None)
    if recorded is not None and again is not None and again.peak_reserved_bytes != recorded:
        yield (
            f"Under the settings of the recording the replay takes {format_bytes(again.peak_reserved_bytes)} where "
            f"{format_bytes(recorded)} were recorded: it does not follow this allocator exactly."
        )
    if lost := max(row.endless.num_lost_events for row in rows):
        yield f"{count(lost, 'event')} of blocks that were never recorded as allocated, or as freed, changed nothing."
    if emptied := sum(event[0] == "empty_cache" for event in trace.events):
        yield (
            f"The recorded run gave its cache back {count(emptied, 'time')}, by itself or where memory ran out; the "
            "replay does so there too."
        )
    yield from (f"{note}." for note in idle_garbage_collection(settings))
