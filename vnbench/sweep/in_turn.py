"""Measurement of baseline and candidate in turn, so that drift of the machine affects both alike."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.records.task import TrialTask

NUM_SIDES = 2

SideRunner = Callable[[int, TrialTask], TrialRecord]
"""Runs one trial on a side: 0 is the baseline, 1 the candidate."""


def planned_turns(specs: Sequence[TrialSpec], *, num_processes: int, seed: int) -> tuple[tuple[int, TrialSpec], ...]:
    """Return pairs of side and spec: ``num_processes`` trials of each spec on each side.

    Each round runs all specs in random order, each on both sides in direct succession, in random order, too.
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
    """Run trials and yield (side, record); start a pair only while time is left.

    ``first_replicates`` holds the next free replicate of each spec_id for each side; this function updates it.
    """
    for place, (side, spec) in enumerate(turns):
        if place % NUM_SIDES == 0 and not is_time_left():
            return
        replicate = first_replicates[side].get(spec.spec_id, 0)
        first_replicates[side][spec.spec_id] = replicate + 1
        yield side, run(side, TrialTask(spec=spec, replicate=replicate, attempt=0, corpus_directory=corpus_directory))
