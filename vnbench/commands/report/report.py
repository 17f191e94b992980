"""``vnbench report``: one page to forward and one for the repository, from records alone."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vnbench.analysis.findings import Findings
from vnbench.analysis.trials.time_breakdown import Concern, time_breakdown
from vnbench.commands.forecast.report import ForecastReport
from vnbench.commands.plan.answer import PlanReport
from vnbench.commands.plan.asked import asked_of, run_values
from vnbench.commands.plan.on_card import forecast_cards_of, of_cards, on_one_card
from vnbench.commands.report.planner_tables import planner_view
from vnbench.commands.report.plot import new_files, plan_or_reason, subject_of
from vnbench.output.answer_sentence import answer_sentence
from vnbench.output.console import say, stderr_console
from vnbench.output.page.model import (
    COLUMNS,
    are_compared,
    breakdown_view,
    doubts,
    environment_rows,
    figure_rows,
    fits_view,
    how_and_limits,
    rough_line,
    trial_rows,
)
from vnbench.output.page.pages import Verbatim, html_page, markdown_page
from vnbench.output.plots.figures import Drawn, Subject, draw_figures
from vnbench.output.tables.audit import audit_paragraph
from vnbench.output.tables.forecast import RunAsked, forecast_view, residual_line, residual_view
from vnbench.output.tables.forecast import answer_lines as answer_lines_of_cards
from vnbench.output.words.capacity_plan import answer_lines, lines_to_paste
from vnbench.output.words.commands import images_told, network_of, with_own_images
from vnbench.output.words.provenance import note_on_peaks, origin_of
from vnbench.records.one_corpus import load_one_corpus
from vnbench.records.record import TrialRecord
from vnbench.records.store import uncollected
from vnbench.sweep.forecasts.on_cards import Forecasts
from vnbench.units import count

LEVERS_FIGURE = "effects"
"""The figure that comes first in a report."""


# Figures alone leave cycles, and all of them together 25 MB.
@uncollected()
def run_report_command(
    results: Sequence[Path],
    flags: Mapping[str, str | None],
    *,
    out: Path,
    profiles: Sequence[Path],
    corpus_id: str | None = None,
    as_json: bool,
) -> dict[str, Any]:
    """Write the report of some results files into a folder and return what was written.

    Raises:
        InputError: a file or option cannot be used, or the records come from several devices or corpora.
    """
    values = run_values(flags)
    loaded = load_one_corpus(results, corpus_id=corpus_id, has_audits=True)
    console = stderr_console()
    for note in loaded.notes:
        say(console, note)
    records = of_cards(loaded.records, values.pop("card", None), where=", ".join(map(str, results)))
    with new_files(out) as folder:
        subject = subject_of(records, values, sources=results, profiles=profiles, audits=loaded.audits)
        drawn = draw_figures(subject, folder)
        told = _forecast(subject, values)
        forecast = None if told is None else _forecast_parts(told, values)
        model = _model(
            subject,
            drawn,
            forecast,
            records=records,
            results=results,
            flags=flags,
            values=values,
            profiles=profiles,
            out=out,
            corpus_id=corpus_id,
        )
        (folder / "report.md").write_text(markdown_page(model), encoding="utf-8", errors="backslashreplace")
        (folder / "report.html").write_text(html_page(model), encoding="utf-8", errors="backslashreplace")
    if isinstance(subject.plan, str):
        say(console, f"no plan: {subject.plan}")
    pages = {"markdown": out / "report.md", "html": out / "report.html"}
    if not as_json:
        for path in pages.values():
            say(console, str(path))
    return {name: str(path) for name, path in pages.items()} | {
        "figures": [str(out / path.name) for path in drawn.files],
        "left_out": list(drawn.left_out),
    }


def _forecast(subject: Subject, values: Mapping[str, Any]) -> ForecastReport | None:
    """Return what was forecast, with a run for each configuration; None without forecasts."""
    if not subject.forecasts:
        return None
    cards = forecast_cards_of(subject.forecasts)
    largest: dict[tuple[str, str], int | None] = {}
    for record in subject.forecasts:
        key = (record.spec.card, record.spec.lever_key)
        does_fit = record.card is not None and record.card.verdict == "fits"
        largest[key] = max(largest.get(key) or 0, record.spec.micro_batch_size if does_fit else 0)
    return ForecastReport.of(
        Forecasts(records=tuple(subject.forecasts), largest=largest, left_out=()),
        asked=asked_of(values, subject.forecasts, device="cuda"),
        out=None,
        asked_as={card: card for card in cards},
        measured=subject.found.records,
    )


def _forecast_parts(forecast: ForecastReport, values: Mapping[str, Any]) -> dict[str, Any]:
    measured = forecast.measured
    return {
        "told": list(
            answer_lines_of_cards(
                forecast.rows(), asked=RunAsked(num_examples=values["examples"], num_epochs=values["epochs"])
            )
        ),
        "view": forecast_view(forecast.rows()),
        "measured": residual_view(measured) if measured else None,
        "residuals": residual_line(measured) if measured else "",
    }


def _breakdown(found: Findings, planned: PlanReport) -> tuple[Concern, ...]:
    best = planned.recommended
    if best.evidence == "forecast":
        return ()
    return time_breakdown(found.loading, found.compute, family=best.family.family, sampler=best.levers["sampler"])


def _planner(
    subject: Subject,
    values: Mapping[str, Any],
    *,
    results: Sequence[Path],
    flags: Mapping[str, str | None],
    chosen: Sequence[str],
) -> dict[str, Any] | None:
    """Return what the page shows of the planner: of several cards, that of the first with which a run can be planned.

    None where no run can be planned.
    """
    found, plan, card = subject.found, subject.plan, flags.get("card")
    cards = forecast_cards_of(found.records)
    for one in cards if len(cards) > 1 else ():
        found, card = on_one_card(subject.found, one, where="the report"), one
        plan = plan_or_reason(found, values, sources=tuple(results))
        if isinstance(plan, PlanReport):
            break
    if not isinstance(plan, PlanReport):
        return None
    asked = {name: flags.get(name) for name in ("validation", "model", "memory", "widths", "heights", "sizes")}
    options = [part for name, text in (*asked.items(), ("card", card)) if text for part in (f"--{name}", text)]
    return planner_view(
        plan,
        found.latest,
        command=shlex.join(["vnbench", "plan", *map(str, results), *options, *chosen]),
        cards=(card, [one for one in cards if one != card]) if card and len(cards) > 1 else None,
    )


def _model(
    subject: Subject,
    drawn: Drawn,
    forecast: dict[str, Any] | None,
    *,
    records: Sequence[TrialRecord],
    results: Sequence[Path],
    flags: Mapping[str, str | None],
    values: Mapping[str, Any],
    profiles: Sequence[Path],
    out: Path,
    corpus_id: str | None,
) -> dict[str, Any]:
    found = subject.found
    plan = subject.plan if isinstance(subject.plan, PlanReport) else None
    origin = origin_of(found.records)
    options = [part for name, text in flags.items() if text is not None for part in (f"--{name}", text)]
    options += [part for path in profiles for part in ("--profile", str(path))]
    chosen = [] if corpus_id is None else ["--corpus-id", corpus_id]
    command = shlex.join(["vnbench", "report", *map(str, results), "--out", str(out), *options, *chosen])
    is_compared = are_compared(found.latest)
    lines = list(answer_lines(plan)) if plan else []
    timed = [family for family in found.families if family.forecast is None]
    figures = figure_rows(drawn)
    networks = sorted({network_of(record.spec) for record in found.latest})
    network = f"{networks[0]} " if len(networks) == 1 else ""
    published = "the planned run is the published one; for yours give --examples and --epochs"
    return {
        "title": f"What training {network}{'would take' if origin.is_forecast else 'costs'} on "
        f"{origin.device_name or 'an unknown device'}",
        "origin": f"{origin.line(count(len(found.records), 'forecast' if origin.is_forecast else 'trial'))}, "
        f"{images_told(found.latest)}",
        "answer": [
            *filter(None, [answer_sentence(found)]),
            *(forecast["told"] if forecast and not plan else ()),
            *(() if plan else (f"No plan: {subject.plan}",)),
        ]
        or lines[:1],
        "plan": lines,
        "paste": Verbatim("\n".join(lines_to_paste(plan))) if plan else "",
        "warnings": [
            line[0].upper() + line[1:]
            for line in (
                *([published] if plan and not flags.get("examples") and not flags.get("epochs") else []),
                *(plan.warnings if plan else ()),
                *doubts(found),
                *note_on_peaks(found.records),
            )
        ],
        "planner": _planner(subject, values, results=results, flags=flags, chosen=chosen),
        "levers": next((figure for figure in figures if figure["name"] == LEVERS_FIGURE), None),
        "figures": [figure for figure in figures if figure["name"] != LEVERS_FIGURE],
        "left_out": with_own_images(drawn.left_out, records),
        "breakdown": breakdown_view(_breakdown(found, plan)) if plan else None,
        "audits": [audit_paragraph(record) for record in subject.audits],
        "forecast": forecast,
        "fits": fits_view(timed),
        "rough": rough_line(timed),
        "columns": COLUMNS,
        "started": COLUMNS.index("started (UTC)"),
        "rows": trial_rows(records),
        "environment": environment_rows(found.records),
        **how_and_limits(
            origin,
            has_plan=plan is not None,
            is_compared=is_compared,
            kinds={record.kind for record in found.records},
        ),
        "command": Verbatim(command),
    }
