"""Baseline and candidate measured in turn: what drifts on a machine then meets both of them alike."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.records.task import TrialTask

NUM_SIDES = 2

SideRunner = Callable[[int, TrialTask], TrialRecord]
"""Runs one trial on a side: 0 the baseline, 1 the candidate."""


def planned_turns(specs: Sequence[TrialSpec], *, num_processes: int, seed: int) -> tuple[tuple[int, TrialSpec], ...]:
    """Return the trials of ``num_processes`` on each side of each spec, as pairs of side and spec.

    All specs are gone through again and again, each in both sides one right after the other, in a drawn order.
    """
    drawn = random.Random(seed)
    turns: list[tuple[int, TrialSpec]] = []
    for _ in range(num_processes):
        for spec in drawn.sample(list(specs), len(specs)):
            turns += [(side, spec) for side in drawn.sample(range(NUM_SIDES), NUM_SIDES)]
    return tuple(turns)


def run_in_turn(
    turns: Sequence[tuple[int, TrialSpec]],
    *,
    run: SideRunner,
    first_replicates: Sequence[dict[str, int]],
    corpus_directory: str | None,
    is_time_left: Callable[[], bool],
) -> Iterator[tuple[int, TrialRecord]]:
    """Run trials and yield each side with its record; a pair is begun only while time is left.

    ``first_replicates`` are, for each side, the next free replicate of each spec_id, and are counted up.
    """
    for place, (side, spec) in enumerate(turns):
        if place % NUM_SIDES == 0 and not is_time_left():
            return
        replicate = first_replicates[side].get(spec.spec_id, 0)
        first_replicates[side][spec.spec_id] = replicate + 1
        yield side, run(side, TrialTask(spec=spec, replicate=replicate, attempt=0, corpus_directory=corpus_directory))
