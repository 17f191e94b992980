"""A comparison for the machines of continuous integration: JUnit XML, GitHub's annotations, GitLab's code quality."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from xml.etree import ElementTree

from vnbench.analysis.comparison.compare import Comparison
from vnbench.analysis.comparison.rows import Row, Verdict
from vnbench.output.gate.words import headline, names_of
from vnbench.records.values.identity import digest

NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 has no way to write (section 2.2)."""

SEVERITIES: Mapping[Verdict, str] = {"worse": "major", "missing": "major", "ambiguous": "minor"}


def junit_xml(comparison: Comparison, *, excuses_noise: bool) -> str:
    """Return JUnit XML with one case per configuration and metric.

    Worse is a failure, missing an error, and ambiguous an error too, or skipped where it does not keep the gate from
    passing or noise is excused.
    """
    names = names_of(comparison.rows)
    suite = ElementTree.Element("testsuite", name="vnbench gate")
    for row in comparison.rows:
        case = ElementTree.SubElement(
            suite, "testcase", classname=_xml(f"vnbench.{names[row.spec_id]}"), name=_xml(row.metric), time="0"
        )
        tag = _tag(row, excuses_noise=excuses_noise or not comparison.is_hindrance(row))
        if tag is not None:
            ElementTree.SubElement(case, tag, type=row.verdict, message=_xml(row.reason))
    problems = [*comparison.differing, *comparison.notes]
    if problems or not comparison.rows:
        case = ElementTree.SubElement(suite, "testcase", classname="vnbench", name="records", time="0")
        message = "; ".join(problems) or "nothing to compare"
        ElementTree.SubElement(case, "error", type="not comparable", message=_xml(message))
    for name, tags in (("tests", "testcase"), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(name, str(sum(1 for _ in suite.iter(tags))))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def github_annotations(comparison: Comparison, *, is_warning: bool) -> tuple[str, ...]:
    """Return GitHub's workflow commands: an error per row that is worse or missing, one for all ambiguous ones."""
    names = names_of(comparison.rows)
    lines = [
        _command("error", f"{names[row.spec_id]}, {row.metric}: {row.reason}")
        for row in comparison.rows
        if row.verdict in ("worse", "missing")
    ]
    lines += [_command("error", problem) for problem in (*comparison.differing, *comparison.notes)]
    if not lines and comparison.outcome == "undecided":
        lines.append(_command("warning" if is_warning else "error", headline(comparison)))
    return tuple(lines)


def gitlab_code_quality(comparison: Comparison, *, path: str) -> str:
    """Return GitLab's code quality report: an entry at ``path`` for each row that is worse, missing or ambiguous."""
    names = names_of(comparison.rows)
    entries: list[tuple[str, str, str, str]] = [
        (row.metric, f"{names[row.spec_id]}, {row.metric}: {row.reason}", row.spec_id, SEVERITIES[row.verdict])
        for row in comparison.rows
        if row.verdict in SEVERITIES
    ]
    entries += [("records", problem, problem, "major") for problem in (*comparison.differing, *comparison.notes)]
    report = [
        {
            "check_name": f"vnbench-{check}",
            "description": description,
            "fingerprint": digest([check, identity]),
            "severity": severity,
            "location": {"path": path, "lines": {"begin": 1}},
        }
        for check, description, identity, severity in entries
    ]
    return json.dumps(report, indent=1) + "\n"


def _tag(row: Row, *, excuses_noise: bool) -> str | None:
    if row.verdict == "worse":
        return "failure"
    if row.verdict == "missing":
        return "error"
    if row.verdict == "ambiguous":
        return "skipped" if excuses_noise else "error"
    return None


def _xml(text: str) -> str:
    return NOT_XML.sub("?", text)


def _command(level: str, message: str) -> str:
    escaped = message.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return f"::{level} title=vnbench gate::{escaped}"
