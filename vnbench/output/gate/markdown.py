"""A comparison as Markdown, for a pull request or the summary page of a job."""

from __future__ import annotations

from vnbench.analysis.comparison.compare import Comparison
from vnbench.output.gate.table import gate_view, shown_rows
from vnbench.output.gate.words import advice, headline, how_it_decides, names_of
from vnbench.output.view import escape


def gate_markdown(comparison: Comparison, *, about: tuple[str, str]) -> str:
    """Return the comparison as Markdown; nothing in a name or message is taken for markup."""
    names = names_of(comparison.rows)
    lines = [f"### vnbench gate: {comparison.outcome}", "", escape(headline(comparison)), ""]
    if comparison.rows:
        lines.append(gate_view(shown_rows(comparison), names).markdown())
    bad = [row for row in comparison.rows if row.verdict in ("worse", "missing", "ambiguous")]
    if bad:
        lines += ["", "<details><summary>reasons</summary>", ""]
        lines += [f"- {escape(names[row.spec_id])}, {row.metric}: {escape(row.reason)}" for row in bad]
        lines += ["", "</details>"]
    lines += ["", *(f"- {escape(line)}" for line in advice(comparison))]
    lines += ["", f"Baseline: {escape(about[0])}. Candidate: {escape(about[1])}.", "", how_it_decides(comparison), ""]
    return "\n".join(lines)
