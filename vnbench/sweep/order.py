"""The order in which the trials of a sweep run."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.request.config import SweepConfig

REFERENCE_RUNS = 3
"""Runs of the reference trial where no other number is asked for: at the start, in the middle and at the end."""

MIN_SPECS_FOR_DRIFT = 4
"""Timed specs from which on the reference trial is repeated unasked: a shorter sweep ends before anything drifts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedTrial:
    """A spec and which repetition of it."""

    spec: TrialSpec
    """What to measure."""
    replicate: int
    """Which process of the same spec, from 0."""


def ordered_memory(specs: Sequence[TrialSpec], generator: random.Random) -> Iterator[PlannedTrial]:
    """Yield memory trials lever by lever in random order, the members of a family by ascending micro-batch."""
    levers = sorted({spec.lever_key for spec in specs})
    generator.shuffle(levers)
    for spec in sorted(specs, key=lambda spec: (levers.index(spec.lever_key), spec.micro_batch_size)):
        yield PlannedTrial(spec=spec, replicate=0)


def ordered_timed(specs: Sequence[TrialSpec], config: SweepConfig, generator: random.Random) -> Iterator[PlannedTrial]:
    """Yield all specs once, then all again, so that a drift of the machine meets all alike.

    The first spec is the reference: its runs lie at even steps, one of them first and one last. Under a time budget
    each spec runs once, in the order given, before anything is repeated.
    """
    if not specs:
        return
    num_reference_runs = _num_reference_runs(len(specs), config)
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


def _num_reference_runs(num_specs: int, config: SweepConfig) -> int:
    if config.reference_runs is None and num_specs < MIN_SPECS_FOR_DRIFT:
        return config.replicates
    return max(config.replicates, config.reference_runs or REFERENCE_RUNS)


def _repetitions(
    specs: Sequence[TrialSpec], config: SweepConfig, generator: random.Random, *, num_reference_runs: int
) -> Iterator[PlannedTrial]:
    """Yield what is left of each spec's processes when all have run once, in equal parts that the reference begins.

    On its processes rest all ratios to the centre, and the time may be up after any of them.
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
