"""What ``vnbench forecast`` was asked, and what it tells."""

from __future__ import annotations

from collections.abc import Mapping

from vnbench.commands.forecast.snapshot import SnapshotReport, forecast_snapshot
from vnbench.errors import InputError
from vnbench.forecast.cards import CARDS, parse_card, read_cards
from vnbench.forecast.recordings import read_recording
from vnbench.forecast.settings import parse_allocators
from vnbench.output.console import say, stdout_console
from vnbench.output.tables.replays import answer, replay_table
from vnbench.request.option import parsed
from vnbench.request.options import FORECAST_OPTIONS


def run_forecast_command(flags: Mapping[str, str | None], *, as_json: bool) -> SnapshotReport:
    """Forecast, and tell of it on stdout unless that is kept for JSON.

    Raises:
        InputError: an option that is missing or not understood, or a file that is no recording.
    """
    values = parsed(FORECAST_OPTIONS, flags)
    if "snapshot" not in values:
        raise InputError(
            "--snapshot",
            allowed="it is needed: the recording of a run, as torch.cuda.memory._dump_snapshot writes it",
            remedy="write --snapshot FILE --card NAME",
        )
    known = read_cards(values["cards"], "--cards") if "cards" in values else CARDS
    named = [parse_card(text, "--card", cards=known) for text in values.get("card", ())]
    cards = tuple({card.name: card for card in named}.values())
    allocators = dict(parse_allocators(values["allocator"], "--allocator")) if "allocator" in values else {}
    trace = read_recording(values["snapshot"], where="--snapshot", device_index=values.get("device-index"))
    report = forecast_snapshot(trace, path=values["snapshot"], cards=cards, allocators=allocators)
    if not as_json:
        console = stdout_console()
        say(console, answer(report.rows, num_events=len(report.trace.events)))
        if len(report.rows) > 1:
            console.print(replay_table(report.rows))
        for note in report.notes:
            say(console, note)
    return report
