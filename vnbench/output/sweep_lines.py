"""What a sweep says in lines: the machine, the plan, what is left, what to do next."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from vnbench.output.progress import describe_trial
from vnbench.records.machine_keys import Environment
from vnbench.records.spec.axes import AXES
from vnbench.records.spec.lever import LeverValue
from vnbench.records.spec.precisions import REDUCED_PRECISIONS
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.records.spec.words import TrialKind
from vnbench.request.config import SweepConfig
from vnbench.sweep.budget import SweepEstimate, without_time
from vnbench.sweep.cells import ORDER_OF_WORTH, Cell
from vnbench.sweep.confirming import NUM_BEST, NUM_RANDOM
from vnbench.sweep.design import Design
from vnbench.sweep.estimate import TrialTimes
from vnbench.units import count, format_bytes, format_duration

CPU_NOTE = "A CPU's figures compare configurations on this machine; they do not predict a GPU."
"""Stands under the name of a CPU."""

COMMAND_FOLLOWS = "; measure with: "
"""Stands between why a figure is left out and the command that would measure it."""

MAX_VALUES = 16
"""Changes that are named one by one before a sweep."""


def device_line(config: SweepConfig, environment: Environment) -> str:
    """Return where the sweep runs, and of a CPU what its figures are not."""
    memory = environment["device_memory_bytes"]
    size = f", {format_bytes(memory)}" if memory else ""
    name = f"{environment['device_name']}{size}, torch {environment['torch_version']}"
    return f"device: {name}" if config.device == "cuda" else f"device: CPU, {name}. {CPU_NOTE}"


def plan_lines(
    design: Design, config: SweepConfig, *, num_due: int, out: Path, estimate: SweepEstimate, budget_s: float | None
) -> Iterator[str]:
    """Yield what will be measured, how long it will take, why these are chosen, and what was left out."""
    yield f"measuring: {_measured(design, config)}"
    done = len(design.trials) - num_due
    already = f", {done} of them finished before" if done else ""
    trials = f"{count(len(design.cells), 'configuration')} in {count(len(design.trials), 'trial')}{already}"
    if num_due:
        yield f"estimated time: {_estimated(estimate, budget_s, trials)}"
    else:
        yield f"nothing is left to measure: {trials}"
    if config.design == "factored":
        yield (
            f"then, not in this time: the {NUM_BEST} fastest combinations and {NUM_RANDOM} random ones are trained, "
            f"each {config.replicates} x beside the centre, to confirm the forecasts"
        )
    yield from _why_lines(config)
    for line in design.left_out:
        yield f"left out: {line}"
    yield f"records: {out}"


def _estimated(estimate: SweepEstimate, budget_s: float | None, trials: str) -> str:
    """Return how long some trials take, and what the time budget leaves out of them."""
    whole = f"{format_duration(estimate.total_s)} for {trials}"
    if budget_s is None or estimate.total_s <= budget_s:
        return whole
    ends = f"{format_duration(budget_s)}, the time budget; without it {whole}"
    if estimate.once_s <= budget_s:
        return f"{ends}. Each configuration is measured once first: only repeats are left out"
    return f"{ends}. Some configurations are left out: to measure each once takes {format_duration(estimate.once_s)}"


def _measured(design: Design, config: SweepConfig) -> str:
    """Return the network, and which configurations of it are measured, from the centre or the axes."""
    if not design.cells:
        return config.model
    centre = design.cells[0]
    if config.design == "one-at-a-time":
        changes = [_change(cell, centre) for cell in design.cells[1:]]
        more = f"; and {count(len(changes) - MAX_VALUES, 'other')}" if len(changes) > MAX_VALUES else ""
        varied = f"; then one change at a time: {'; '.join(changes[:MAX_VALUES])}{more}" if changes else ""
        return f"{config.model} in {_phrase(centre, ORDER_OF_WORTH)}{varied}"
    axes = {name: values for name, values in config.axes.items() if len(values) > 1}
    varied = "; ".join(f"{AXES[name].option} {', '.join(map(_value, values))}" for name, values in axes.items())
    how = "computing and loading apart, to forecast" if config.design == "factored" else "every combination"
    return f"{config.model}, {how} of {varied or 'one value of each lever'}"


def _change(cell: Cell, centre: Cell) -> str:
    """Return in what a cell differs from the centre; a micro-batch that is the batch follows it."""
    names = [name for name in AXES if getattr(cell, name) != getattr(centre, name)]
    if len(names) > 1 and cell.precision not in REDUCED_PRECISIONS:
        names = [name for name in names if name != "norm_precision"]  # which is that of the precision
    return _phrase(cell, names)


def _phrase(cell: Cell, names: Iterable[str]) -> str:
    return ", ".join(AXES[name].phrase(_level(cell, name)) for name in AXES if name in names)


def _level(cell: Cell, name: str) -> LeverValue:
    value: LeverValue = getattr(cell, name)
    return "any" if name == "shapes" and value is None else value


def _value(value: object) -> str:
    return "same" if value is None else str(value)


def _why_lines(config: SweepConfig) -> Iterator[str]:
    """Yield what a sweep of this machine chose by itself, and which options choose otherwise."""
    if config.chooses_size and config.time_budget_s is not None:
        yield (
            f"chosen for this machine and --time-budget {format_duration(config.time_budget_s)}: "
            f"{count(config.subset_size, 'image')}, {count(config.max_epochs, 'epoch')}, "
            f"at most {count(config.replicates, 'process')} per configuration (--subset {config.subset_size} "
            f"--max-epochs {config.max_epochs} --replicates {config.replicates} "
            f"--reference-runs {config.reference_runs}; any of these options fixes them all)"
        )


def dry_run_lines(due: Sequence[TrialSpec], *, times: TrialTimes, left_s: float = math.inf) -> Iterator[str]:
    """Yield each trial with the number of its processes, what one of them will take, and how many find no time.

    The time budget leaves ``left_s`` seconds for trials.
    """
    order = sorted(due, key=lambda spec: not spec.is_traced)  # traces go first
    late = Counter(without_time(order, takes_s=times.of, left_s=left_s))
    for spec, number in Counter(due).items():
        each = " each" if number > 1 else ""
        which = f"{late[spec] if late[spec] < number else 'any'} of them" if number > 1 else "it"
        yield (
            f"{number} x {describe_trial(spec)}, about {format_duration(times.of(spec))}{each}"
            f"{f'; no time for {which}' if late[spec] else ''}"
        )


def interrupted_line(num_finished: int, *, out: Path) -> str:
    """Return what is left after an interruption, and how to go on."""
    return f"interrupted: {count(num_finished, 'finished trial')} kept in {out}; run the same command again to continue"


def result_lines(
    *,
    out: Path,
    missing_kinds: Mapping[TrialKind, str],
    not_started: Sequence[TrialSpec],
    time_budget_s: float | None,
    plots: Sequence[Path],
    plots_left_out: Sequence[str],
) -> Iterator[str]:
    """Yield what was not measured, and where everything lies.

    ``missing_kinds`` are kinds of trials of which nothing was measured, with the reason. ``not_started`` are trials of
    configurations that got no figure at all. ``plots_left_out`` has a line per figure, which begins with its name.
    """
    if not_started:
        budget = f" within the time budget of {format_duration(time_budget_s)}" if time_budget_s else ""
        yield f"not measured{budget}:"
        yield from (f"    {describe_trial(spec)}" for spec in not_started)
    for kind, reason in missing_kinds.items():
        yield f"nothing was measured of {kind}: {reason}"
    # Of figures that need trials of another kind the names are enough here: few sweeps measure every kind.
    lacking = [line.partition(":")[0] for line in plots_left_out if COMMAND_FOLLOWS in line]
    for line in plots_left_out:
        if COMMAND_FOLLOWS not in line:
            yield f"not drawn: {line}"
    lack = f" (not drawn: {', '.join(lacking)}; vnbench plot lists what to measure)" if lacking else ""
    if plots:
        yield f"figures: {plots[0].parent}{lack}"
    yield f"records: {out}"
