"""``vnbench gate`` on the command line: its options, and the call that they make."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vnbench.cli.arguments import AsJson, Text, print_json
from vnbench.errors import InputError

if TYPE_CHECKING:
    from vnbench.commands.gate.gate import Decide, GateOptions

TRIAL_TIMEOUT_S = 600.0
"""As a sweep's trials have."""

METRICS_HELP = "status, time, memory, reserved, padding, epoch_padding, shapes, operators. [all]"


def gate(
    files: Annotated[
        list[Path], typer.Argument(metavar="BASELINE CANDIDATE", help="Results files, a baseline file, or folders.")
    ],
    tolerance_time: Annotated[str, typer.Option(metavar="RATIO", help="Slowdown that is put up with.")] = "1.5%",
    tolerance_memory: Annotated[str, typer.Option(metavar="RATIO", help="The same of a peak.")] = "0.5%",
    tolerance_padding: Annotated[str, typer.Option(metavar="RATIO", help="The same of padded pixels.")] = "0.1%",
    on_undecided: Annotated[str, typer.Option(metavar="NAME", help="When noise hides it: fail or warn.")] = "fail",
    metrics: Annotated[Text, typer.Option(metavar="NAME,...", help=METRICS_HELP)] = None,
    sweep_spread: Annotated[str, typer.Option(metavar="RATIO", help="How far whole sweeps differ here.")] = "0",
    update: Annotated[bool, typer.Option("--update", help="Take the candidate into the baseline file.")] = False,
    calibrate: Annotated[bool, typer.Option("--calibrate", help="Of sweeps without a change: noise, power.")] = False,
    detect: Annotated[str, typer.Option(metavar="RATIO", help="Slowdown to plan for with --calibrate.")] = "3%",
    rerun: Annotated[bool, typer.Option("--rerun", help="Measure again what noise left undecided.")] = False,
    baseline_checkout: Annotated[Path | None, typer.Option(metavar="DIR", help="Source of the baseline.")] = None,
    candidate_checkout: Annotated[Path | None, typer.Option(metavar="DIR", help="Of the candidate. [here]")] = None,
    time_cap: Annotated[str, typer.Option(metavar="TIME", help="Of --rerun; begins no trial after it.")] = "30m",
    rerun_out: Annotated[Path | None, typer.Option(metavar="DIR", help="Records of --rerun. [by CANDIDATE]")] = None,
    corpus: Annotated[Path | None, typer.Option(metavar="DIR", help="Image files for --rerun. [the cache]")] = None,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write JUnit XML.")] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write Markdown.")] = None,
    code_quality: Annotated[Path | None, typer.Option(metavar="FILE", help="Write GitLab's code quality.")] = None,
    as_json: AsJson = False,
) -> int:
    """Say whether a candidate is worse than its baseline: exit code 1 if so, 3 if that cannot be told."""
    from vnbench.analysis.comparison.rows import Tolerances
    from vnbench.commands.gate.calibrate import run_calibrate_command
    from vnbench.commands.gate.gate import GateOptions, run_gate_command, run_update_command
    from vnbench.request.options import GATE_OPTIONS

    given = locals()
    values = {
        name: parse(given[name.replace("-", "_")], f"--{name}")
        for name, parse in GATE_OPTIONS.items()
        if given[name.replace("-", "_")] is not None
    }
    tolerances = Tolerances(
        time=values["tolerance-time"], memory=values["tolerance-memory"], padding=values["tolerance-padding"]
    )
    if calibrate:
        if update:
            raise InputError("--update", allowed="a calibration updates nothing", remedy="leave out one of them")
        found = run_calibrate_command(files, detect=values["detect"], tolerances=tolerances, as_json=as_json)
        if as_json:
            print_json(found)
        return 0
    if len(files) != 2:
        raise InputError(
            "BASELINE CANDIDATE",
            " ".join(map(str, files)),
            allowed="a gate has two sides",
            remedy="write vnbench gate BASELINE CANDIDATE; put the files of one side into a folder",
        )
    options = GateOptions(
        tolerances=tolerances,
        sweep_spread=values["sweep-spread"],
        on_undecided=values["on-undecided"],
        junit=junit,
        markdown=markdown,
        code_quality=code_quality,
        as_json=as_json,
        **({"metrics": values["metrics"]} if "metrics" in values else {}),
    )
    if update:
        report = run_update_command(files[0], files[1], options=options)
    else:
        decide = None
        if rerun:
            decide = _rerunning(
                options,
                checkouts=(baseline_checkout, candidate_checkout or Path.cwd()),
                out=rerun_out or files[1].with_suffix(".rerun"),
                time_cap_s=values["time-cap"],
                corpus=corpus,
            )
        report = run_gate_command(files[0], files[1], options=options, decide=decide)
    if as_json:
        print_json(report.to_json())
    return report.exit_code


def trial() -> int:
    """Run the trial that is ordered on stdin and print its record: what --rerun asks of a checkout."""
    from vnbench.commands.gate.trial import run_ordered_trial

    print(run_ordered_trial(sys.stdin.read()))
    return 0


def _rerunning(
    options: GateOptions,
    *,
    checkouts: tuple[Path | None, Path],
    out: Path,
    time_cap_s: float,
    corpus: Path | None,
) -> Decide:
    from vnbench.commands.gate.rerun import RerunOptions, rerun
    from vnbench.commands.gate.trial import find_checkout

    baseline, candidate = checkouts
    if baseline is None:
        raise InputError(
            "--rerun",
            allowed="the source that the baseline was measured with is needed",
            remedy="make one with git worktree add ../baseline REVISION, and write --baseline-checkout ../baseline",
        )
    how = RerunOptions(
        checkouts=(
            find_checkout(baseline, where="--baseline-checkout"),
            find_checkout(candidate, where="--candidate-checkout"),
        ),
        out=out,
        time_cap_s=time_cap_s,
        trial_timeout_s=TRIAL_TIMEOUT_S,
        corpus=corpus,
    )
    return lambda sides, console: rerun(sides, options=options, how=how, console=console)
