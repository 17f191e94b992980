"""Planted slowdowns of 1 to 10 % in four places, beside a busy program: what the gate and other rules say.

    python benchmarks/experiments/gate_truths.py --out results/cpu-NAME/gate_truths.ndjson --passes 1

A run measures two copies of this source tree in turn, block by block, as gate --against does, but a fixed number of
blocks, so that every rule is applied to the same times afterwards. One copy is slower in one place (planted_copies.py),
or not at all. Another process takes a core for part of the time. First a few short runs without it tell how much of a
slowdown in each place reaches each row. A pass has every place with every share, and five runs of unchanged copies, in
an order in which each stretch of five runs has each place and four shares once.

A line of JSON goes to the file when a run ends (100 seconds); the same command again goes on where it stopped, and
prints the table of what there is. Rules, each an alarm as soon as it is one for any row:

    gate           vnbench gate --against, which may end after any block
    mean, min      pytest-benchmark's --benchmark-compare-fail mean:5%, mean:10%, min:5% and min:10%
    median 5%      a plain threshold on the median
    rank test      Mann and Whitney's U, one-sided, p < 0.01
    asv            Mann and Whitney's U, two-sided, p < 0.002, and a ratio of medians of at least 1.1: asv's compare
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import gate_simulation as simulation
import numpy as np
from gate_against_pairs import runs_in
from gate_sweep_simulation import decided
from planted_copies import PLACES, ROOT, copied, plant
from scipy.stats import mannwhitneyu

from vnbench.analysis.comparison.blocks import Blocks, PairedSpec, blocks_of, compare_blocks
from vnbench.analysis.comparison.rows import Tolerances
from vnbench.commands.corpus import plan_corpus, prepare_corpus
from vnbench.commands.gate.worker import Home, Worker
from vnbench.commands.sweep.sweep import designer
from vnbench.output.console import stderr_console
from vnbench.records.machine_keys import Environment
from vnbench.records.record import TrialRecord
from vnbench.records.task import TrialTask
from vnbench.request.config import complete
from vnbench.request.reading import read_request
from vnbench.sweep.blocks import run_block

DEFINITION = ROOT / "benchmarks/definitions/gate_truths.toml"

SHARES = (0.01, 0.02, 0.03, 0.05, 0.10)
UNCHANGED = "unchanged"
NUM_BLOCKS = 10

WHOLE = 1.0
"""Share of the runs that tell what reaches a row: so large that no noise hides it."""

NUM_WHOLE_BLOCKS = 3

LOAD = """\
import os, random, sys, threading, time

threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
drawn = random.Random(sys.argv[1])
while True:
    time.sleep(drawn.uniform(2, 10))
    until = time.monotonic() + drawn.uniform(1, 5)
    while time.monotonic() < until:
        pass
"""
"""Takes a core for 1 to 5 seconds after every 2 to 10 seconds, until its stdin is closed, however this script ends."""

Values = simulation.Values
Rule = Callable[[Values, Values], bool]
"""Returns whether the candidate is called slower, from times (rows, blocks) of baseline and candidate."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Truth:
    """What is planted in a run."""

    place: str
    """A place of planted_copies, or UNCHANGED."""
    share: float
    """The slowdown there; 0 in an unchanged copy."""
    number: int
    """The pass."""

    @property
    def is_whole(self) -> bool:
        """Whether the run tells what reaches each row."""
        return self.share == WHOLE


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, one a run")
    parser.add_argument("--passes", type=int, default=1, help="runs of each truth")
    parser.add_argument("--most", type=int, help="end after so many runs [all]")
    options = parser.parse_args(arguments)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="vnbench-truths-") as work:
        for truth in list(due(options.out, passes=options.passes))[: options.most]:
            line = measured(truth, Path(work))
            with options.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            print(f"{truth.place} {100 * truth.share:g} %, pass {truth.number}: {told(line)}", flush=True)
    print(*reach_table(runs_in(options.out)), "", *table(runs_in(options.out)), sep="\n")
    return 0


def due(out: Path, *, passes: int) -> Iterator[Truth]:
    """Yield the truths that the file does not hold yet."""
    done = [Truth(place=run["place"], share=run["share"], number=run["number"]) for run in runs_in(out)]
    yield from (truth for truth in truths(passes) if truth not in done)


def truths(passes: int) -> Iterator[Truth]:
    """Yield all truths in their order."""
    yield from (Truth(place=place, share=WHOLE, number=0) for place in PLACES)
    for number in range(passes):
        for turn in range(len(SHARES)):
            yield Truth(place=UNCHANGED, share=0.0, number=number * len(SHARES) + turn)
            for shift, place in enumerate(PLACES):
                yield Truth(place=place, share=SHARES[(turn + shift) % len(SHARES)], number=number)


def measured(truth: Truth, work: Path) -> dict[str, Any]:
    """Return what a run came to, as JSON values."""
    start, load = time.monotonic(), os.getloadavg()[0]
    folders = [copied(work / side) for side in ("baseline", "candidate")]
    if truth.share:
        plant(folders[1], truth.place, share=truth.share)
    homes = [Home(python=Path(sys.executable), source=folder, folder=folder) for folder in folders]
    with Worker(homes[0]) as baseline, Worker(homes[1]) as candidate:
        environment = baseline.environment("cpu")
        blocks = measured_blocks(truth, (baseline, candidate), environment)
    timed = [one for one in blocks.specs if (one.identity, blocks.num_complete - 1) in blocks.times]
    compared = compare_blocks(blocks, tolerances=Tolerances())
    return {
        "place": truth.place,
        "share": truth.share,
        "number": truth.number,
        "device": environment["device_name"],
        "num_threads": environment["num_threads"],
        "torch": environment["torch_version"],
        "revision": environment["revision"],
        "rows": [
            {
                "kind": one.candidate.kind,
                "spec_id": one.candidate.spec_id,
                "baseline_s": [blocks.times[one.identity, block][0] for block in range(blocks.num_complete)],
                "candidate_s": [blocks.times[one.identity, block][1] for block in range(blocks.num_complete)],
            }
            for one in timed
        ],
        "not_same": [
            f"{row.metric}: {row.reason}"
            for row in compared.rows
            if row.verdict == "missing" or (row.metric != "time" and row.verdict != "same")
        ],
        "elapsed_s": round(time.monotonic() - start, 1),
        "load": [round(load, 1), round(os.getloadavg()[0], 1)],
        "ended_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def measured_blocks(truth: Truth, workers: tuple[Worker, Worker], environment: Environment) -> Blocks:
    """Return the blocks of a run."""
    config = complete(read_request({}, config_path=DEFINITION), environment=environment)
    corpus = plan_corpus(config)
    prepare_corpus(corpus, range(corpus.num_examples), console=stderr_console())
    trials = designer(corpus, environment)(config).trials
    specs = tuple(PairedSpec(baseline=spec, candidate=spec) for spec in dict.fromkeys(trial.spec for trial in trials))
    records: tuple[list[TrialRecord], list[TrialRecord]] = ([], [])

    def run(side: int, task: TrialTask) -> TrialRecord:
        return workers[side].run(task, timeout_s=config.trial_timeout_s)

    blocks = blocks_of(specs, records, has_times=True)
    with nullcontext() if truth.is_whole else load(f"{truth.place}/{truth.share}/{truth.number}"):
        for block in range(NUM_WHOLE_BLOCKS if truth.is_whole else NUM_BLOCKS):
            for side, record in run_block(
                blocks,
                block,
                run=run,
                corpus_directory=str(corpus.directory.resolve()),
                is_time_left=lambda: True,
                seed=config.seed,
            ):
                records[side].append(record)
            blocks = blocks_of(specs, records, has_times=True)
    return blocks


@contextmanager
def load(seed: str) -> Iterator[subprocess.Popen[bytes]]:
    """Take a core for part of the time, by another process."""
    process = subprocess.Popen([sys.executable, "-c", LOAD, seed], stdin=subprocess.PIPE)
    try:
        yield process
    finally:
        process.communicate()


def median_threshold(baseline: Values, candidate: Values) -> bool:
    return bool((np.median(candidate, axis=1) > 1.05 * np.median(baseline, axis=1)).any())


def rank_test(baseline: Values, candidate: Values) -> bool:
    found = mannwhitneyu(candidate, baseline, axis=1, alternative="greater", method="exact")
    return bool((found.pvalue < 0.01).any())


def gate(baseline: Values, candidate: Values) -> tuple[str, int]:
    """Return the outcome of a gate in turn, and after how many blocks it ended."""
    return decided(np.stack([baseline, candidate], axis=-1).swapaxes(0, 1))


def of_processes(rule: simulation.Rule) -> Rule:
    """Return a rule of the simulation, for processes of one figure each."""
    return lambda baseline, candidate: rule(baseline[..., np.newaxis], candidate[..., np.newaxis])


RULES: Mapping[str, Rule] = {
    "gate": lambda baseline, candidate: gate(baseline, candidate)[0] == "regression",
    "mean 5%": of_processes(simulation.mean_threshold),
    "mean 10%": of_processes(partial(simulation.mean_threshold, threshold=0.10)),
    "min 5%": of_processes(simulation.min_threshold),
    "min 10%": of_processes(partial(simulation.min_threshold, threshold=0.10)),
    "median 5%": median_threshold,
    "rank test": rank_test,
    "asv": of_processes(simulation.rank_and_size),
}


def times_of(run: Mapping[str, Any]) -> tuple[Values, Values]:
    """Return the times of a run on both sides, (rows, blocks)."""
    return (
        np.array([row["baseline_s"] for row in run["rows"]]),
        np.array([row["candidate_s"] for row in run["rows"]]),
    )


def told(run: Mapping[str, Any]) -> str:
    """Return a run in one line."""
    baseline, candidate = times_of(run)
    ratios = np.exp(np.log(candidate / baseline).mean(axis=1))
    changes = ", ".join(
        f"{row['kind']} {100 * (ratio - 1):+.1f} %" for row, ratio in zip(run["rows"], ratios, strict=True)
    )
    outcome, num_blocks = gate(baseline, candidate)
    alarms = [name for name, rule in RULES.items() if rule(baseline, candidate)]
    said = f"{outcome} after {num_blocks} blocks; alarms: {', '.join(alarms) or 'none'}"
    return f"{changes}; {said}; {run['elapsed_s']:.0f} s"


def reach_table(runs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the lines of a table: the share of a planted slowdown that reaches each row."""
    whole = {run["place"]: run for run in runs if run["share"] == WHOLE}
    kinds = list(dict.fromkeys(row["kind"] for run in whole.values() for row in run["rows"]))
    yield f"| place | what takes longer | {' | '.join(kinds)} |"
    yield f"|---|---|{'---:|' * len(kinds)}"
    for place, run in whole.items():
        baseline, candidate = times_of(run)
        medians = np.median(candidate / baseline, axis=1)
        reached = {row["kind"]: ratio - 1 for row, ratio in zip(run["rows"], medians, strict=True)}
        cells = " | ".join(f"{100 * reached[kind]:.0f} %" if kind in reached else "-" for kind in kinds)
        yield f"| {place} | {PLACES[place].told} | {cells} |"


def table(runs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the lines of a table: how many runs of each truth each rule calls slower, of how many."""
    runs = [run for run in runs if run["share"] != WHOLE]
    yield f"| planted | {' | '.join(RULES)} | the gate's passes, undecided | its blocks |"
    yield f"|---|{'---:|' * (len(RULES) + 2)}"
    for share in (0.0, *SHARES):
        own = [run for run in runs if run["share"] == share]
        places = [place for place in (UNCHANGED, *PLACES) if any(run["place"] == place for run in own)]
        size = f" {100 * share:g} %" if share else ""
        for place in places:
            yield _line(f"{place}{size}", [run for run in own if run["place"] == place])
        if len(places) > 1:
            yield _line(f"**all places{size}**", own)


def _line(name: str, runs: Sequence[Mapping[str, Any]]) -> str:
    times = [times_of(run) for run in runs]
    cells = [f"{sum(rule(*sides) for sides in times)}/{len(times)}" for rule in RULES.values()]
    found = [gate(*sides) for sides in times]
    counts = [sum(outcome == which for outcome, _ in found) for which in ("pass", "undecided")]
    blocks = f"{statistics.median(num_blocks for _, num_blocks in found):g}"
    return f"| {name} | {' | '.join(cells)} | {counts[0]}, {counts[1]} | {blocks} |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
