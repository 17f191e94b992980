"""The README's main job under common conditions: other processors, one core, a busy core, no images yet.

Each condition is one run of ``vnbench sweep --widths 3200:12800`` in a separate folder, about five minutes long.

Run with: python benchmarks/experiments/main_job_report.py --results results/MACHINE/main_job.json --out reports
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from markdown_page import REPORT_ONLY, page_name, write_document, write_page

from vnbench.analysis.trials.noise import measure_noise
from vnbench.analysis.trials.summary import latest_attempts
from vnbench.output.words.numbers import MISSING
from vnbench.output.words.provenance import measured_on
from vnbench.records.record import TrialRecord
from vnbench.records.store import load_results
from vnbench.request.results_folder import results_folder
from vnbench.units import format_duration, format_percent

COMMAND = ("sweep", "--widths", "3200:12800")

AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
"""Variables that make oneDNN and torch compute as on a processor without AVX-512."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """Conditions of a run."""

    name: str
    """Name for people."""
    variables: Mapping[str, str]
    """Environment variables to set."""
    cores: int | None = None
    """Number of cores that the run may use; None for all."""
    is_beside_a_busy_core: bool = False
    """Whether another program computes meanwhile."""
    has_no_images: bool = False
    """Whether the images still have to be written."""


CONDITIONS = (
    Condition(name="as it is", variables={}),
    Condition(name="images to be written", variables={}, has_no_images=True),
    Condition(name="AVX2 alone", variables=AVX2),
    Condition(name="AVX-512 without bf16", variables={"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}),
    Condition(name="one core", variables={}, cores=1),
    Condition(name="beside a busy core", variables={}, is_beside_a_busy_core=True),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """Results of one run."""

    condition: str
    """Name of the condition."""
    elapsed_s: float
    """Seconds of the whole command, imports included."""
    promised_s: float
    """First estimate in seconds, limited by the time budget."""
    num_trained: int
    """Number of configurations with a valid training time."""
    num_trials: int
    """Number of training trials with a valid time."""
    precision: str
    """Precision of the centre."""
    first_figure_s: float | None
    """Seconds from the command's start to the end of its first training trial."""
    num_marked: int
    """Number of table rows with a mark of doubt."""
    median_half_width: float | None
    """Median relative half-width of the ratios to the centre."""
    spread: float | None
    """Relative standard deviation between processes of one configuration."""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="JSON file for the measurements")
    parser.add_argument("--out", type=Path, required=True, help="folder of the report")
    parser.add_argument("--only", help="name of one condition to measure again; the others are kept")
    parser.add_argument(REPORT_ONLY, action="store_true", help="draw the page from an earlier run")
    options = parser.parse_args(arguments)
    document: dict[str, Any] = (
        json.loads(options.results.read_text(encoding="utf-8")) if options.results.exists() else {"runs": []}
    )
    if not options.report_only:
        for condition in CONDITIONS:
            if options.only in (None, condition.name):
                measured, environment = measure(condition)
                others = [one for one in document["runs"] if one["condition"] != condition.name]
                if condition.name == CONDITIONS[0].name or "environment" not in document:
                    document["environment"] = environment
                document |= {"runs": [*others, asdict(measured)], "date": datetime.now(UTC).isoformat()[:10]}
                write_document(document, options.results)
    runs = [Run(**one) for one in document["runs"]]
    order = [condition.name for condition in CONDITIONS]
    origin = measured_on(document["environment"], date=document["date"])
    machine = results_folder(document["environment"]).name
    write_page(
        [
            "# The main job on other machines",
            f"`vnbench {' '.join(COMMAND)}`, once under each condition. {origin.line(f'{len(runs)} runs')}.",
            table(sorted(runs, key=lambda run: order.index(run.condition))),
            "Estimate over time: the first line that promises a time, over what the command took. First figure: until "
            "the first training trial had ended. Half-width: of the 95 % interval of a configuration's ratio to the "
            "centre, in the median. Spread: what processes of one configuration differ by, as one standard deviation.",
        ],
        options.out / f"{page_name('main_job', machine=machine, date=document['date'])}.md",
        script=__file__,
        arguments=arguments,
    )
    return 0


def measure(condition: Condition) -> tuple[Run, dict[str, Any]]:
    """Run the main job under a condition; return its results and the environment of its records."""
    with tempfile.TemporaryDirectory() as folder, _busy_core(is_wanted=condition.is_beside_a_busy_core):
        out = Path(folder) / "sweep.jsonl"
        before = [] if condition.cores is None else ["taskset", "-c", f"0-{condition.cores - 1}"]
        started, start = datetime.now(UTC), time.monotonic()
        cache = {"XDG_CACHE_HOME": folder} if condition.has_no_images else {}
        done = subprocess.run(
            [*before, sys.executable, "-m", "vnbench", *COMMAND, "--out", str(out), "--json"],
            env=os.environ | cache | dict(condition.variables),
            stdout=subprocess.PIPE,
            check=True,
        )
        elapsed_s = time.monotonic() - start
        answer = json.loads(done.stdout)
        records = load_results(Path(answer["out"])).records
    timed = [row for row in answer["rows"] if row["valid_px_per_s"] is not None]
    half_widths = [(row["interval"][1] - row["interval"][0]) / 2 / row["ratio"] for row in timed if row["interval"]]
    spread = measure_noise(latest_attempts(records)).spread_for("training")
    return Run(
        condition=condition.name,
        elapsed_s=elapsed_s,
        promised_s=answer["promised_s"],
        num_trained=len(timed),
        num_trials=sum(row["num_processes"] for row in timed),
        precision=next((row["spec"]["precision"] for row in timed if row["is_centre"]), MISSING),
        first_figure_s=_first_figure_s(records, started),
        num_marked=sum(row["is_marked"] for row in answer["rows"]),
        median_half_width=statistics.median(half_widths) if half_widths else None,
        spread=spread.relative if spread else None,
    ), dict(records[0].environment)


def _first_figure_s(records: Sequence[TrialRecord], started: datetime) -> float | None:
    ends = [
        (datetime.fromisoformat(record.started_at) - started).total_seconds() + record.elapsed_s
        for record in records
        if record.kind == "training" and record.status == "ok"
    ]
    return min(ends, default=None)


@contextlib.contextmanager
def _busy_core(*, is_wanted: bool) -> Iterator[None]:
    """Return a context in which another program uses one core, if wanted."""
    if not is_wanted:
        yield
        return
    program = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        program.kill()
        program.wait()


def table(runs: Sequence[Run]) -> str:
    lines = [
        "| condition | took | trained | trials | centre | estimate over time | first figure, s | marked rows "
        "| half-width | spread |",
        "|---|---:|---:|---:|---|---:|---:|---:|---:|---:|",
    ]
    for run in runs:
        cells = [
            run.condition,
            format_duration(run.elapsed_s),
            f"{run.num_trained}",
            str(run.num_trials),
            run.precision,
            f"{run.promised_s / run.elapsed_s:.2f}",
            MISSING if run.first_figure_s is None else f"{run.first_figure_s:.0f}",
            f"{run.num_marked} of {run.num_trained}",
            MISSING if run.median_half_width is None else f"± {format_percent(run.median_half_width)}",
            MISSING if run.spread is None else format_percent(run.spread),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
