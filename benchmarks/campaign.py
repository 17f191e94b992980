"""Run a list of measurements, one after the other, for as long as there is time; the same command again goes on.

Run with: python benchmarks/campaign.py benchmarks/campaign_cuda.toml --results results/nvidia-h200 --minutes 9
          python benchmarks/campaign.py benchmarks/campaign_cuda.toml --results results/nvidia-h200 --draw

For a GPU that is rented by the minute: steps come in the order of what they are worth, none is begun that would not
end in time, and what a sweep has measured is in its file whatever happens to it. Which steps are done is kept in
RESULTS/campaign.json; ``--again NAME`` runs one anew, which for a sweep means that it goes on with what is left over.
Ctrl-C ends the step at work, as it ends by itself, and the campaign; so it does if the campaign is killed (on Linux).
``--draw`` makes the reports from the records instead, for which no GPU is needed; where records are missing it goes on.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

STATE_FILE = "campaign.json"
LOGS = "campaign"
"""Folder of what the steps have printed, beside the records."""

GRACE_S = 20.0
"""What a step that is out of time gets to put its records away."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as of vnbench."""

PR_SET_PDEATHSIG = 1
"""Of Linux's prctl: the signal that a process gets when its parent has ended."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One measurement."""

    name: str
    command: str
    """Its command line; {results} and {reports} are folders, {budget} is the time that it has, as ``90s``."""
    minutes: float
    """Most that it may take."""
    least_minutes: float
    """Less than this is not worth beginning."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a step ended."""

    exit_code: int
    """Negative: minus the signal that ended it."""
    seconds: float
    is_cut_short: bool
    """Whether it ran out of time."""

    @property
    def is_done(self) -> bool:
        """Whether it needs no other run."""
        return self.exit_code == 0 and not self.is_cut_short


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campaign", type=Path, help="definition, as benchmarks/campaign_cuda.toml")
    parser.add_argument("--results", type=Path, required=True, help="folder of the records")
    parser.add_argument("--reports", type=Path, default=Path("reports"), help="folder of the reports")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after this time")
    parser.add_argument(
        "--again", metavar="NAME", action="append", default=[], help="run this step whether done or not"
    )
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
    folders = {"results": str(options.results), "reports": str(options.reports)}
    options.results.mkdir(parents=True, exist_ok=True)
    if options.draw:
        return draw(drawings, folders)

    state = State(options.results / STATE_FILE)
    left_over = [step for step in steps if not state.is_done(step.name) or step.name in options.again]
    try:
        run_steps(left_over, state, folders, seconds=60 * options.minutes)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return INTERRUPTED
    finally:
        print(state.table(steps))
    return 0


class State:
    """How the steps of a campaign ended, kept in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._outcomes: dict[str, Outcome] = {}
        if path.exists():
            self._outcomes = {name: Outcome(**fields) for name, fields in json.loads(path.read_text()).items()}

    def is_done(self, name: str) -> bool:
        return name in self._outcomes and self._outcomes[name].is_done

    def note(self, name: str, outcome: Outcome) -> None:
        self._outcomes[name] = outcome
        text = json.dumps({name: asdict(outcome) for name, outcome in self._outcomes.items()}, indent=1)
        part = self._path.with_suffix(".part")
        part.write_text(text + "\n")
        part.replace(self._path)

    def table(self, steps: Sequence[Step]) -> str:
        width = max(len(step.name) for step in steps)
        return "\n".join(f"{step.name:{width}}  {self._told(step.name)}" for step in steps)

    def _told(self, name: str) -> str:
        if name not in self._outcomes:
            return "not run"
        one = self._outcomes[name]
        cut = ", out of time" if one.is_cut_short else ""
        return f"{'done' if one.is_done else f'exit code {one.exit_code}{cut}'} after {one.seconds:.0f} s"


def read_campaign(path: Path) -> tuple[list[Step], list[str]]:
    """Return the steps of a definition and the commands of its reports.

    Raises:
        ValueError: a step lacks something, has something unknown, or a name comes twice.
    """
    document = tomllib.loads(path.read_text())
    steps = [_step(number, entry) for number, entry in enumerate(document.get("step", []), start=1)]
    names = [step.name for step in steps]
    if not steps or len(set(names)) < len(names):
        raise ValueError("it needs [[step]] entries with names of their own")
    return steps, [str(entry["command"]) for entry in document.get("report", [])]


def _step(number: int, entry: Mapping[str, Any]) -> Step:
    try:
        return Step(**{"least_minutes": entry["minutes"] / 2, **entry})
    except (KeyError, TypeError) as error:
        raise ValueError(f"step {number}: {error}") from error


def command_of(text: str, folders: Mapping[str, str], *, budget_s: float) -> list[str]:
    """Return the words of a command line, run by this very Python."""
    words = shlex.split(text.format(**folders, budget=f"{budget_s:.0f}s"))
    if words[0] == "vnbench":
        return [sys.executable, "-m", "vnbench", *words[1:]]
    return [sys.executable, *words[1:]] if words[0] == "python" else words


def environment() -> dict[str, str]:
    """Return the environment of a step: the checkout that this script lies in comes first, installed or not."""
    root = str(Path(__file__).resolve().parents[1])
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}


def run_steps(steps: Sequence[Step], state: State, folders: Mapping[str, str], *, seconds: float) -> None:
    """Run the steps that end within a time, in their order, and note how each ended."""
    deadline = time.monotonic() + seconds
    for step in steps:
        left_s = deadline - time.monotonic() - GRACE_S
        if left_s < 60 * step.least_minutes:
            print(f"{step.name}: left for another time", file=sys.stderr)
            continue
        limit_s = min(60 * step.minutes, left_s)
        print(f"{step.name}: at most {limit_s:.0f} s", file=sys.stderr, flush=True)
        log = Path(folders["results"]) / LOGS / f"{step.name}.txt"
        state.note(step.name, run_step(step, folders, limit_s=limit_s, log=log))


def run_step(step: Step, folders: Mapping[str, str], *, limit_s: float, log: Path) -> Outcome:
    """Run a step, asked to end when it is out of time, as by Ctrl-C, and killed if it then does not."""
    log.parent.mkdir(parents=True, exist_ok=True)
    # A sweep leaves off by itself; what it has begun still has to end before the limit.
    command = command_of(step.command, folders, budget_s=max(0.85 * limit_s - 5, 10))
    start = time.monotonic()
    is_cut_short = False
    with log.open("w") as file:
        process = subprocess.Popen(
            command,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment(),
            preexec_fn=heed_interrupts,
        )
        try:
            process.wait(timeout=limit_s)
        except subprocess.TimeoutExpired:
            is_cut_short = True
            end(process)
        except KeyboardInterrupt:
            end(process)
            raise
    return Outcome(exit_code=process.returncode, seconds=time.monotonic() - start, is_cut_short=is_cut_short)


def heed_interrupts() -> None:
    """Have this process, a step that is about to begin, take interrupts, and get one when the campaign has ended."""
    # A shell that runs the campaign in the background has it ignore interrupts, and all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process, by an interrupt if it takes one, and whatever it has started."""
    process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=GRACE_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def draw(commands: Sequence[str], folders: Mapping[str, str]) -> int:
    """Make the reports; return 1 if any failed."""
    failed = list(failures(commands, folders))
    for told in failed:
        print(told, file=sys.stderr)
    return 1 if failed else 0


def failures(commands: Sequence[str], folders: Mapping[str, str]) -> Iterator[str]:
    for text in commands:
        command = command_of(text, folders, budget_s=0)
        result = subprocess.run(command, check=False, capture_output=True, text=True, env=environment())
        if result.returncode == 0:
            print(result.stdout, end="", flush=True)
        else:
            last = (result.stderr.strip().splitlines() or ["no message"])[-1]
            yield f"{shlex.join(command[1:])}: exit code {result.returncode}: {last}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
