"""What ``vnbench forecast`` was asked, and what it tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vnbench.commands.forecast.cards import run_cards_command
from vnbench.commands.forecast.report import ForecastReport
from vnbench.commands.forecast.snapshot import SnapshotReport, forecast_snapshot
from vnbench.errors import InputError
from vnbench.forecast.cards import CARDS, Card, parse_card, read_cards
from vnbench.forecast.recordings import read_recording
from vnbench.forecast.settings import NATIVE, different_allocators, parse_allocators
from vnbench.output.console import say, stdout_console
from vnbench.output.tables.replays import answer, replay_table
from vnbench.request.option import parsed
from vnbench.request.options import FORECAST_OPTIONS, OPTIONS

OF_A_SNAPSHOT = {"snapshot", "device-index", "card", "cards", "allocator"}
"""Options that go with a recording."""


def run_forecast_command(
    flags: Mapping[str, str | None], *, results: Sequence[Path] = (), as_json: bool
) -> SnapshotReport | ForecastReport:
    """Forecast, and tell of it on stdout unless that is kept for JSON.

    ``results`` are files of measured trials to compare with.

    Raises:
        InputError: an option that is missing or not understood, or a file that is no recording.
    """
    values = parsed(FORECAST_OPTIONS, flags)
    known = read_cards(values["cards"], "--cards") if "cards" in values else CARDS
    named = {text: parse_card(text, "--card", cards=known) for text in values.get("card", ())}
    cards = {card.name: (text, card) for text, card in reversed(named.items())}
    if "snapshot" not in values:
        return _of_steps(flags, values, dict(reversed(cards.values())), results=results, as_json=as_json)
    if results:
        raise InputError(
            "RESULTS",
            results[0],
            allowed="measured trials are compared with --widths alone",
            remedy="leave RESULTS or --snapshot out",
        )
    if stray := sorted(values.keys() - OF_A_SNAPSHOT):
        raise InputError(
            "--snapshot",
            values["snapshot"],
            allowed=f"a recording tells what ran, and --{stray[0]} asks for something else",
            remedy=f"leave --snapshot or --{stray[0]} out",
        )
    allocators = dict(parse_allocators(values["allocator"], "--allocator")) if "allocator" in values else {}
    trace = read_recording(values["snapshot"], where="--snapshot", device_index=values.get("device-index"))
    report = forecast_snapshot(
        trace, path=values["snapshot"], cards=tuple(card for _, card in reversed(cards.values())), allocators=allocators
    )
    if not as_json:
        console = stdout_console()
        say(console, answer(report.rows, num_events=len(report.trace.events)))
        if len(report.rows) > 1:
            console.print(replay_table(report.rows))
        for note in report.notes:
            say(console, note)
    return report


def _of_steps(
    flags: Mapping[str, str | None],
    values: Mapping[str, Any],
    cards: Mapping[str, Card],
    *,
    results: Sequence[Path],
    as_json: bool,
) -> ForecastReport:
    if not values.keys() & {"widths", "sizes"}:
        raise InputError(
            "--widths",
            allowed="the sizes of the images are needed, or the recording of a run",
            remedy="write --widths 3200:12800 --card h200, or --snapshot FILE --card h200",
        )
    if not cards:
        raise InputError("--card", allowed="it is required with --widths", remedy="write --card h200, or --card 24GiB")
    if "device-index" in values:
        raise InputError("--device-index", allowed="it is of a --snapshot", remedy="leave it out")
    allocators = different_allocators(values.get("allocator", NATIVE), "--allocator")
    steps = {name: text for name, text in flags.items() if name in OPTIONS and name != "allocator"}
    return run_cards_command(
        steps, cards, allocators=allocators, results=results, out=values.get("out"), as_json=as_json
    )
