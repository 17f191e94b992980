"""Time of reading, fitting and reporting in this source tree and in another one, as ratios from one run.

Run with: python benchmarks/suites/bench_trees.py OTHER [--only shipped,many,sizes,report] [--rounds N]

OTHER is the folder of another checkout of vnbench, for example from ``git worktree add /tmp/old REVISION``. Both read
the shipped records, read and report the same file of many records, and fit trials of many sizes. Each measurement is a
fresh process; the trees take turns, so that a machine that slows down slows both. The least CPU time of the rounds
counts.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench_report import NUM_RECORDS, records_of_a_gpu, records_of_many_sizes

from vnbench.records.record import TrialRecord

TREE = Path(__file__).parents[2]

READ = """
import sys, time
from pathlib import Path
from vnbench.records.store import load_all
paths = [Path(name) for name in sys.argv[2:]]
start = time.process_time()
load_all(paths)
print(time.process_time() - start)
"""
FIT = """
import sys, time
from pathlib import Path
from vnbench.analysis.models.fit import fit_families
from vnbench.records.store import load_all
records = load_all([Path(name) for name in sys.argv[2:]]).records
start = time.process_time()
assert fit_families(records)[0]
print(time.process_time() - start)
"""
REPORT = """
import sys, time
from vnbench.cli.app import run
start = time.process_time()
assert run(["report", *sys.argv[2:], "--out", sys.argv[1]]) == 0
print(time.process_time() - start)
"""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, metavar="OTHER")
    parser.add_argument("--only", default="shipped,many,sizes,report", help="what is measured, separated by commas")
    parser.add_argument("--rounds", type=int, default=5, help="processes per measurement and tree")
    options = parser.parse_args(arguments)
    if not (options.other / "vnbench").is_dir():
        parser.error(f"{options.other}: this is not a checkout of vnbench; make one with git worktree add")

    shipped = sorted((TREE / "results").glob("*/*.jsonl"))
    with tempfile.TemporaryDirectory(prefix="vnbench-bench-") as folder:
        many, sizes = Path(folder) / "records.jsonl", Path(folder) / "sizes.jsonl"
        for path, records in ((many, records_of_a_gpu()), (sizes, records_of_many_sizes())):
            path.write_text("".join(f"{without_absent_fields(record)}\n" for record in records), encoding="utf-8")
        measurements = {
            "shipped": (f"reading the {len(shipped)} files that ship", READ, shipped),
            "many": (f"reading {NUM_RECORDS:,} records", READ, [many]),
            "sizes": ("fitting trials of 297 sizes", FIT, [sizes]),
            "report": (f"a report of {NUM_RECORDS:,} records", REPORT, [many]),
        }
        if unknown := set(options.only.split(",")) - measurements.keys():
            parser.error(f"--only {options.only}: {', '.join(sorted(unknown))} is none of {', '.join(measurements)}")
        for what, code, paths in (measurements[name] for name in options.only.split(",")):
            rounds = [
                [seconds_in(tree, code, paths, out=Path(folder) / "report") for tree in (options.other, TREE)]
                for _ in range(options.rounds)
            ]
            other_s, this_s = map(min, zip(*rounds, strict=True))
            print(
                f"{what}: {other_s:.3g} s of CPU time there, {this_s:.3g} s here, {other_s / this_s:.2f} times as fast"
            )
    return 0


def without_absent_fields(record: TrialRecord) -> str:
    """Return a record as a line without empty fields of its spec: an older tree may not know them, and refuses them."""
    line = json.loads(record.to_json())
    line["spec"] = {name: value for name, value in line["spec"].items() if value is not None}
    return json.dumps(line, separators=(",", ":"))


def seconds_in(tree: Path, code: str, paths: Sequence[Path], *, out: Path) -> float:
    """Return the seconds that a piece of code reports, run in a fresh process with the package of a source tree."""
    done = subprocess.run(
        [sys.executable, "-c", code, str(out), *map(str, paths)],
        env=os.environ | {"PYTHONPATH": str(tree.resolve())},
        cwd=out.parent,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return float(done.stdout.split()[-1])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
