"""Performance of the gate: simulated against other rules, calibrated on repeated sweeps, tried on injected regressions.

Run with: vnbench sweep --config benchmarks/definitions/gate.toml --out results/cpu-amd-epyc/gate_1.jsonl  (and 2 to 4)
          python benchmarks/experiments/gate_injected.py --out results/cpu-amd-epyc/gate_injected.json
          python benchmarks/experiments/gate_against_pairs.py --out results/CPU/gate_against.ndjson --pairs 12
          python benchmarks/experiments/gate_truths.py --out results/CPU/gate_truths.ndjson --passes 1
          python benchmarks/experiments/gate_report.py results/cpu-amd-epyc/gate_[1-4].jsonl \\
              --injected results/cpu-amd-epyc/gate_injected.json --against results/CPU/gate_against.ndjson \\
              --truths results/CPU/gate_truths.ndjson --out reports
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gate_against_pairs as against
import gate_simulation as simulation
import gate_sweep_simulation as sweep_simulation
import gate_truths as truths
from markdown_page import records_page_name, write_page
from matplotlib.figure import Figure

from vnbench.analysis.comparison.calibration import Calibration, calibrate, processes_needed
from vnbench.analysis.comparison.compare import Comparison, compare
from vnbench.analysis.comparison.ratios import FAMILY_ERROR
from vnbench.analysis.comparison.rows import Tolerances
from vnbench.analysis.comparison.sides import side_of
from vnbench.commands.gate.calibrate import SEED
from vnbench.output.gate.calibration import calibration_lines
from vnbench.output.gate.words import HOW_IT_DECIDES, names_of
from vnbench.output.plots.style import DOTS_PER_INCH, WIDTH_INCHES, save, styled
from vnbench.output.words.provenance import CPU_LABEL, provenance
from vnbench.records.record import TrialRecord
from vnbench.records.store import load_all
from vnbench.units import format_percent

DETECT = 0.03
SIZES = (0.01, 0.02, 0.04)
SLOWDOWNS = (0.0, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12)
CURVE_RUNS = 150
CURVE_NOISE = simulation.noises(0.02)[2]
COLOURS = {
    "gate": "#D55E00",
    "mean 5%": "#0072B2",
    "min 5%": "#56B4E9",
    "rank test": "#009E73",
    "rank + 10%": "#888888",
}
DASHES = {"gate": "-", "mean 5%": "--", "min 5%": ":", "rank test": "-.", "rank + 10%": (0, (6, 2))}
MARKERS = {"gate": "o", "mean 5%": "s", "min 5%": "^", "rank test": "D", "rank + 10%": "v"}


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", help="sweeps of one revision")
    parser.add_argument("--injected", type=Path, required=True, help="output of gate_injected.py")
    parser.add_argument("--against", type=Path, required=True, help="output of gate_against_pairs.py")
    parser.add_argument("--truths", type=Path, help="output of gate_truths.py")
    parser.add_argument("--out", type=Path, required=True, help="folder of the report")
    options = parser.parse_args(arguments)

    loaded = [load_all([path]).records for path in options.results]
    sides = [side_of(records) for records in loaded]
    everything = [record for records in loaded for record in records]
    origin = provenance(everything)
    calibration = calibrate(sides, detect=DETECT, tolerances=Tolerances(), seed=SEED)
    assert calibration is not None, "the definition has ten processes of each configuration"
    name = records_page_name("gate", everything)
    options.out.mkdir(parents=True, exist_ok=True)
    with styled():
        save(power_figure(), options.out, name=name)
    blocks = [
        "# The gate: what it sees, and what it takes for noise",
        HOW_IT_DECIDES,
        *simulation_section(),
        f"![Share of comparisons that find a slowdown, by its size]({name}.png)",
        *sweep_section(),
        *against_section(options.against),
        *(truths_section(options.truths) if options.truths else ()),
        *machine_section(loaded, calibration, line=origin.line(f"{len(everything)} trials"), is_cpu=origin.is_cpu),
        *injected_section(json.loads(options.injected.read_text(encoding="utf-8"))),
    ]
    write_page(blocks, options.out / f"{name}.md", script=__file__, arguments=arguments)
    return 0


def simulation_section() -> Iterator[str]:
    names = list(simulation.RULES)
    yield "## Simulated, beside other rules on the same data"
    yield (
        f"{simulation.NUM_ROWS} configurations, {simulation.NUM_PROCESSES} processes a side of {simulation.NUM_STEPS} "
        f"steps, {simulation.NUM_RUNS} comparisons for each figure, fixed seeds "
        "(benchmarks/experiments/gate_simulation.py). The noise is the standard deviation of a process's mean. False "
        "alarms: comparisons of equals that find a regression in any row. Found: comparisons that find one where every "
        "configuration is 3 % slower. mean 5% and min 5% are pytest-benchmark's --benchmark-compare-fail (the first "
        "also a plain threshold on the mean); the rank test is Mann and Whitney's at p < 0.002 over all steps, rank + "
        "10% is asv's rule, which asks for 1.1 times as well."
    )
    header = " | ".join(f"{name} false | found" for name in names)
    lines = [f"| noise | kind | {header} |", f"|---|---|{'---:|---:|' * len(names)}"]
    totals: dict[str, list[float]] = {name: [] for name in names}
    for size in SIZES:
        for noise in simulation.noises(size):
            false = simulation.found(noise)
            seen = simulation.found(noise, slow_rows=simulation.NUM_ROWS, slowdown=DETECT, num_runs=100, seed=1)
            for name in names:
                totals[name].append(false[name])
            cells = " | ".join(f"{format_percent(false[name])} | {100 * seen[name]:.0f} %" for name in names)
            lines.append(f"| {100 * size:.0f} % | {noise.name} | {cells} |")
    yield "\n".join(lines)
    yield (
        "False alarms over all of these: "
        + ", ".join(f"{name} {format_percent(sum(values) / len(values))}" for name, values in totals.items())
        + f". The gate's own bound is {format_percent(FAMILY_ERROR)}."
    )
    yield from single_row_lines()


def single_row_lines() -> Iterator[str]:
    """Yield the number of processes that a calibration asks for to find a slowdown of a single row, and its power."""
    spread = math.hypot(CURVE_NOISE.between, CURVE_NOISE.within / math.sqrt(simulation.NUM_STEPS))
    count = processes_needed(spread, detect=DETECT, tolerance=simulation.TOLERANCE, num_rows=simulation.NUM_ROWS)
    assert count is not None
    gate = {"gate": simulation.gate}
    many = simulation.found(CURVE_NOISE, rules=gate, slow_rows=1, num_processes=count, num_runs=200, seed=2)["gate"]
    one = simulation.found(
        CURVE_NOISE, rules=gate, slow_rows=simulation.NUM_ROWS, num_processes=1, num_runs=200, seed=3
    )["gate"]
    yield (
        f"With {CURVE_NOISE.name} and noise of 2 %: a slowdown of 3 % in one configuration of "
        f"{simulation.NUM_ROWS} takes {count} processes a side by the calibration's formula, and is then found in "
        f"{100 * many:.0f} % of 200 comparisons; in all of them, one process a side, the default of a sweep, finds it "
        f"in {100 * one:.0f} %."
    )


def sweep_section() -> Iterator[str]:
    """Yield the tables of simulations in which whole sweeps differ, and the machine drifts."""
    rows, processes = sweep_simulation.NUM_ROWS, sweep_simulation.NUM_PROCESSES
    runs, slow_runs = sweep_simulation.NUM_RUNS, sweep_simulation.NUM_SLOW_RUNS
    yield "## Simulated, where whole sweeps of one revision differ"
    yield (
        f"{rows} configurations, {processes} processes a side and sweep, no flag, fixed seeds "
        "(benchmarks/experiments/gate_sweep_simulation.py). Processes and sweeps: standard deviation between them. "
        f"Heavy tails are those of Student's t with {sweep_simulation.TAIL_DOF} degrees of freedom. Alarm, undecided: "
        f"of {runs} comparisons of equals. Found: called a regression, of {slow_runs} in which every configuration is "
        f"{format_percent(sweep_simulation.SLOWDOWN)} slower. Where sweeps differ by as much, undecided is the right "
        "answer."
    )
    yield "\n".join(sweep_simulation.sweep_table())
    yield "## Simulated, measured in turn"
    yield (
        "The same with gate --against: the drift is how far the machine wanders within the time of a sweep. At most "
        f"{sweep_simulation.MAX_BLOCKS} blocks, of which {sweep_simulation.BLOCKS_IN_THREE_SWEEPS} take as long as "
        f"three sweeps. Blocks are those of the median run. Alarm, undecided: of {sweep_simulation.NUM_TURN_RUNS} "
        "comparisons of equals."
    )
    yield "\n".join(sweep_simulation.in_turn_table())


def against_section(path: Path) -> Iterator[str]:
    """Yield the table of real gates in turn."""
    runs = against.runs_in(path)
    yield "## In turn, on a real machine"
    yield (
        f"{against.about(runs)}. Two copies of the source, measured by gate --against (benchmarks/experiments/"
        "gate_against_pairs.py); in every second run each training step of one copy waits for 3 % of its own duration."
    )
    yield "\n".join(against.table(runs))


def truths_section(path: Path) -> Iterator[str]:
    """Yield the tables of planted slowdowns beside a busy program, under each rule."""
    runs = against.runs_in(path)
    differing = list(dict.fromkeys(told for run in runs for told in run["not_same"]))
    yield "## Planted slowdowns, beside a busy program"
    yield (
        f"{against.about(runs)}. Two copies of the source, measured in turn on {truths.NUM_BLOCKS} blocks of "
        f"{len(runs[0]['rows'])} configurations (benchmarks/experiments/gate_truths.py), while another process takes a "
        "core for 1 to 5 s after every 2 to 10 s. One copy waits in one place for a share of a time that it takes. How "
        "much of that reaches the time of each configuration, measured with a share of "
        f"{100 * truths.WHOLE:.0f} % and no other process, in the median of {truths.NUM_WHOLE_BLOCKS} blocks:"
    )
    yield "\n".join(truths.reach_table(runs))
    yield (
        "The order of an epoch is drawn before any of these clocks starts, so that a slower draw shows in no time: the "
        "sampler here is what hands out the examples of each batch."
    )
    yield (
        "Runs that each rule calls slower, of how many; of unchanged copies these are false alarms. A rule is asked of "
        "each configuration, and one is enough. All rules have the same times; the gate may use fewer of them, as it "
        f"ends when it is decided. Its tolerance is {format_percent(Tolerances().time)}: a pass is its right answer to "
        "less, also where the mean of all configurations is slowed by less because one of them alone is. mean and min "
        "are pytest-benchmark's --benchmark-compare-fail, median 5% is a plain threshold, the rank test is Mann and "
        "Whitney's, one-sided at p < 0.01, and asv asks for p < 0.002, two-sided, and for 1.1 times."
    )
    yield "\n".join(truths.table(runs))
    if differing:
        yield f"Beside times, these differed: {'; '.join(differing)}."


def power_figure() -> Figure:
    """Return two panels with the share found, by the slowdown of all rows and of a single row; zero is noise alone."""
    figure = Figure(figsize=(WIDTH_INCHES, 4.2), dpi=DOTS_PER_INCH, layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    titles = ((f"all {simulation.NUM_ROWS} slower", simulation.NUM_ROWS), (f"one of {simulation.NUM_ROWS} slower", 1))
    for axes, (title, rows) in zip(panels, titles, strict=True):
        shares = [
            simulation.found(CURVE_NOISE, slow_rows=rows, slowdown=slowdown, num_runs=CURVE_RUNS, seed=10 + i)
            for i, slowdown in enumerate(SLOWDOWNS)
        ]
        for name in simulation.RULES:
            axes.plot(
                [100 * slowdown for slowdown in SLOWDOWNS],
                [100 * share[name] for share in shares],
                marker=MARKERS[name],
                markersize=4.5,
                color=COLOURS[name],
                linestyle=DASHES[name],
                linewidth=2.2 if name == "gate" else 1.2,
                label=name,
            )
        axes.set_title(title)
        axes.set_xlabel("true slowdown (%)")
        axes.set_ylim(-3, 103)
    panels[0].set_ylabel("regressions found (% of comparisons)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    margin = 100 * 1.96 * math.sqrt(0.25 / CURVE_RUNS)
    figure.suptitle(
        f"Simulated: {simulation.NUM_ROWS} configurations, {simulation.NUM_PROCESSES} processes a side, 2 % noise.\n"
        f"{CURVE_RUNS} comparisons a point: ± {margin:.0f} percentage points at most (95 %).",
        fontsize=8.5,
    )
    return figure


def machine_section(
    sweeps: Sequence[Sequence[TrialRecord]], found: Calibration, *, line: str, is_cpu: bool
) -> Iterator[str]:
    yield "## On this machine"
    yield f"{line}. {CPU_LABEL + '.' if is_cpu else ''}"
    yield "\n".join(f"- {text}" for text in calibration_lines(found, num_sweeps=len(sweeps)))
    sides = [side_of(records) for records in sweeps]
    singles = [compare(*pair) for pair in itertools.permutations(sides, 2)]
    halves = list(itertools.combinations(sweeps, len(sweeps) // 2))
    several = [
        compare(side_of(*half), side_of(*(one for one in sweeps if all(one is not other for other in half))))
        for half in halves
    ]
    yield (
        f"Without a flag: of the {len(singles)} ordered pairs of these sweeps {_counted(singles)}; of the "
        f"{len(several)} ways to make two sides of {len(sweeps) // 2} sweeps {_counted(several)}. Rows of the first "
        "pair:"
    )
    first = singles[0]
    names = names_of(first.rows)
    lines = ["| configuration | metric | change | interval | detects | verdict |", "|---|---|---:|---:|---:|---|"]
    for row in first.rows:
        if row.interval is None or row.ratio is None or row.metric in ("shapes", "operators"):
            continue
        low, high = row.interval
        cells = (
            names[row.spec_id],
            row.metric,
            f"{100 * (row.ratio - 1):+.2f} %",
            f"{100 * (low - 1):+.2f} to {100 * (high - 1):+.2f} %",
            format_percent(row.smallest_detectable or 0.0),
            row.verdict,
        )
        lines.append(f"| {' | '.join(cells)} |")
    yield "\n".join(lines)


def _counted(comparisons: Sequence[Comparison]) -> str:
    outcomes = [comparison.outcome for comparison in comparisons]
    return ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in sorted(set(outcomes)))


def injected_section(injected: Mapping[str, Any]) -> Iterator[str]:
    yield "## Injected regressions"
    yield (
        "Each is a change of one place in a copy of the source, measured by a real sweep and compared with the sweep "
        f"of the copy as it was (tolerance of times {format_percent(injected['tolerance_time'])}, everything else at "
        "its default); then the change is taken back and measured again (benchmarks/experiments/gate_injected.py)."
    )
    lines = ["| change | gate | worse in | first reason | taken back |", "|---|---|---|---|---|"]
    for one in injected["found"]:
        reason = (one["reasons"] or ["-"])[0]
        lines.append(f"| {one['name']} | {one['changed']} | {', '.join(one['worse'])} | {reason} | {one['restored']} |")
    yield "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
