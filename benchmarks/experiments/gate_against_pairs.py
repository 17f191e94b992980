"""Real pairs of one revision, and pairs with a planted slowdown, by ``vnbench gate --against``.

    python benchmarks/experiments/gate_against_pairs.py --out results/cpu-amd-epyc/gate_against.ndjson --pairs 12

The working folder of each run is a copy of this source tree, compared with another copy. In every second run each
training step of the working folder waits for a share of its own duration on top. A line of JSON goes to the file when a
run ends; the same command again goes on where it stopped, also within a run, and prints the table of what there is.
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
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from planted_copies import ROOT, copied, plant

KINDS = ("unchanged", "planted")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, one a run")
    parser.add_argument("--pairs", type=int, default=12, help="runs of each kind")
    parser.add_argument("--slowdown", type=float, default=0.03, help="share of a step that is planted")
    parser.add_argument("--time-cap", default="30m", help="time of a run")
    parser.add_argument("--work", type=Path, help="folder for copies and records [in the temporary folder]")
    options = parser.parse_args(arguments)
    work = (options.work or Path(tempfile.gettempdir()) / f"vnbench-against-{options.out.stem}").resolve()
    out = options.out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    copies = {kind: copied(work / kind) for kind in ("baseline", *KINDS)}
    plant(copies["planted"], "step", share=options.slowdown)
    machine = json.loads(subprocess.check_output([sys.executable, "-m", "vnbench", "env", "--json"], cwd=ROOT))
    for kind, number in due(out, pairs=options.pairs):
        found = gated(copies["baseline"], copies[kind], out=work / f"{kind}-{number}", time_cap=options.time_cap)
        line = {
            "kind": kind,
            "number": number,
            "slowdown": options.slowdown if kind == "planted" else 0.0,
            "device": machine["device_name"],
            "num_threads": machine["num_threads"],
            "torch": machine["torch_version"],
            "revision": machine["revision"],
        } | found
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(f"{kind} {number}: {told(line)}", flush=True)
    print(*table(runs_in(out)), sep="\n")
    return 0


def due(out: Path, *, pairs: int) -> Iterator[tuple[str, int]]:
    """Yield the runs that the file does not hold yet, both kinds in turn."""
    done = {(run["kind"], run["number"]) for run in runs_in(out)}
    yield from ((kind, number) for number in range(pairs) for kind in KINDS if (kind, number) not in done)


def gated(baseline: Path, candidate: Path, *, out: Path, time_cap: str) -> dict[str, Any]:
    """Return what a gate of two copies came to."""
    start, load = time.monotonic(), os.getloadavg()[0]
    command = [sys.executable, "-m", "vnbench", "gate", "--against", str(baseline), "--out", str(out), "--json"]
    done = subprocess.run(
        [*command, "--time-cap", time_cap], cwd=candidate, stdout=subprocess.PIPE, encoding="utf-8", check=False
    )
    if done.returncode not in (0, 1, 3) or not done.stdout.strip():
        raise SystemExit(f"the gate ended with {done.returncode}")
    report = json.loads(done.stdout)
    times = [row for row in report["rows"] if row["metric"] == "time"]
    return {
        "outcome": report["outcome"],
        "exit_code": done.returncode,
        "num_blocks": times[0]["num_processes"][0] if times else 0,
        "elapsed_s": round(time.monotonic() - start, 1),
        "load": [round(load, 1), round(os.getloadavg()[0], 1)],
        "ended_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "times": [{key: row[key] for key in ("spec_id", "ratio", "interval", "verdict", "reason")} for row in times],
        "not_same": [
            f"{row['metric']}: {row['reason']}"
            for row in report["rows"]
            if row["metric"] != "time" and row["verdict"] != "same"
        ],
    }


def runs_in(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()] if out.exists() else []


def about(runs: Sequence[dict[str, Any]]) -> str:
    """Return where and when some runs were made."""
    where = dict.fromkeys(f"{run['device']}, {run['num_threads']} threads, torch {run['torch']}" for run in runs)
    dates = sorted({run["ended_at"][:10] for run in runs})
    loads = [load for run in runs for load in run["load"]]
    when = " to ".join(dict.fromkeys((dates[0], dates[-1])))
    return f"{'; '.join(where)}, {when}, load {min(loads)} to {max(loads)}"


def told(run: dict[str, Any]) -> str:
    return f"{run['outcome']} after {run['num_blocks']} blocks, {run['elapsed_s'] / 60:.1f} min"


def table(runs: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of a table: what the runs of each kind came to."""
    yield "| kind | runs | regression | pass | undecided | blocks, median and most | minutes, median and most |"
    yield "|---|---|---|---|---|---|---|"
    for kind in dict.fromkeys(run["kind"] for run in runs):
        own = [run for run in runs if run["kind"] == kind]
        counts = [sum(run["outcome"] == outcome for run in own) for outcome in ("regression", "pass", "undecided")]
        blocks = [run["num_blocks"] for run in own]
        minutes = [run["elapsed_s"] / 60 for run in own]
        slowdown = f" {100 * own[0]['slowdown']:g} %" if own[0]["slowdown"] else ""
        yield (
            f"| {kind}{slowdown} | {len(own)} | {' | '.join(map(str, counts))} | "
            f"{statistics.median(blocks):g}, {max(blocks)} | {statistics.median(minutes):.1f}, {max(minutes):.1f} |"
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
