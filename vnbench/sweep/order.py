"""The order in which the trials of a sweep run."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vnbench.records.spec.trial_spec import ComputeSpec, TrialSpec
from vnbench.request.config import SweepConfig

REFERENCE_RUNS = 3
"""Default number of runs of the reference trial: at the start, in the middle and at the end."""

MIN_SPECS_FOR_DRIFT = 4
"""Number of timed specs from which the reference trial is repeated by default: a shorter sweep ends before anything
drifts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedTrial:
    """A spec and the number of its repetition."""

    spec: TrialSpec
    """What to measure."""
    replicate: int
    """Number of the process among those of the same spec, from 0."""


def ordered_memory(specs: Sequence[TrialSpec], generator: random.Random) -> Iterator[PlannedTrial]:
    """Yield memory trials, lever keys in random order and each one's trials by ascending micro-batch."""
    levers = sorted({spec.lever_key for spec in specs})
    generator.shuffle(levers)
    for spec in sorted(specs, key=lambda spec: (levers.index(spec.lever_key), spec.micro_batch_size)):
        yield PlannedTrial(spec=spec, replicate=0)


def ordered_timed(
    specs: Sequence[TrialSpec], config: SweepConfig, generator: random.Random, *, num_specs: int | None = None
) -> Iterator[PlannedTrial]:
    """Yield all specs once, then all again, so that drift of the machine affects all alike.

    ``num_specs`` is the number of those of the whole sweep, where these are a share of them.

    The first spec is the reference: its runs are evenly spaced, from the first trial to the last. Under a time budget
    each spec runs once, in the given order, before anything is repeated. In a factored design the reference stands
    beside every compute trial, unless its number of runs is asked for.
    """
    if not specs:
        return
    if config.design == "factored" and config.reference_runs is None:
        yield from _paired(specs, config, generator)
        return
    num_reference_runs = _num_reference_runs(num_specs or len(specs), config)
    if config.time_budget_s is not None:
        yield from (PlannedTrial(spec=spec, replicate=0) for spec in specs)
        yield from _repetitions(specs, config, generator, num_reference_runs=num_reference_runs)
        return
    is_spread = num_reference_runs > 1
    others: list[PlannedTrial] = []
    for replicate in range(config.replicates):
        order = list(specs[1:] if is_spread else specs)
        generator.shuffle(order)
        others += [PlannedTrial(spec=spec, replicate=replicate) for spec in order]
    if not is_spread:
        yield from others
        return
    gaps = num_reference_runs - 1
    for run in range(num_reference_runs):
        yield PlannedTrial(spec=specs[0], replicate=run)
        yield from others[run * len(others) // gaps : (run + 1) * len(others) // gaps] if run < gaps else ()


def _paired(specs: Sequence[TrialSpec], config: SweepConfig, generator: random.Random) -> Iterator[PlannedTrial]:
    """Yield all specs in rounds, with a process of the first, the reference, beside every compute trial.

    One stands between two of them. Under a time budget the first round is in the given order.
    """
    reference, *others = specs
    num_runs = itertools.count()
    for replicate in range(config.replicates):
        if replicate or config.time_budget_s is None:
            generator.shuffle(others)
        num_computing = 0
        for spec in others:
            yield PlannedTrial(spec=spec, replicate=replicate)
            num_computing += isinstance(spec, ComputeSpec)
            if isinstance(spec, ComputeSpec) and num_computing % 2:
                yield PlannedTrial(spec=reference, replicate=next(num_runs))
        if not num_computing:
            yield PlannedTrial(spec=reference, replicate=next(num_runs))


def _num_reference_runs(num_specs: int, config: SweepConfig) -> int:
    if config.reference_runs is None and num_specs < MIN_SPECS_FOR_DRIFT:
        return config.replicates
    return max(config.replicates, config.reference_runs or REFERENCE_RUNS)


def _repetitions(
    specs: Sequence[TrialSpec], config: SweepConfig, generator: random.Random, *, num_reference_runs: int
) -> Iterator[PlannedTrial]:
    """Yield the repetitions after each spec has run once, in equal parts, each of which begins with the reference.

    All ratios to the centre depend on the reference's processes, and time may run out after any trial.
    """
    others: list[PlannedTrial] = []
    for replicate in range(1, config.replicates):
        order = list(specs[1:])
        generator.shuffle(order)
        others += [PlannedTrial(spec=spec, replicate=replicate) for spec in order]
    num_parts = max(1, num_reference_runs - 1)
    for run in range(1, num_reference_runs):
        yield PlannedTrial(spec=specs[0], replicate=run)
        yield from others[(run - 1) * len(others) // num_parts : run * len(others) // num_parts]
