"""A comparison as Markdown, for a pull request or the summary page of a job."""

from __future__ import annotations

import html
import re

from vnbench.analysis.comparison.compare import Comparison
from vnbench.output.gate.table import shown_rows
from vnbench.output.gate.words import HOW_IT_DECIDES, advice, change, detects, figure, headline, interval, names_of

ACTIVE = re.compile(r"([\\`*_\[\]#|~@])")
"""Characters that could end a cell, format it, link to something, or call somebody by name."""

HEADERS = ("configuration", "metric", "baseline", "candidate", "change", "interval", "detects", "verdict")


def gate_markdown(comparison: Comparison, *, about: tuple[str, str]) -> str:
    """Return the comparison as Markdown; nothing in a name or message is taken for markup."""
    names = names_of(comparison.rows)
    lines = [f"### vnbench gate: {comparison.outcome}", "", escape(headline(comparison)), ""]
    if comparison.rows:
        lines += [f"| {' | '.join(HEADERS)} |", "|---|---|---:|---:|---:|---:|---:|---|"]
    for row in shown_rows(comparison):
        verdict = f"**{row.verdict}**" if row.verdict in ("worse", "missing") else row.verdict
        cells = (
            escape(names[row.spec_id]),
            row.metric,
            figure(row.baseline, metric=row.metric),
            figure(row.candidate, metric=row.metric),
            change(row.ratio),
            interval(row),
            detects(row),
            verdict,
        )
        lines.append(f"| {' | '.join(cells)} |")
    bad = [row for row in comparison.rows if row.verdict in ("worse", "missing", "ambiguous")]
    if bad:
        lines += ["", "<details><summary>reasons</summary>", ""]
        lines += [f"- {escape(names[row.spec_id])}, {row.metric}: {escape(row.reason)}" for row in bad]
        lines += ["", "</details>"]
    lines += ["", *(f"- {escape(line)}" for line in advice(comparison))]
    lines += ["", f"Baseline: {escape(about[0])}. Candidate: {escape(about[1])}.", "", HOW_IT_DECIDES, ""]
    return "\n".join(lines)


def escape(text: str) -> str:
    """Return text as it would be read: one line, no markup, no HTML."""
    return ACTIVE.sub(r"\\\1", html.escape(" ".join(text.split()), quote=False))
