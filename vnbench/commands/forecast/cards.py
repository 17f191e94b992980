"""``vnbench forecast --widths ... --card ...``: forecasts, their records, and the run that is planned with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from vnbench.analysis.trials.summary import latest_attempts
from vnbench.commands.forecast.measured import measured_beside
from vnbench.commands.forecast.report import ForecastReport
from vnbench.commands.plan.asked import asked_of, plan_values
from vnbench.forecast.cards import Card
from vnbench.forecast.settings import idle_garbage_collection, settings_called
from vnbench.output.console import say, stderr_console, stdout_console
from vnbench.output.tables.forecast import RunAsked, forecast_table
from vnbench.output.trace_progress import TraceProgress
from vnbench.records.machine_keys import Environment
from vnbench.records.placement import place_results
from vnbench.records.record import of_kind
from vnbench.records.spec.trial_spec import ForecastSpec
from vnbench.records.store import ResultsFile
from vnbench.request.option import pick, with_defaults
from vnbench.request.options import DRAWN_RUN_OPTIONS
from vnbench.request.results_folder import slug
from vnbench.sweep.forecasts.on_cards import Forecasts, forecast_cards, forecast_environment
from vnbench.sweep.runner import probe_environment
from vnbench.units import count

OF_THE_RUN = ("examples", "epochs", "widths", "heights", "sizes")
"""Options of the run whose wall clock is forecast."""


def run_cards_command(
    flags: Mapping[str, str | None],
    cards: Mapping[str, Card],
    *,
    allocators: Sequence[str],
    results: Sequence[Path],
    out: Path | None,
    as_json: bool,
) -> ForecastReport:
    """Forecast every configuration that the options name on every card, write the records, and tell of it.

    ``cards`` maps each name as it was given to its card; ``allocators`` are settings of the caching allocator;
    ``results`` are files of measured trials to compare with, beside those that lie near.

    Raises:
        InputError: an option cannot be used, a file of ``results`` cannot be read, or the records cannot be written.
    """
    console = stderr_console()
    asked_as = {card.name: text for text, card in cards.items()}
    environment = probe_environment("cpu")
    run = plan_values({name: flags.get(name) for name in OF_THE_RUN} | _defaults(flags))
    asked_for = {name: text for name, text in flags.items() if name not in ("examples", "epochs")}
    path = out or Path("results") / "forecasts" / f"{'+'.join(map(slug, asked_as))}.jsonl"
    measured = measured_beside(path, cards=asked_as, given=results)
    # Refuse a file that cannot be written before minutes of tracing.
    with _opened(path, environment=forecast_environment(environment)) as file:
        with TraceProgress(console) as progress:
            forecasts = forecast_cards(
                asked_for,
                tuple(cards.values()),
                environment=environment,
                observe=progress.observe,
                has_largest=True,
                allocators=allocators,
            )
        _write(forecasts, file)
    written = file.path
    report = ForecastReport.of(
        forecasts,
        asked=asked_of(run, forecasts.records, device="cuda"),
        out=written,
        asked_as=asked_as,
        measured=measured,
    )
    if not as_json:
        asked = RunAsked(num_examples=run["examples"], num_epochs=run["epochs"])
        table = forecast_table(report.rows(), asked=asked, measured=report.measured, notes=list(_notes(forecasts)))
        stdout_console().print(table)
    say(console, f"records: {written}")
    return report


def _defaults(flags: Mapping[str, str | None]) -> dict[str, str | None]:
    return with_defaults(pick(DRAWN_RUN_OPTIONS, ("examples", "epochs")), flags)


def _notes(forecasts: Forecasts) -> Iterator[str]:
    for note in dict.fromkeys(note for record in forecasts.records if record.card for note in record.card.notes):
        yield f"{note[:1].upper()}{note[1:]}."
    called = {record.spec.allocator: settings_called(record.spec.allocator) for record in forecasts.records}
    yield from (f"{note}." for note in idle_garbage_collection(called))
    failed = [record.cause.message for record in forecasts.records if record.card is None and record.cause]
    for reason, number in Counter(failed).items():
        yield f"{count(number, 'configuration')} could not be forecast: {reason}."
    if forecasts.left_out:
        yield f"{count(len(forecasts.left_out), 'combination')} left out: see --json."


def _opened(path: Path, *, environment: Environment) -> ResultsFile:
    place = place_results(path, environment=environment)
    for note in place.notes:
        say(stderr_console(), note)
    return ResultsFile(place.path, environment=environment)


def _write(forecasts: Forecasts, results: ResultsFile) -> None:
    """Write the forecasts that a file does not hold yet; one that failed before is written again once it succeeds."""
    known = {record.spec_id: record for record in of_kind(latest_attempts(results.records), ForecastSpec)}
    for record in forecasts.records:
        before = known.get(record.spec_id)
        if before is None:
            results.append(record)
        elif before.card is None and record.card is not None:
            results.append(replace(record, attempt=before.attempt + 1))
