"""Injected regressions: one change at a time in a copy of the source must turn the gate red, and its reversal green.

Each change is measured with a real sweep of the changed copy, and the gate compares it with a sweep of the original.

    python benchmarks/experiments/gate_injected.py --out results/cpu-amd-epyc/gate_injected.json

ends with exit code 1 if the gate gave any other verdict.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markdown_page import write_document
from planted_copies import change, copied

from vnbench.analysis.comparison.rows import Tolerances
from vnbench.analysis.comparison.sides import side_of
from vnbench.commands.gate.gate import GateOptions, compare_with
from vnbench.records.readings import Metric
from vnbench.records.store import load_all

SWEEP = shlex.split(
    "--widths 320:640 --heights 64:96 --device cpu --examples 40 --subset 16 --kind memory,training --batch-size 2 "
    "--precision fp32 --norm-precision fp32 --checkpointing none,stages --sampler bucketed --num-workers 0 "
    "--max-attempts 1 --replicates 5 --reference-runs 5 --memory-limit 2GiB --time-budget 10m --trial-timeout 2m"
)

TOLERANCES = Tolerances(time=0.5)
"""Tolerance so wide that five processes on a busy machine suffice to see that nothing changed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Injection:
    """A change in one place of the source."""

    name: str
    """Effect of the change."""
    module: str
    """File below vnbench/."""
    before: str
    """Original text, which occurs once."""
    after: str
    """Replacement."""
    metric: Metric
    """Metric in which the gate must find it."""


INJECTIONS = (
    Injection(
        name="a slower step",
        module="trial/step/optimizer_step.py",
        before="        timer.begin_step()\n        with timer.phase",
        after='        timer.begin_step()\n        __import__("time").sleep(0.2)\n        with timer.phase',
        metric="time",
    ),
    Injection(
        name="one more map kept for the backward pass",
        module="model/veernet.py",
        before="super().forward(x_BCHW).relu_()",
        after="super().forward(x_BCHW).relu_().pow(1.5)",
        metric="memory",
    ),
    Injection(
        name="a worse sampler",
        module="batching/bucketing.py",
        before="jitter_batches = min(JITTER_BATCHES, MAX_JITTER_SHARE * num_full)",
        after="jitter_batches = float(num_full)",
        metric="padding",
    ),
    Injection(
        name="a lost lever: checkpointing does nothing",
        module="model/veernet.py",
        before='if self.checkpointing == "none" or',
        after="if True or",
        metric="memory",
    ),
    Injection(
        name="an ok turned out of memory",
        module="trial/step/optimizer_step.py",
        before="        timer.begin_step()\n        with timer.phase",
        after="        timer.begin_step()\n        self.held = torch.ones(2**30)\n        with timer.phase",
        metric="status",
    ),
)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON file for the gate's verdicts")
    options = parser.parse_args(arguments)
    found = []
    with tempfile.TemporaryDirectory(prefix="vnbench-injected-") as name:
        folder = copied(Path(name) / "copy")
        baseline = sweep(folder, "baseline")
        for number, injection in enumerate(INJECTIONS):
            path = folder / "vnbench" / injection.module
            source = path.read_text(encoding="utf-8")
            change(folder, injection.module, before=injection.before, after=injection.after)
            changed = sweep(folder, f"changed-{number}")
            path.write_text(source, encoding="utf-8")
            found.append(judged(injection, baseline, changed, sweep(folder, f"restored-{number}")))
            print(
                f"{injection.name}: {found[-1]['changed']} in {', '.join(found[-1]['worse']) or 'nothing'}; "
                f"taken back: {found[-1]['restored']}"
            )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    report = {"sweep": SWEEP, "tolerance_time": TOLERANCES.time, "found": found}
    write_document(report, options.out)
    return 0 if all(one["is_right"] for one in found) else 1


def sweep(folder: Path, name: str) -> Path:
    """Measure with the copy in a folder and return the file of records."""
    out = folder / f"{name}.jsonl"
    command = [sys.executable, "-m", "vnbench", "sweep", *SWEEP, "--out", str(out), "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", check=False)
    assert out.exists(), done.stderr
    return out


def judged(injection: Injection, baseline: Path, changed: Path, restored: Path) -> dict[str, Any]:
    """Return the gate's verdicts on a change and on its reversal."""
    options = GateOptions(tolerances=TOLERANCES)
    sides = [side_of(load_all([path]).records) for path in (baseline, changed, restored)]
    red, green = (compare_with(options, sides[0], side) for side in sides[1:])
    worse = sorted({row.metric for row in red.rows if row.verdict == "worse"})
    return {
        "name": injection.name,
        "expected": injection.metric,
        "changed": red.outcome,
        "worse": worse,
        "reasons": [row.reason for row in red.rows if row.verdict == "worse" and row.metric == injection.metric][:2],
        "restored": green.outcome,
        "left": [f"{row.metric}: {row.reason}" for row in green.rows if row.verdict not in ("same", "better")],
        "is_right": red.outcome == "regression" and injection.metric in worse and green.outcome == "pass",
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
