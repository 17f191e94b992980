"""``vnbench plan --runs FILE.toml``: what of several runs gets done on several cards."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vnbench.analysis.findings import Findings
from vnbench.analysis.planning.schedule import Schedule, make_schedule
from vnbench.commands.plan.answer import PlanReport
from vnbench.commands.plan.asked import plan_values
from vnbench.commands.plan.on_card import forecasts_for
from vnbench.commands.plan.plan import plan_records
from vnbench.errors import InputError
from vnbench.output.console import say, stderr_console, stdout_console
from vnbench.output.plots.schedule import schedule_figure
from vnbench.output.plots.style import save, styled
from vnbench.output.tables.team import team_table
from vnbench.output.words.capacity_plan import named
from vnbench.records.one_corpus import load_one_corpus
from vnbench.records.shipped import shipped_results
from vnbench.request.options import RUN_OPTIONS
from vnbench.texts import decoded
from vnbench.units import parse_duration, parse_int

RULE = "The longest run first, each to the card that is free first."

MAX_CARDS, MAX_RUNS = 1000, 1000


def run_team_command(
    results: Sequence[Path],
    flags: Mapping[str, str | None],
    *,
    runs: Path,
    out: Path | None,
    corpus_id: str | None = None,
    as_json: bool,
) -> dict[str, Any]:
    """Plan all runs of a file, place them on its cards, tell of it, and return it as JSON values.

    Each run has the options of ``vnbench plan``; those of the command line hold for all that do not say otherwise.
    Without ``results`` they are planned from the records that ship, or from forecasts of a card.

    Raises:
        InputError: the file or an option cannot be used.
        PlanError: a run cannot be planned.
    """
    document = _read(runs)
    num_cards = parse_int(str(document.get("cards", 1)), where=f"{runs}: cards", minimum=1)
    if num_cards > MAX_CARDS:
        raise InputError(f"{runs}: cards", num_cards, allowed=f"at most {MAX_CARDS}", remedy="write fewer")
    window_s = None if "window" not in document else parse_duration(str(document["window"]), where=f"{runs}: window")
    found, sources = _found(results, flags, corpus_id=corpus_id)
    if not sources:
        flags = {name: text for name, text in flags.items() if name != "model"}  # it says what was forecast
    reports = {
        name: _planned(found, flags, settings, name=name, runs=runs, sources=sources)
        for name, settings in _named_runs(document, runs).items()
    }
    schedule = make_schedule(
        [(name, report.recommended.finish) for name, report in reports.items()], num_cards=num_cards, window_s=window_s
    )
    plots: tuple[Path, ...] = ()
    if out is not None and schedule.placed:
        out.mkdir(parents=True, exist_ok=True)
        origin = next(iter(reports.values())).origin
        with styled():
            figure = schedule_figure(
                schedule,
                num_cards=num_cards,
                window_s=window_s,
                origin=origin,
                rule=RULE,
                forecast={name for name, report in reports.items() if report.recommended.evidence == "forecast"},
            )
            plots = save(figure, out, name="schedule")
    if not as_json:
        stdout = stdout_console()
        configurations = {name: named(report.recommended) for name, report in reports.items()}
        stdout.print(team_table(schedule, configurations, window_s=window_s))
        say(stdout, RULE)
        for path in plots:
            say(stdout, str(path))
    return _as_json(schedule, reports, num_cards=num_cards, window_s=window_s, plots=plots)


def _found(
    results: Sequence[Path], flags: Mapping[str, str | None], *, corpus_id: str | None
) -> tuple[Findings, tuple[Path, ...]]:
    """Return what runs are planned from, and its files: forecasts of a card if no file is named, or records."""
    card = flags.get("card")
    if card is not None and not results:
        return forecasts_for(flags, card), ()
    sources = tuple(results) or shipped_results()
    loaded = load_one_corpus(sources, corpus_id=corpus_id)
    for note in loaded.notes:
        say(stderr_console(), note)
    return Findings(loaded.records), sources


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(decoded(path.read_bytes()))
    except OSError as error:
        raise InputError(
            "--runs", path, allowed=f"cannot be read ({error.strerror})", remedy="name a TOML file with [[run]] tables"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError("--runs", path, allowed=f"this is not TOML ({error})", remedy="correct it") from error


def _named_runs(document: Mapping[str, Any], path: Path) -> dict[str, dict[str, Any]]:
    runs = document.get("run")
    if not isinstance(runs, list) or not runs or not all(isinstance(one, dict) for one in runs) or len(runs) > MAX_RUNS:
        raise InputError(
            "--runs",
            path,
            allowed="it needs [[run]] tables",
            remedy='write [[run]] with name = "...", examples, epochs',
        )
    unknown = set(document) - {"run", "cards", "window"}
    if unknown:
        raise InputError(
            "--runs",
            path,
            allowed=f"there is no {', '.join(sorted(unknown))}",
            remedy="write cards, window and [[run]]",
        )
    found: dict[str, dict[str, Any]] = {}
    for number, one in enumerate(runs, start=1):
        settings = dict(one)
        name = str(settings.pop("name", f"run {number}"))
        if name in found:
            raise InputError(
                "--runs", path, allowed=f"two runs are called {name}", remedy="give each a name of its own"
            )
        found[name] = settings
    return found


def _planned(
    found: Findings,
    flags: Mapping[str, str | None],
    settings: Mapping[str, Any],
    *,
    name: str,
    runs: Path,
    sources: tuple[Path, ...],
) -> PlanReport:
    for option in settings:
        if option not in RUN_OPTIONS:
            raise InputError(
                f"{runs}: {name}:",
                option,
                allowed="there is no such option",
                remedy="write the options of vnbench plan",
            )
    own = {option: str(value) for option, value in settings.items()}
    return plan_records(found, plan_values(dict(flags) | own), sources=sources)


def _as_json(
    schedule: Schedule,
    reports: Mapping[str, PlanReport],
    *,
    num_cards: int,
    window_s: float | None,
    plots: Sequence[Path],
) -> dict[str, Any]:
    return {
        "rule": RULE,
        "num_cards": num_cards,
        "window_s": window_s,
        "runs": [
            {
                "name": one.name,
                "card": one.card,
                "start_s": one.start_s,
                "end_s": one.end_s,
                "late_end_s": one.late_end_s,
                "recommended": reports[one.name].to_json()["recommended"],
            }
            for one in schedule.placed
        ],
        "left_out": list(schedule.left_out),
        "plots": [str(path) for path in plots],
    }
