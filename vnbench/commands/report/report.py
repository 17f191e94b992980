"""``vnbench report``: one page to forward and one for the repository, from records alone."""

from __future__ import annotations

import gc
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vnbench.analysis.findings import Findings
from vnbench.analysis.trials.ledger import Concern, training_ledger
from vnbench.commands.plan.answer import PlanReport
from vnbench.commands.report.planner_tables import planner_view
from vnbench.commands.report.plot import Drawn, draw_figures, new_files, run_values
from vnbench.output.console import say, stderr_console
from vnbench.output.page.model import (
    COLUMNS,
    COMPARED,
    FIT_COLUMNS,
    HOW,
    LEDGER_COLUMNS,
    LIMITS,
    NOT_COMPARED,
    are_compared,
    environment_rows,
    fit_rows,
    ledger_rows,
    report_figures,
    trial_rows,
)
from vnbench.output.page.pages import Verbatim, html_page, markdown_page
from vnbench.output.words.plan import answer_lines, lines_to_paste
from vnbench.output.words.provenance import count, provenance
from vnbench.records.one_corpus import load_one_corpus

ALTS = {
    "wall_clock": "Wall clock of the planned run against batch size by precision, beside a line that counts steps",
    "levers": "Wall clock of the planned run after each change of a lever, from the plainest to the recommended",
    "stage_memory": "Live tensors at the peak of a worst-case step, by the stage that made them",
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
    # Nothing of what was read holds a cycle: the collector need not go through it again and again.
    gc.freeze()
    found = Findings(loaded.records)
    with new_files(out) as folder:
        drawn = draw_figures(found, values, folder=folder, sources=results, profiles=profiles)
        model = _model(found, drawn, results=results, flags=flags, profiles=profiles, out=out, corpus_id=corpus_id)
        (folder / "report.md").write_text(markdown_page(model), encoding="utf-8")
        (folder / "report.html").write_text(html_page(model), encoding="utf-8")
    if isinstance(drawn.planned, str):
        say(console, f"no plan: {drawn.planned}")
    pages = {"markdown": out / "report.md", "html": out / "report.html"}
    if not as_json:
        for path in pages.values():
            say(console, str(path))
    return {name: str(path) for name, path in pages.items()} | {
        "figures": [str(out / path.name) for path in drawn.files],
        "left_out": list(drawn.left_out),
    }


def _ledger(found: Findings, planned: PlanReport) -> tuple[Concern, ...]:
    best = planned.recommended
    return training_ledger(found.loading, found.compute, family=best.family.family, sampler=best.levers["sampler"])


def _model(
    found: Findings,
    drawn: Drawn,
    *,
    results: Sequence[Path],
    flags: Mapping[str, str | None],
    profiles: Sequence[Path],
    out: Path,
    corpus_id: str | None,
) -> dict[str, Any]:
    planned = drawn.planned
    origin = provenance(found.records)
    options = [part for name, text in flags.items() if text is not None for part in (f"--{name}", text)]
    options += [part for path in profiles for part in ("--profile", str(path))]
    chosen = [] if corpus_id is None else ["--corpus-id", corpus_id]
    command = shlex.join(["vnbench", "report", *map(str, results), "--out", str(out), *options, *chosen])
    is_planned = isinstance(planned, PlanReport)
    is_compared = are_compared(found.latest)
    asked_for = ("memory", "widths", "heights", "sizes")
    plan_options = [part for name in asked_for if flags.get(name) for part in (f"--{name}", flags[name] or "")]
    plan_command = shlex.join(["vnbench", "plan", *map(str, results), *plan_options, *chosen])
    return {
        "title": f"What training costs on {origin.device_name or 'an unknown device'}",
        "origin": origin.line(count(len(found.records), "trial")),
        "answer": list(answer_lines(planned)) if isinstance(planned, PlanReport) else [f"No plan: {planned}"],
        "paste": Verbatim("\n".join(lines_to_paste(planned))) if isinstance(planned, PlanReport) else "",
        "warnings": list(planned.warnings) if isinstance(planned, PlanReport) else [],
        "planner": (
            planner_view(planned, found.latest, command=plan_command) if isinstance(planned, PlanReport) else None
        ),
        "figures": [
            {"name": one.name, "file": Verbatim(one.file), "uri": one.uri, "alt": one.alt}
            for one in report_figures(drawn.files, alts=ALTS)
        ],
        "left_out": list(drawn.left_out),
        "ledger_columns": LEDGER_COLUMNS,
        "ledger": ledger_rows(_ledger(found, planned)) if isinstance(planned, PlanReport) else (),
        "fit_columns": FIT_COLUMNS,
        "fits": fit_rows(found.families),
        "columns": COLUMNS,
        "rows": trial_rows(found.records),
        "environment": environment_rows(found.records),
        "how": [*(HOW if is_planned else HOW[:-1]), *([COMPARED] if is_compared else [])],
        "limits": [*LIMITS, *([] if is_compared else [NOT_COMPARED])],
        "command": Verbatim(command),
    }
