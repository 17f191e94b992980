"""What a sweep says in lines: the machine, the plan, what is left, what to do next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from vnbench.output.progress import describe_trial
from vnbench.output.words.commands import Options, same_command
from vnbench.records.machine_keys import Environment
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.records.spec.words import TrialKind
from vnbench.request.config import SweepConfig
from vnbench.sweep.budget import SweepEstimate
from vnbench.sweep.design import Design
from vnbench.sweep.estimate import TrialTimes
from vnbench.units import count, format_bytes, format_duration


def device_line(config: SweepConfig, environment: Environment) -> str:
    """Return where the sweep runs, and on the CPU what its figures are not."""
    memory = environment["device_memory_bytes"]
    size = f", {format_bytes(memory)}" if memory else ""
    name = f"{environment['device_name']}{size}, torch {environment['torch_version']}"
    if config.device == "cuda":
        return f"device: {name}"
    return (
        f"device: CPU, {name}. These are CPU figures ({config.model}, {config.design}): "
        "they show how the levers work here, not what a GPU would do."
    )


def plan_lines(
    design: Design, *, num_due: int, out: Path, estimate: SweepEstimate, budget_s: float | None
) -> Iterator[str]:
    """Yield how much there is to do, how long it will take, and what was left out."""
    done = len(design.trials) - num_due
    already = f", {done} of them finished before" if done else ""
    yield (
        f"{count(len(design.cells), 'configuration')} in {count(len(design.trials), 'trial')}{already}; records: {out}"
    )
    if num_due:
        is_cut = budget_s is not None and estimate.total_s > budget_s
        within = f"; the time budget ends it after {format_duration(budget_s)}" if budget_s and is_cut else ""
        yield f"estimated time: {format_duration(estimate.total_s)}{within}"
    for line in design.left_out:
        yield f"left out: {line}"


def dry_run_lines(due: Sequence[TrialSpec], *, times: TrialTimes) -> Iterator[str]:
    """Yield each trial with what it will take."""
    for number, spec in enumerate(due, start=1):
        yield f"[{number}/{len(due)}] {describe_trial(spec)}, about {format_duration(times.of(spec))}"


def interrupted_line(num_finished: int, *, out: Path) -> str:
    """Return what is left after an interruption, and how to go on."""
    return f"interrupted: {count(num_finished, 'finished trial')} kept in {out}; run the same command again to go on"


def result_lines(
    *,
    out: Path,
    statuses: Mapping[str, int],
    missing_kinds: Mapping[TrialKind, str],
    is_ended_by_image: bool,
    not_started: Sequence[TrialSpec],
    num_repetitions: int,
    time_budget_s: float | None,
    replicates: int,
    kinds: Sequence[TrialKind],
    plots: Sequence[Path],
    plots_left_out: Sequence[str],
    options: Options,
) -> Iterator[str]:
    """Yield what was not measured, where everything lies, and the next command to try.

    ``missing_kinds`` are kinds of trials of which nothing was measured, with the reason; ``is_ended_by_image`` tells
    that the sweep ended at a file that cannot be used. ``not_started`` are trials of configurations that got no figure
    at all, ``num_repetitions`` further processes of the others that found no time. ``options`` are those of this sweep,
    as they were written.
    """
    if not_started:
        budget = f" within the time budget of {format_duration(time_budget_s)}" if time_budget_s else ""
        yield f"not measured{budget}:"
        yield from (f"    {describe_trial(spec)}" for spec in not_started)
    for kind, reason in missing_kinds.items():
        yield f"nothing was measured of {kind}: {reason}"
    for line in plots_left_out:
        yield f"not drawn: {line}"
    if plots:
        yield f"plots: {plots[0].parent}"
    yield f"records: {out}"
    if is_ended_by_image:
        yield f"next: mend the images, or take out what cannot be used, and measure anew: {same_command(options, {})}"
        return
    is_timed = any(kind != "memory" for kind in kinds)
    if not_started:
        yield f"next: the same command again measures the rest, its time counted anew: {same_command(options, {})}"
        return
    if num_repetitions:
        repetitions = count(num_repetitions, "repetition")
        yield f"next: {repetitions} found no time, and would narrow the intervals: {same_command(options, {})}"
        return
    asked = _next_options(statuses, replicates=replicates, is_timed=is_timed)
    if asked is not None:
        reason, changes = asked
        yield f"next: {reason}: {same_command(options, changes)}"


def _next_options(statuses: Mapping[str, int], *, replicates: int, is_timed: bool) -> tuple[str, Options] | None:
    """Return why to run the sweep once more, and with which options; None where nothing would be gained."""
    again = sorted(statuses.keys() & {"crashed", "timeout"})
    if again:
        return "to try those that failed again", {"retry": ",".join(again)}
    if not is_timed:
        return None
    return "more processes narrow the intervals", {"replicates": str(3 if replicates < 3 else 2 * replicates)}
