"""``vnbench report``: one page to forward and one for the repository, from records alone."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vnbench.analysis.findings import Findings
from vnbench.analysis.trials.time_breakdown import Concern, time_breakdown
from vnbench.commands.plan.answer import PlanReport
from vnbench.commands.plan.asked import run_values
from vnbench.commands.report.planner_tables import planner_view
from vnbench.commands.report.plot import new_files, subject_of
from vnbench.output.answer_sentence import answer_sentence
from vnbench.output.console import say, stderr_console
from vnbench.output.page.model import (
    COLUMNS,
    COMPARED,
    HOW,
    LIMITS,
    NOT_COMPARED,
    are_compared,
    breakdown_view,
    doubts,
    environment_rows,
    figure_rows,
    fits_view,
    rough_line,
    trial_rows,
)
from vnbench.output.page.pages import Verbatim, html_page, markdown_page
from vnbench.output.plots.figures import Drawn, Subject, draw_figures
from vnbench.output.words.capacity_plan import answer_lines, lines_to_paste
from vnbench.output.words.provenance import note_on_peaks, provenance
from vnbench.records.one_corpus import load_one_corpus
from vnbench.records.store import uncollected
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
    loaded = load_one_corpus(results, corpus_id=corpus_id)
    console = stderr_console()
    for note in loaded.notes:
        say(console, note)
    found = Findings(loaded.records)
    with new_files(out) as folder:
        subject = subject_of(found, values, sources=results, profiles=profiles)
        drawn = draw_figures(subject, folder)
        model = _model(subject, drawn, results=results, flags=flags, profiles=profiles, out=out, corpus_id=corpus_id)
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


def _breakdown(found: Findings, planned: PlanReport) -> tuple[Concern, ...]:
    best = planned.recommended
    return time_breakdown(found.loading, found.compute, family=best.family.family, sampler=best.levers["sampler"])


def _model(
    subject: Subject,
    drawn: Drawn,
    *,
    results: Sequence[Path],
    flags: Mapping[str, str | None],
    profiles: Sequence[Path],
    out: Path,
    corpus_id: str | None,
) -> dict[str, Any]:
    found = subject.found
    plan = subject.plan if isinstance(subject.plan, PlanReport) else None
    origin = provenance(found.records)
    options = [part for name, text in flags.items() if text is not None for part in (f"--{name}", text)]
    options += [part for path in profiles for part in ("--profile", str(path))]
    chosen = [] if corpus_id is None else ["--corpus-id", corpus_id]
    command = shlex.join(["vnbench", "report", *map(str, results), "--out", str(out), *options, *chosen])
    is_compared = are_compared(found.latest)
    lines = list(answer_lines(plan)) if plan else []
    figures = figure_rows(drawn)
    asked_for = ("validation", "model", "memory", "widths", "heights", "sizes")
    plan_options = [part for name in asked_for if flags.get(name) for part in (f"--{name}", flags[name] or "")]
    plan_command = shlex.join(["vnbench", "plan", *map(str, results), *plan_options, *chosen])
    return {
        "title": f"What training costs on {origin.device_name or 'an unknown device'}",
        "origin": origin.line(count(len(found.records), "trial")),
        "answer": [*filter(None, [answer_sentence(found)]), *([] if plan else [f"No plan: {subject.plan}"])]
        or lines[:1],
        "plan": lines,
        "paste": Verbatim("\n".join(lines_to_paste(plan))) if plan else "",
        "warnings": [
            line[0].upper() + line[1:]
            for line in (*(plan.warnings if plan else ()), *doubts(found), *note_on_peaks(found.records))
        ],
        "planner": planner_view(plan, found.latest, command=plan_command) if plan else None,
        "levers": next((figure for figure in figures if figure["name"] == LEVERS_FIGURE), None),
        "figures": [figure for figure in figures if figure["name"] != LEVERS_FIGURE],
        "left_out": list(drawn.left_out),
        "breakdown": breakdown_view(_breakdown(found, plan)) if plan else None,
        "fits": fits_view(found.families),
        "rough": rough_line(found.families),
        "columns": COLUMNS,
        "rows": trial_rows(found.records),
        "environment": environment_rows(found.records),
        "how": [*(HOW if plan else HOW[:-1]), *([COMPARED] if is_compared else [])],
        "limits": [*LIMITS, *([] if is_compared else [NOT_COMPARED])],
        "command": Verbatim(command),
    }
