"""``vnbench report``: one page to forward and one for the repository, from records alone."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vnbench.analysis.summary import latest_attempts
from vnbench.errors import InputError, PlanError
from vnbench.output.console import say, stderr_console
from vnbench.output.plan_words import answer_lines, lines_to_paste, named
from vnbench.output.plot_plan import interruptions_figure, pareto_figure, wall_clock_figure
from vnbench.output.plot_style import save, styled
from vnbench.output.plots import draw_plots
from vnbench.output.provenance import count, provenance
from vnbench.output.report_model import COLUMNS, HOW, LIMITS, environment_rows, report_figures, trial_rows
from vnbench.output.report_pages import Verbatim, html_page, markdown_page
from vnbench.plan_asked import plan_values
from vnbench.plan_command import plan_records
from vnbench.plan_report import PlanReport
from vnbench.planner_tables import planner_view
from vnbench.record import TrialRecord
from vnbench.store import load_all

DEFAULT_RUN = {"examples": "15000", "epochs": "50", "window": "12h"}
"""The published multiclass run, and a night."""

ALTS = {
    "wall_clock": "Wall clock of the planned run against batch size by precision, beside a line that counts steps",
    "pareto": "Wall clock of the planned run against worst-case memory, one point per configuration",
    "interruptions": "Wall clock of the planned run against the number of interruptions, with snapshots and without",
    "peak_memory": "Worst-case peak memory against micro-batch",
    "step_time": "Step time of the training trials",
    "epoch_time": "Time of an epoch of all training examples",
    "padding": "Padding waste by sampler",
    "repetition": "Padding waste against repeated pairs",
    "workers": "Throughput against loader workers",
    "compute": "Step time against padded pixels",
    "fit": "Fitted step time against padded pixels, with residuals",
    "supply": "Supply of the loader against workers, with the demand of computing",
    "drift": "Drift of the reference trial over the sweep",
}


def run_report_command(
    results: Sequence[Path], flags: Mapping[str, str | None], *, out: Path, as_json: bool
) -> dict[str, Any]:
    """Write the report of some results files into a folder and return what was written.

    Raises:
        InputError: a file or option cannot be used, or the records come from several devices.
    """
    values = plan_values(DEFAULT_RUN | {name: text for name, text in flags.items() if text is not None})
    loaded = load_all(results)
    console = stderr_console()
    for note in loaded.notes:
        say(console, note)
    if out.exists() and not out.is_dir():
        raise InputError("--out", out, allowed="this is a file", remedy="name a folder")
    provenance(loaded.records)
    try:
        files, left_out = draw_plots(loaded.records, out)
        planned = _plan(loaded.records, values, sources=tuple(results))
        if isinstance(planned, PlanReport):
            files = (*_plan_figures(planned, out), *files)
        model = _model(loaded.records, planned, results=results, flags=flags, out=out, files=files, left_out=left_out)
        pages = {
            "markdown": (out / "report.md", markdown_page(model)),
            "html": (out / "report.html", html_page(model)),
        }
        for path, text in pages.values():
            path.write_text(text)
    except OSError as error:
        raise InputError(
            "--out", out, allowed=f"cannot be written ({error.strerror})", remedy="name a writable folder"
        ) from error
    if not as_json:
        for path, _ in pages.values():
            print_path = str(path)
            say(console, print_path)
    return {name: str(path) for name, (path, _) in pages.items()} | {
        "figures": [str(path) for path in files],
        "left_out": list(left_out),
    }


def _plan(records: Sequence[TrialRecord], values: Mapping[str, Any], *, sources: tuple[Path, ...]) -> PlanReport | str:
    """Return the plan of the run, or why there is none."""
    try:
        return plan_records(records, values, sources=sources)
    except PlanError as error:
        return str(error)


def _plan_figures(planned: PlanReport, out: Path) -> tuple[Path, ...]:
    best = planned.recommended
    with styled():
        figures = {
            "wall_clock": wall_clock_figure(planned.runs, asked=planned.asked, origin=planned.origin),
            "pareto": pareto_figure(planned.runs, asked=planned.asked, origin=planned.origin),
            "interruptions": interruptions_figure(best, asked=planned.asked, origin=planned.origin, name=named(best)),
        }
        return tuple(
            path for name, figure in figures.items() if figure is not None for path in save(figure, out, name=name)
        )


def _model(
    records: Sequence[TrialRecord],
    planned: PlanReport | str,
    *,
    results: Sequence[Path],
    flags: Mapping[str, str | None],
    out: Path,
    files: Sequence[Path],
    left_out: Sequence[str],
) -> dict[str, Any]:
    origin = provenance(records)
    options = [part for name, text in flags.items() if text is not None for part in (f"--{name}", text)]
    command = shlex.join(["vnbench", "report", *map(str, results), "--out", str(out), *options])
    is_planned = isinstance(planned, PlanReport)
    asked_for = ("memory", "widths", "heights", "sizes")
    plan_options = [part for name in asked_for if flags.get(name) for part in (f"--{name}", flags[name] or "")]
    plan_command = shlex.join(["vnbench", "plan", *map(str, results), *plan_options])
    return {
        "title": f"What training costs on {origin.device_name or 'an unknown device'}",
        "origin": origin.line(count(len(records), "trial")),
        "answer": list(answer_lines(planned)) if isinstance(planned, PlanReport) else [f"No plan: {planned}"],
        "paste": Verbatim("\n".join(lines_to_paste(planned))) if isinstance(planned, PlanReport) else "",
        "warnings": list(planned.warnings) if isinstance(planned, PlanReport) else [],
        "planner": (
            planner_view(planned, latest_attempts(records), command=plan_command)
            if isinstance(planned, PlanReport)
            else None
        ),
        "figures": [
            {"name": one.name, "file": Verbatim(one.file), "uri": one.uri, "alt": one.alt}
            for one in report_figures(files, alts=ALTS)
        ],
        "left_out": list(left_out),
        "columns": COLUMNS,
        "rows": trial_rows(records),
        "environment": environment_rows(records),
        "how": HOW if is_planned else HOW[:-1],
        "limits": LIMITS,
        "command": Verbatim(command),
    }
