"""Both sides measured block by block, with every record kept as it comes, until the comparison is decided."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from vnbench.analysis.comparison.blocks import Blocks, PairedSpec, blocks_of, compare_blocks
from vnbench.analysis.comparison.compare import Comparison
from vnbench.analysis.comparison.rows import Tolerances
from vnbench.output.block_progress import BlockProgress
from vnbench.records.readings import Metric
from vnbench.records.store import ResultsFile
from vnbench.sweep.blocks import run_block
from vnbench.sweep.in_turn import SideRunner


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockPlan:
    """What is measured in blocks, and for how long."""

    specs: tuple[PairedSpec, ...]
    """The configurations."""
    corpus_directory: Path | None
    """Folder of the image files; None where no configuration reads any."""
    tolerances: Tolerances
    """Changes for the worse that are allowed."""
    metrics: Collection[Metric]
    """What is compared."""
    time_cap_s: float
    """No pair begins later than so many seconds after the first one."""
    seed: int
    """Seed of the order."""

    @property
    def has_times(self) -> bool:
        """Whether times are compared."""
        return "time" in self.metrics


def measure_blocks(
    plan: BlockPlan,
    *,
    files: tuple[ResultsFile, ResultsFile],
    run: SideRunner,
    progress: BlockProgress,
    clock: Callable[[], float] = time.monotonic,
) -> Comparison:
    """Measure block after block until the comparison is decided, nothing is left to measure, or the time is up.

    What the files hold already counts, and is not measured again.
    """
    start = clock()

    def left_s() -> float:
        return plan.time_cap_s - (clock() - start)

    blocks = _blocks(plan, files)
    comparison = _compared(plan, blocks)
    while (
        comparison.outcome == "undecided"
        and not comparison.differing
        and blocks.due(blocks.num_complete)
        and left_s() > 0
    ):
        block = blocks.num_complete
        progress.block_started(blocks, block, left_s=left_s())
        for side, record in run_block(
            blocks,
            block,
            run=run,
            corpus_directory=None if plan.corpus_directory is None else str(plan.corpus_directory),
            is_time_left=lambda: left_s() > 0,
            seed=plan.seed,
        ):
            files[side].append(record)
            progress.finished(record)
        blocks = _blocks(plan, files)
        comparison = _compared(plan, blocks)
        if blocks.num_complete > block:
            progress.block_ended(comparison, blocks.num_complete, left_s=left_s())
    return comparison


def _blocks(plan: BlockPlan, files: tuple[ResultsFile, ResultsFile]) -> Blocks:
    return blocks_of(plan.specs, (files[0].records, files[1].records), has_times=plan.has_times)


def _compared(plan: BlockPlan, blocks: Blocks) -> Comparison:
    return compare_blocks(blocks, tolerances=plan.tolerances, metrics=plan.metrics)
