"""Run a list of measurements, one after the other, while time is left; the same command again continues.

Run with: python benchmarks/campaign/campaign.py benchmarks/campaign/campaign_cuda.toml
and --rehearse, or --results results/nvidia-h200 --minutes 8, or --results results/nvidia-h200 --draw.

It is made for a GPU that is rented by the minute. Steps run in order of value (campaign_steps.py), a step that would
not
end in time does not start, and the measurements of a sweep are in its file whatever happens to the sweep. A sweep gets
a
time budget, draws nothing, and reports what is left; it runs in each call until nothing is left. RESULTS/campaign.json
keeps how steps ended and how long they took; ``--again NAME`` runs a step anew. If a trial of a step that must pass
crashes, the call ends, unless ``--go-on`` is given. ``--archive FILE.tgz`` keeps everything worth bringing home in one
small file, which is rewritten after every step. Ctrl-C interrupts the current step and ends the campaign; the step is
also interrupted if the campaign is killed (on Linux). ``--rehearse`` needs no GPU and runs nothing: it shows what each
call would bring home, at durations that the definition assumes. ``--draw`` makes the reports from the records instead,
needs no GPU, and continues if records are missing.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from campaign_archive import write_archive
from campaign_order import MustPassError, run_steps
from campaign_process import command_of, environment, report_of, run_step
from campaign_steps import BAD_STATUSES, Outcome, State, Step, read_campaign

from vnbench.records.placement import placed

STATE_FILE = "campaign.json"
LOGS = "campaign"
"""Folder of the steps' output, beside the records."""

ARCHIVE_MIB = 12.0
"""Default size of an archive: most ways to copy files from a rented machine allow it."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as in vnbench."""

STOPPED = 1
"""Exit code if a step that must pass failed."""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campaign", type=Path, help="definition, such as benchmarks/campaign/campaign_cuda.toml")
    parser.add_argument("--results", type=Path, help="folder of the records")
    parser.add_argument("--reports", type=Path, default=Path("reports"), help="folder of the reports")
    parser.add_argument("--minutes", type=float, help="stop after this time [no limit; 8 in a rehearsal]")
    parser.add_argument("--again", metavar="NAME", action="append", default=[], help="run this step even if it is done")
    parser.add_argument("--go-on", action="store_true", help="continue although a step that must pass failed")
    parser.add_argument("--archive", type=Path, metavar="FILE.tgz", help="archive everything worth bringing home")
    parser.add_argument(
        "--archive-limit",
        type=float,
        metavar="MIB",
        default=ARCHIVE_MIB,
        help=f"maximum size [{ARCHIVE_MIB:.0f}]",
    )
    parser.add_argument("--rehearse", action="store_true", help="show what each call would bring home; run nothing")
    parser.add_argument("--draw", action="store_true", help="make the reports from the records")
    options = parser.parse_args(arguments)

    try:
        steps, drawings = read_campaign(options.campaign)
    except (OSError, tomllib.TOMLDecodeError, ValueError) as error:
        parser.error(f"{options.campaign}: {error}")
    unknown = set(options.again) - {step.name for step in steps}
    if unknown:
        parser.error(
            f"--again {', '.join(sorted(unknown))}: no such step; there are {', '.join(s.name for s in steps)}"
        )
    if options.rehearse:
        try:
            return rehearse(options.campaign, steps, minutes=options.minutes or 8.0, results=options.results)
        except ValueError as error:
            parser.error(f"{options.campaign}: {error}")
    if options.results is None:
        parser.error("--results: the folder of the records is needed")
    folders = {"results": str(options.results), "reports": str(options.reports)}
    options.results.mkdir(parents=True, exist_ok=True)
    if options.draw:
        return draw(drawings, folders)

    state = State(options.results / STATE_FILE)
    archive = None if options.archive is None else (options.archive, round(options.archive_limit * 2**20))

    def run(step: Step, limit_s: float) -> Outcome:
        return run_step(step, folders, limit_s=limit_s, log=log_of(options.results, step))

    try:
        run_steps(
            steps,
            state,
            run=run,
            seconds=float("inf") if options.minutes is None else 60 * options.minutes,
            again=options.again,
            goes_on=options.go_on,
            keep=lambda: keep(archive, options.results),
        )
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        return INTERRUPTED
    except MustPassError as error:
        print(why_stopped(error, log_of(options.results, error.step)), file=sys.stderr)
        return STOPPED
    finally:
        print(state.table(steps))
        keep(archive, options.results, tells=True)
    return 0


def log_of(results: Path, step: Step) -> Path:
    """Return the file for a step's output."""
    return results / LOGS / f"{step.name}.txt"


def rehearse(campaign: Path, steps: Sequence[Step], *, minutes: float, results: Path | None) -> int:
    """Print what each call would bring home; return the exit code."""
    # Only this function imports vnbench, which need not be installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from campaign_rehearsal import rehearsal_lines
    from campaign_stand_ins import read_assumptions

    state = None if results is None else State(results / STATE_FILE)
    for line in rehearsal_lines(steps, read_assumptions(campaign), minutes=minutes, state=state):
        print(line)
    return 0


def keep(archive: tuple[Path, int] | None, results: Path, *, tells: bool = False) -> None:
    """Write the archive if one is asked for; with ``tells``, print its size and what it leaves out."""
    if archive is None:
        return
    path, limit_bytes = archive
    left_out = write_archive(results, path, limit_bytes=limit_bytes)
    if tells:
        size = path.stat().st_size
        print(f"{path}: {size:,} bytes" + "".join(f"\n  left out: {line}" for line in left_out), file=sys.stderr)


def why_stopped(error: MustPassError, log: Path) -> str:
    """Return the message for a step that must pass and failed."""
    name, outcome = error.step.name, error.outcome
    if outcome is None:
        return f"{name} must pass before all others, and needs {error.step.least_minutes:g} minutes"
    lines = [f"{name} must pass and did not: {outcome.faults or 'out of time'}; no other step starts"]
    lines += [f"  {line}" for line in dict.fromkeys(causes(log.with_suffix(".json")))]
    tail = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
    return "\n".join([*lines, *(f"  {log.name}: {line}" for line in tail), "fix it, or write --go-on"])


def causes(report: Path) -> list[str]:
    """Return why trials of a sweep failed, from the records that its report names."""
    out = Path(str(report_of(report).get("out", "")))
    last: dict[tuple[str, int], dict[str, Any]] = {}
    for line in out.read_text(encoding="utf-8").splitlines() if out.is_file() else ():
        record = json.loads(line)
        last[record.get("spec_id"), record.get("replicate")] = record
    return [
        f"{one['spec']['kind']} {one['spec']['precision']}: {one['status']}: {(one['cause'] or {}).get('message')}"
        for one in last.values()
        if one.get("status") in BAD_STATUSES
    ]


def draw(commands: Sequence[str], folders: Mapping[str, str]) -> int:
    """Make the reports; return 1 if any failed."""
    failed = list(failures(commands, folders))
    for told in failed:
        print(told, file=sys.stderr)
    return 1 if failed else 0


def failures(commands: Sequence[str], folders: Mapping[str, str]) -> Iterator[str]:
    for text in commands:
        command = command_of(text, folders, budget_s=0)
        if text.startswith("vnbench"):
            # The scripts in experiments/ do this themselves.
            command = [word for one in command for word in _files_of(one)]
        result = subprocess.run(command, check=False, capture_output=True, encoding="utf-8", env=environment())
        if result.returncode == 0:
            print(result.stdout, end="", flush=True)
        else:
            last = (result.stderr.strip().splitlines() or ["no message"])[-1]
            yield f"{shlex.join(command[1:])}: exit code {result.returncode}: {last}"


def _files_of(word: str) -> Sequence[str]:
    """Return a word of a command line; for a results file, also the files that sweeps started beside it."""
    return [str(path) for path in placed(Path(word))] if word.endswith(".jsonl") else [word]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
