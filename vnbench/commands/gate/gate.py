"""``vnbench gate``: whether a candidate is worse than its baseline, told to people and to machines."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from vnbench.analysis.comparison.compare import Comparison, Outcome, compare
from vnbench.analysis.comparison.ratios import FAMILY_ERROR
from vnbench.analysis.comparison.rows import Tolerances
from vnbench.analysis.comparison.sides import Side
from vnbench.commands.gate.baseline_file import updated, write_baseline
from vnbench.commands.gate.inputs import baseline_sides, device_of, load_baseline, load_candidate
from vnbench.errors import GateError, InputError
from vnbench.output.console import say, stderr_console, stdout_console
from vnbench.output.gate.ci import github_annotations, gitlab_code_quality, junit_xml
from vnbench.output.gate.markdown import gate_markdown
from vnbench.output.gate.table import gate_table
from vnbench.records.readings import METRICS, Metric
from vnbench.units import count

OnUndecided = Literal["fail", "warn"]

EXIT_CODES: Mapping[Outcome, int] = {"pass": 0, "regression": 1, "undecided": 3}


@dataclass(frozen=True, kw_only=True, slots=True)
class GateOptions:
    """How to compare, and where to tell of it."""

    tolerances: Tolerances
    """Changes for the worse that are allowed."""
    metrics: Collection[Metric] = METRICS
    """What is compared."""
    sweep_spread: float | None = None
    """Relative standard deviation between whole sweeps on this machine; None to find it in the sweeps."""
    on_undecided: OnUndecided = "fail"
    """Whether noise that leaves the gate undecided fails it."""
    junit: Path | None = None
    """File for JUnit XML."""
    markdown: Path | None = None
    """File for Markdown."""
    code_quality: Path | None = None
    """File for GitLab's code quality report."""
    as_json: bool = False
    """Whether stdout is kept for JSON."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GateReport:
    """What a gate found."""

    comparison: Comparison
    """Row by row."""
    on_undecided: OnUndecided
    """Whether noise that leaves it undecided fails it."""
    updated: Path | None = None
    """Baseline file that was written."""

    @property
    def is_warning(self) -> bool:
        """Whether it is undecided for noise alone, and that is allowed."""
        return self.on_undecided == "warn" and self.comparison.is_blunt_only

    @property
    def exit_code(self) -> int:
        """0 passed, 1 regression, 3 undecided; an update that was asked for ends in 0."""
        if self.updated is not None or self.is_warning:
            return 0
        return EXIT_CODES[self.comparison.outcome]

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "outcome": self.comparison.outcome,
            "exit_code": self.exit_code,
            "rows": [_row_json(asdict(row)) for row in self.comparison.rows],
            "differing": list(self.comparison.differing),
            "notes": list(self.comparison.notes),
            "remarks": list(self.comparison.remarks),
            "not_in_baseline": list(self.comparison.not_in_baseline),
            "updated": None if self.updated is None else str(self.updated),
        }


Decide = Callable[[tuple[Side, Side], Console], tuple[Comparison, tuple[Side, Side]]]
"""Compares two sides, and returns the comparison with the sides that it rests on in the end."""


def run_gate_command(
    baseline: Path, candidate: Path, *, options: GateOptions, decide: Decide | None = None
) -> GateReport:
    """Compare a candidate with its baseline and tell of it; ``decide`` may measure more.

    Raises:
        InputError: a file cannot be read or written.
    """
    console = stderr_console()
    _refuse_overwriting((baseline, candidate), options)
    if baseline.exists() and candidate.exists() and baseline.samefile(candidate):
        say(console, f"warning: BASELINE and CANDIDATE are both {candidate}: a comparison with itself always passes")
    after = load_candidate(candidate)
    try:
        before = load_baseline(baseline, candidate=after, metrics=options.metrics)
    except GateError as error:
        before = Side(keys={}, configurations={}, about=str(baseline))
        comparison = Comparison(rows=(), notes=(str(error),))
    else:
        comparison = compare_with(options, before, after)
        if decide is not None:
            comparison, (before, after) = decide((before, after), console)
    report = GateReport(comparison=comparison, on_undecided=options.on_undecided)
    tell(report, options=options, console=console, sides=(before, after), paths=(baseline, candidate))
    return report


def compare_with(options: GateOptions, before: Side, after: Side, *, family_error: float = FAMILY_ERROR) -> Comparison:
    """Return the comparison of two sides as the options say."""
    return compare(
        before,
        after,
        tolerances=options.tolerances,
        metrics=options.metrics,
        family_error=family_error,
        sweep_spread=options.sweep_spread,
    )


def tell(
    report: GateReport, *, options: GateOptions, console: Console, sides: tuple[Side, Side], paths: tuple[Path, Path]
) -> None:
    """Print a report and write the files that were asked for.

    Raises:
        InputError: a file cannot be written.
    """
    comparison, is_warning = report.comparison, report.is_warning
    about = tuple(f"{path}{f' ({side.about})' if side.about else ''}" for path, side in zip(paths, sides, strict=True))
    markdown = gate_markdown(comparison, about=(about[0], about[1]))
    if options.junit is not None:
        # Noise is excused row by row: that another row is worse makes no error of it.
        junit = junit_xml(comparison, excuses_noise=options.on_undecided == "warn")
        _write(options.junit, junit, where="--junit")
    if options.markdown is not None:
        _write(options.markdown, markdown, where="--markdown")
    if options.code_quality is not None:
        text = gitlab_code_quality(comparison, path=str(paths[0]))
        _write(options.code_quality, text, where="--code-quality")
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        _write(Path(summary), markdown, where="GITHUB_STEP_SUMMARY", mode="a")
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in github_annotations(comparison, is_warning=is_warning):
            say(console, line)
    if not options.as_json:
        stdout_console().print(gate_table(comparison, about=(about[0], about[1])))
    if is_warning:
        say(console, "undecided because of noise; --on-undecided warn lets that pass")


def run_update_command(path: Path, candidate_path: Path, *, options: GateOptions) -> GateReport:
    """Take a candidate's figures of the chosen metrics into a baseline file, and tell what that changes.

    Raises:
        InputError: a file cannot be read whole, or not written.
    """
    console = stderr_console()
    candidate = _only(load_candidate(candidate_path), options.metrics)
    if candidate.notes:
        raise InputError(
            "CANDIDATE",
            allowed=f"parts of it cannot be read ({candidate.notes[0]})",
            remedy="a baseline is made of whole records; measure again",
        )
    sides = dict(baseline_sides(path))
    device = device_of(candidate)
    before = sides.get(device)
    comparison = Comparison(rows=()) if before is None else compare_with(options, before, candidate)
    sides[device] = updated(before, candidate, comparison)
    write_baseline(path, sides)
    if not options.as_json and comparison.rows:
        stdout_console().print(gate_table(comparison, about=(str(path), candidate.about)))
    counts = Counter(row.verdict for row in comparison.rows)
    kept = counts["same"] + counts["ambiguous"]
    say(
        console,
        f"{path}: {device} added"
        if before is None
        else f"{path}: {device} updated; of {count(len(comparison.rows), 'figure')} {kept} stay as before, "
        f"{counts['better']} got better, {counts['worse']} worse",
    )
    failed = sum("ok" not in one.statuses and bool(one.statuses) for one in candidate.configurations.values())
    if failed:
        say(console, f"{count(failed, 'configuration')} in it failed: the baseline expects that from now on")
    return GateReport(comparison=comparison, on_undecided=options.on_undecided, updated=path)


def _refuse_overwriting(inputs: tuple[Path, Path], options: GateOptions) -> None:
    outputs = {"--junit": options.junit, "--markdown": options.markdown, "--code-quality": options.code_quality}
    for name, path in outputs.items():
        if path is not None and path.resolve() in {one.resolve() for one in inputs}:
            raise InputError(name, path, allowed="this is one of the files to compare", remedy="name another file")


def _only(side: Side, metrics: Collection[Metric]) -> Side:
    """Return a side with the figures of some metrics only."""
    return replace(
        side,
        configurations={
            identity: replace(
                one, figures={metric: figure for metric, figure in one.figures.items() if metric in metrics}
            )
            for identity, one in side.configurations.items()
        },
    )


def _write(path: Path, text: str, *, where: str, mode: Literal["w", "a"] = "w") -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open(mode, encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError as error:
        raise InputError(
            where, path, allowed=f"cannot be written ({error.strerror})", remedy="name a writable file"
        ) from error


def _row_json(row: dict[str, Any]) -> dict[str, Any]:
    values = dict(row)
    del values["spec"]
    return values | {"num_processes": list(row["num_processes"])}
