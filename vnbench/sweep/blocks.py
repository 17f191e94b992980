"""Measure both sides of a gate block by block, each configuration on both in direct succession."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from vnbench.analysis.comparison.blocks import Blocks
from vnbench.records.record import TrialRecord
from vnbench.records.task import TrialTask
from vnbench.sweep.in_turn import NUM_SIDES, SideRunner


def run_block(
    blocks: Blocks,
    block: int,
    *,
    run: SideRunner,
    corpus_directory: str | None,
    is_time_left: Callable[[], bool],
    seed: int,
) -> Iterator[tuple[int, TrialRecord]]:
    """Run what is still missing of a block and yield (side, record); start a pair only while time is left.

    Configurations run in random order, each on both sides in random order, the same again for the same seed and block.
    Half a pair that an interruption left is measured again on both sides, or drift would not cancel; and so is, once, a
    pair of which a side crashed, because not every crash comes again.
    """
    drawn = random.Random(f"{seed}/{block}")
    due = blocks.due(block)
    for one in drawn.sample(due, len(due)):
        order = drawn.sample(range(NUM_SIDES), NUM_SIDES)
        key = (one.identity, block)
        if key in blocks.pairs:
            continue
        first = blocks.attempts.get(key, 0)
        for attempt in (first, first + 1):
            if not is_time_left():
                return
            has_crashed = False
            for side in order:
                task = TrialTask(
                    spec=one.sides[side], replicate=block, attempt=attempt, corpus_directory=corpus_directory
                )
                record = run(side, task)
                has_crashed |= record.status == "crashed"
                yield side, record
            if not has_crashed:
                break
