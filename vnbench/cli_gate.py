"""``vnbench gate`` on the command line: its options, and the call that they make."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vnbench.cli_options import AsJson, print_json

METRICS_HELP = "status, time, memory, reserved, padding, shapes, operators. [all]"


def gate(
    baseline: Annotated[Path, typer.Argument(metavar="BASELINE", help="Results file, baseline file, or folder.")],
    candidate: Annotated[Path, typer.Argument(metavar="CANDIDATE", help="Results file, or folder of them.")],
    tolerance_time: Annotated[str, typer.Option(metavar="RATIO", help="Slowdown that is put up with.")] = "1.5%",
    tolerance_memory: Annotated[str, typer.Option(metavar="RATIO", help="The same of a peak.")] = "0.5%",
    tolerance_padding: Annotated[str, typer.Option(metavar="RATIO", help="The same of padded pixels.")] = "0.1%",
    on_undecided: Annotated[str, typer.Option(metavar="NAME", help="When noise hides it: fail or warn.")] = "fail",
    metrics: Annotated[str | None, typer.Option(metavar="NAME,...", help=METRICS_HELP)] = None,
    update: Annotated[bool, typer.Option("--update", help="Take the candidate into the baseline file.")] = False,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write JUnit XML.")] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write Markdown.")] = None,
    code_quality: Annotated[Path | None, typer.Option(metavar="FILE", help="Write GitLab's code quality.")] = None,
    as_json: AsJson = False,
) -> int:
    """Say whether a candidate is worse than its baseline: exit code 1 if so, 3 if that cannot be told."""
    from vnbench.analysis.rows import Tolerances
    from vnbench.gate_command import GateOptions, run_gate_command
    from vnbench.options import GATE_OPTIONS

    texts = {
        "tolerance-time": tolerance_time,
        "tolerance-memory": tolerance_memory,
        "tolerance-padding": tolerance_padding,
        "on-undecided": on_undecided,
        "metrics": metrics,
    }
    values = {name: GATE_OPTIONS[name](text, f"--{name}") for name, text in texts.items() if text is not None}
    options = GateOptions(
        tolerances=Tolerances(
            time=values["tolerance-time"], memory=values["tolerance-memory"], padding=values["tolerance-padding"]
        ),
        on_undecided=values["on-undecided"],
        junit=junit,
        markdown=markdown,
        code_quality=code_quality,
        as_json=as_json,
        **({"metrics": values["metrics"]} if "metrics" in values else {}),
    )
    report = run_gate_command(baseline, candidate, options=options, is_update=update)
    if as_json:
        print_json(report.to_json())
    return report.exit_code
