"""``vnbench plan --card``: a plan from forecasts for a card that is not at hand."""

from __future__ import annotations

from collections.abc import Mapping

from vnbench.analysis.findings import Findings
from vnbench.errors import InputError, ModelError
from vnbench.forecast.cards import parse_card
from vnbench.output.console import stderr_console
from vnbench.output.trace_progress import TraceProgress
from vnbench.records.record import of_kind
from vnbench.records.spec.precisions import PRECISIONS, preferred_first
from vnbench.records.spec.trial_spec import ForecastSpec
from vnbench.request.options import OPTIONS
from vnbench.sweep.forecasts.on_cards import forecast_cards
from vnbench.sweep.runner import probe_environment

OF_THE_STEPS = ("widths", "heights", "sizes", "batch-size", "model")
"""Options of a plan that say which steps are forecast."""


def forecasts_for(flags: Mapping[str, str | None], name: str) -> Findings:
    """Return the forecasts from which a run on a card is planned: those of the fastest precision and of fp32.

    Raises:
        InputError: there is no such card, its times cannot be told, or another option cannot be used.
        ModelError: a user's own network could not be traced in any configuration.
    """
    if "," in name:
        raise InputError(
            "--card", name, allowed="a plan is for one card", remedy=f"write --card {name.partition(',')[0]}"
        )
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
    own = [one.cause.message for one in records if one.card is None and one.cause and one.spec.model_id is not None]
    if own and len(own) == len(records):
        raise ModelError(own[0])
    return Findings(records)


def on_one_card(found: Findings, card: str | None, *, where: str) -> Findings:
    """Return what records say of one card, where they hold forecasts of several.

    Raises:
        InputError: there are several and none was chosen, or the chosen one is not among them.
    """
    cards = list(dict.fromkeys(record.spec.card for record in of_kind(found.records, ForecastSpec)))
    if card is None and len(cards) <= 1:
        return found
    name = None if card is None else parse_card(card, "--card").name
    if name not in cards:
        told = f"{where} holds forecasts for {', '.join(cards) or 'no card'}"
        raise InputError(
            "--card", card or "", allowed=told, remedy=f"write --card {cards[0]}" if cards else "leave it out"
        )
    return Findings([record for record in of_kind(found.records, ForecastSpec) if record.spec.card == name])
