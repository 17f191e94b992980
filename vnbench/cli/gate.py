"""``vnbench gate`` on the command line, and the trial that its reruns ask of a checkout."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vnbench.cli.arguments import FILE, Command, as_json, print_json, taken, texts_of
from vnbench.errors import InputError
from vnbench.request.option import parsed, with_defaults
from vnbench.request.options import AGAINST_OPTIONS, GATE_OPTIONS

if TYPE_CHECKING:
    from rich.console import Console

    from vnbench.analysis.comparison.compare import Comparison
    from vnbench.analysis.comparison.sides import Side
    from vnbench.commands.gate.against.command import AgainstOptions
    from vnbench.commands.gate.gate import Decide, GateOptions, GateReport

TRIAL_TIMEOUT_S = 600.0
"""As a sweep's trials have."""


@click.command(
    "gate",
    cls=Command,
    short_help="Tell whether a candidate is worse than its baseline.",
    params=taken({**GATE_OPTIONS, **AGAINST_OPTIONS}),
    examples=(
        "vnbench gate --against HEAD~1 --model benchmarks/own_network.py:build",
        "vnbench gate baseline.json candidate.jsonl --on-undecided warn --junit gate.xml",
    ),
)
@click.argument("files", metavar="[BASELINE CANDIDATE]", nargs=-1, type=FILE)
@click.option("--against", metavar="REV|DIR", help="Measure the working folder and this revision or folder in turn.")
@click.option("--config", metavar="FILE.toml", type=FILE, help="Options of a sweep to measure, for --against.")
@click.option("--dry-run", is_flag=True, help="Show what --against would measure and how long it takes; write nothing.")
@click.option("--update", is_flag=True, help="Write the candidate into the baseline file.")
@click.option("--calibrate", is_flag=True, help="Measure the noise between sweeps of one revision, and what it hides.")
@click.option("--history", metavar="DIR", type=FILE, help="Tell what changed at which revision, from their records.")
@click.option("--rerun", "is_rerun", is_flag=True, help="Measure again what is undecided or looks slower.")
@click.option("--baseline-checkout", metavar="DIR", type=FILE, help="Source folder of the baseline, for --rerun.")
@click.option("--candidate-checkout", metavar="DIR", type=FILE, help="Source folder of the candidate. [working folder]")
@click.option("--rerun-out", metavar="DIR", type=FILE, help="Folder for the records of --rerun. [beside CANDIDATE]")
@click.option("--junit", metavar="FILE", type=FILE, help="Write the rows as JUnit XML.")
@click.option("--markdown", metavar="FILE", type=FILE, help="Write the table as Markdown.")
@click.option("--code-quality", metavar="FILE", type=FILE, help="Write the rows as a GitLab code-quality report.")
@as_json
def gate(
    *,
    files: tuple[Path, ...],
    against: str | None,
    config: Path | None,
    dry_run: bool,
    update: bool,
    calibrate: bool,
    history: Path | None,
    is_rerun: bool,
    baseline_checkout: Path | None,
    candidate_checkout: Path | None,
    rerun_out: Path | None,
    junit: Path | None,
    markdown: Path | None,
    code_quality: Path | None,
    as_json: bool,
    **given: Any,
) -> int:
    """Tell whether a candidate is worse than its baseline: exit code 1 if so, 3 if noise hides the answer.

    BASELINE and CANDIDATE are results files, a baseline file, or folders of them. With --against both sides are
    measured now, in turn, until it is decided; it takes the options of a sweep. With --history the exit code is 0 if
    the records were read, whatever changed, and 3 if no machine has two revisions; --out is the folder of its figures.
    """
    from vnbench.analysis.comparison.rows import Tolerances
    from vnbench.commands.gate.calibrate import run_calibrate_command
    from vnbench.commands.gate.gate import GateOptions, run_gate_command, run_update_command
    from vnbench.records.readings import METRICS

    values = parsed(GATE_OPTIONS, with_defaults(GATE_OPTIONS, texts_of(GATE_OPTIONS, given)))
    tolerances = Tolerances(
        time=values["tolerance-time"], memory=values["tolerance-memory"], padding=values["tolerance-padding"]
    )
    flags = texts_of(AGAINST_OPTIONS, given)
    others = {"--update": update, "--calibrate": calibrate, "--rerun": is_rerun}
    if history is not None:
        from vnbench.commands.gate.history import run_history_command

        asked = {f"--{name}": text is not None for name, text in flags.items() if name != "out"}
        files_asked = {"--junit": junit, "--markdown": markdown, "--code-quality": code_quality, "--config": config}
        written = {name: path is not None for name, path in files_asked.items()} | {"--dry-run": dry_run}
        named = {" ".join(map(str, files)): bool(files), "--against": against is not None}
        _check_history(history, others={**named, **others, **asked, **written})
        code, report_values = run_history_command(
            history,
            out=parsed(AGAINST_OPTIONS, {"out": flags["out"]}).get("out"),
            tolerances=tolerances,
            metrics=values.get("metrics", METRICS),
            as_json=as_json,
        )
        if as_json:
            print_json(report_values)
        return code
    _check_sides(
        files,
        against=against,
        flags=flags,
        config=config,
        dry_run=dry_run,
        others=others,
    )
    if calibrate:
        if update:
            raise InputError("--update", allowed="--calibrate updates no baseline", remedy="leave out one of them")
        found = run_calibrate_command(list(files), detect=values["detect"], tolerances=tolerances, as_json=as_json)
        if as_json:
            print_json(found)
        return 0
    if against is None and len(files) != 2:
        raise InputError(
            "BASELINE CANDIDATE",
            " ".join(map(str, files)),
            allowed="a gate has two sides",
            remedy="write vnbench gate BASELINE CANDIDATE; put the files of one side into a folder",
        )
    options = GateOptions(
        tolerances=tolerances,
        sweep_spread=values.get("sweep-spread"),
        on_undecided=values["on-undecided"],
        junit=junit,
        markdown=markdown,
        code_quality=code_quality,
        as_json=as_json,
        **({"metrics": values["metrics"]} if "metrics" in values else {}),
    )
    if against is not None:
        from vnbench.commands.gate.against.command import AgainstOptions

        asked_against = AgainstOptions(
            against=against,
            flags=flags,
            config=config,
            out=parsed(AGAINST_OPTIONS, {"out": flags["out"]}).get("out"),
            time_cap_s=values["time-cap"],
        )
        if dry_run:
            return _told_only(asked_against, options=options)
        report = _measured_against(asked_against, options=options)
    elif update:
        report = run_update_command(files[0], files[1], options=options)
    else:
        decide = None
        if is_rerun:
            decide = _rerunning(
                options,
                checkouts=(baseline_checkout, candidate_checkout or Path.cwd()),
                out=rerun_out or files[1].with_suffix(".rerun"),
                time_cap_s=values["time-cap"],
                corpus=parsed(AGAINST_OPTIONS, {"corpus": flags["corpus"]}).get("corpus"),
            )
        report = run_gate_command(files[0], files[1], options=options, decide=decide)
    if as_json:
        print_json(report.to_json())
    return report.exit_code


def _check_history(history: Path, *, others: Mapping[str, bool]) -> None:
    """Refuse what has no place beside ``--history``.

    Raises:
        InputError: there is some of it.
    """
    clash = [name for name, is_asked in others.items() if is_asked]
    if clash:
        raise InputError(
            "--history",
            history,
            allowed=f"it reads all revisions from one folder, so {clash[0]} has no place",
            remedy="leave one of them out",
        )


def _check_sides(
    files: tuple[Path, ...],
    *,
    against: str | None,
    flags: Mapping[str, str | None],
    config: Path | None,
    dry_run: bool,
    others: Mapping[str, bool],
) -> None:
    """Refuse what belongs to no gate that was asked for.

    Raises:
        InputError: files beside ``--against``, neither of both, or options of a sweep without it.
    """
    if against is not None:
        clash = [name for name, is_asked in others.items() if is_asked]
        if files or clash:
            other = clash[0] if clash else " ".join(map(str, files))
            raise InputError(
                "--against",
                against,
                allowed=f"it measures both sides now, so {other} has no place",
                remedy="leave one of them out",
            )
        return
    if not files:
        raise InputError(
            "BASELINE CANDIDATE",
            allowed="a gate needs two sides",
            remedy="write vnbench gate BASELINE CANDIDATE, or vnbench gate --against REV to measure both now",
        )
    asked = [f"--{name}" for name, text in flags.items() if text is not None and name != "corpus"]
    if config is not None:
        asked.append("--config")
    if dry_run:
        asked.append("--dry-run")
    if asked:
        raise InputError(
            asked[0],
            allowed="files were measured already, and only --against measures",
            remedy=f"leave {', '.join(asked)} out, or write --against REV",
        )


def _told_only(asked: AgainstOptions, *, options: GateOptions) -> int:
    from vnbench.commands.gate.against.command import plan_against
    from vnbench.output.console import tell

    found = plan_against(asked, metrics=options.metrics)
    if options.as_json:
        print_json(found.to_json())
    else:
        tell(found.lines())
    return 0


def _measured_against(asked: AgainstOptions, *, options: GateOptions) -> GateReport:
    import signal

    from vnbench.commands.gate.against.command import run_against_command

    # A gate that is told to end (a scheduler's SIGTERM) ends as it does on Ctrl-C: its finished trials are kept.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return run_against_command(asked, options=options)


@click.command("trial", hidden=True)
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
    from vnbench.commands.gate.worker import Worker

    baseline, candidate = checkouts
    if baseline is None:
        raise InputError(
            "--rerun",
            allowed="the source that the baseline was measured with is needed",
            remedy="make one with git worktree add ../baseline REVISION, and write --baseline-checkout ../baseline",
        )
    homes = (
        find_checkout(baseline, where="--baseline-checkout"),
        find_checkout(candidate, where="--candidate-checkout"),
    )

    def decide(sides: tuple[Side, Side], console: Console) -> tuple[Comparison, tuple[Side, Side]]:
        with Worker(homes[0]) as of_baseline, Worker(homes[1]) as of_candidate:
            how = RerunOptions(
                workers=(of_baseline, of_candidate),
                out=out,
                time_cap_s=time_cap_s,
                trial_timeout_s=TRIAL_TIMEOUT_S,
                corpus=corpus,
            )
            return rerun(sides, options=options, how=how, console=console)

    return decide
