"""What a calibration of the gate says, in lines for people."""

from __future__ import annotations

from collections.abc import Sequence

from vnbench.analysis.comparison.calibration import Calibration
from vnbench.output.words.numbers import significant
from vnbench.units import count, format_percent


def calibration_lines(found: Calibration, *, num_sweeps: int) -> Sequence[str]:
    """Return what the machine's noise makes of the gate."""
    low, high = found.false_alarm_interval
    lines = [
        f"{count(num_sweeps, 'sweep')} of one revision. Their processes were dealt to two sides at random "
        f"{count(found.num_comparisons, 'time')} ({count(found.num_rows, 'configuration')}, "
        f"{count(found.num_processes, 'process')} a side): {count(found.num_false_alarms, 'false alarm')}, "
        f"{format_percent(found.num_false_alarms / found.num_comparisons)} (95 % interval {format_percent(low)} to "
        f"{format_percent(high)}).",
        f"Processes of one configuration differ by {_percent(found.process_spread)} in the median, "
        f"{_percent(found.largest_process_spread)} in the noisiest (standard deviation).",
    ]
    if found.sweep_spread is None:
        lines.append(
            "How far whole sweeps differ cannot be told from one: give two or more, measured at different times."
        )
    else:
        lines.append(
            f"Whole sweeps differ by {_percent(found.sweep_spread)} beyond that. Taken for alike, "
            f"{found.num_sweep_alarms} of {count(found.num_sweep_pairs, 'pair')} would give a false alarm; the gate "
            "finds this spread in a side of several sweeps or a baseline's history, or --sweep-spread tells it."
        )
    if found.processes_all_rows is None:
        lines.append(
            f"No number of processes finds a slowdown of {_percent(found.detect)} in 95 % of cases, as whole sweeps "
            "differ too much: measure both sides in turn (--rerun)."
        )
        return lines
    lines.append(
        f"Processes a side to find a slowdown of {_percent(found.detect)} in 95 % of cases: "
        f"{_number(found.processes_all_rows)} if it is in all configurations, {_number(found.processes_one_row)} if in "
        f"one of median noise, {_number(found.processes_noisiest_row)} if in the noisiest (sweep --replicates N)."
    )
    if found.processes_one_row is None:
        lines.append("Where no number is enough, whole sweeps differ too much: measure both sides in turn (--rerun).")
    return lines


def _number(processes: int | None) -> str:
    return "no number" if processes is None else f"{processes:,}"


def _percent(ratio: float) -> str:
    return f"{significant(100 * ratio, digits=2)} %"
