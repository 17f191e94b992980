"""``vnbench plan --card``: a plan from forecasts for a card that is not at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vnbench.analysis.findings import Findings
from vnbench.errors import ChildError, InputError, ModelError
from vnbench.forecast.cards import is_called, parse_card
from vnbench.output.console import stderr_console
from vnbench.output.trace_progress import TraceProgress
from vnbench.records.record import TrialRecord, is_of_kind, of_kind
from vnbench.records.spec.precisions import PRECISIONS, preferred_first
from vnbench.records.spec.trial_spec import ForecastSpec
from vnbench.request.options import OPTIONS
from vnbench.sweep.forecasts.on_cards import forecast_cards
from vnbench.sweep.runner import probe_environment
from vnbench.units import split_list

OF_THE_STEPS = ("widths", "heights", "sizes", "batch-size", "model")
"""Options of a plan that say which steps are forecast."""


def forecasts_for(flags: Mapping[str, str | None], name: str) -> Findings:
    """Return the forecasts from which a run on a card is planned: those of the fastest precision and of fp32.

    Raises:
        InputError: there is no such card, its times cannot be told, or another option cannot be used.
        ModelError: a user's own network could not be traced in any configuration.
        ChildError: a preset could not, because its process was killed each time.
    """
    _check_one(name)
    card = parse_card(name, "--card")
    if card.bandwidth is None:
        raise InputError(
            "--card",
            name,
            allowed="a size says nothing of how fast a card is",
            remedy="name the card, or write vnbench forecast for its memory",
        )
    able = [name for name in PRECISIONS if card.rates is None or name in card.rates]
    precisions = dict.fromkeys((preferred_first(able)[0], "fp32"))
    steps = dict.fromkeys(OPTIONS) | {one: flags.get(one) for one in OF_THE_STEPS}
    if steps["widths"] is None and steps["sizes"] is None:
        steps["widths"] = "3200:12800"
    environment = probe_environment("cpu")
    with TraceProgress(stderr_console()) as progress:
        forecasts = forecast_cards(
            {**steps, "precision": ",".join(precisions)},
            [card],
            environment=environment,
            observe=progress.observe,
            has_largest=False,
        )
    records = forecasts.records
    failed = [one for one in records if one.card is None]
    if failed and len(failed) == len(records):
        error = ChildError if failed[0].spec.model_id is None else ModelError
        raise error(failed[0].cause.message if failed[0].cause else "")
    return Findings(records)


def of_cards(records: Sequence[TrialRecord], names: str | None, *, where: str) -> list[TrialRecord]:
    """Return the records that are of some cards, forecast or measured; all of them without ``names``, a comma list.

    Raises:
        InputError: a card is not among those of ``where``.
    """
    if names is None:
        return list(records)
    chosen = {_known_card(name, records, where=where) for name in split_list(names, where="--card")}
    return [record for record in records if any(_is_of(record, card) for card in chosen)]


def forecast_cards_of(records: Sequence[TrialRecord]) -> list[str]:
    """Return the cards that were forecast, in order of appearance."""
    return list(dict.fromkeys(record.spec.card for record in of_kind(records, ForecastSpec)))


def of_the_measured(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the records that were measured, and the forecasts for their card; all where nothing was measured."""
    measured = [record for record in records if not is_of_kind(record, ForecastSpec)]
    own = {card for card in forecast_cards_of(records) if not measured or on_the_card(measured, card)}
    return [record for record in records if not is_of_kind(record, ForecastSpec) or record.spec.card in own]


def _known_card(name: str, records: Sequence[TrialRecord], *, where: str) -> str:
    """Return the card that a name means, which was forecast or measured."""
    known = forecast_cards_of(records)
    # A card of the user's own is known to its records alone.
    own = next((card for card in known if card.casefold() == name.casefold()), None)
    card = own or parse_card(name, "--card").name
    if card not in known and not on_the_card(records, card):
        told = f"{where} holds forecasts for {', '.join(known) or 'no card'}"
        raise InputError("--card", name, allowed=told, remedy=f"write --card {known[0]}" if known else "leave it out")
    return card


def _is_of(record: TrialRecord, card: str) -> bool:
    return record.spec.card == card if is_of_kind(record, ForecastSpec) else _is_on(record, card)


def on_the_card(records: Sequence[TrialRecord], card: str) -> list[TrialRecord]:
    """Return the records that were measured on a card."""
    return [record for record in records if not is_of_kind(record, ForecastSpec) and _is_on(record, card)]


def _is_on(record: TrialRecord, card: str) -> bool:
    return is_called(record.environment.get("device_name") or "", card)


def on_one_card(found: Findings, card: str | None, *, where: str) -> Findings:
    """Return what records say of one card, forecast or measured; without ``card`` of the one that was measured.

    Raises:
        InputError: none was measured and several were forecast, several were chosen, or the one is not among them.
    """
    if card is not None:
        _check_one(card)
        return Findings(of_cards(found.records, card, where=where))
    chosen = of_the_measured(found.records)
    if len(cards := forecast_cards_of(chosen)) > 1:
        told = f"{where} holds forecasts for {', '.join(cards)}"
        raise InputError("--card", allowed=told, remedy=f"write --card {cards[0]}")
    return found if len(chosen) == len(found.records) else Findings(chosen)


def _check_one(name: str) -> None:
    if "," in name:
        raise InputError(
            "--card", name, allowed="a plan is for one card", remedy=f"write --card {name.partition(',')[0]}"
        )
