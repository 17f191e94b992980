"""Steps of the own loop and of a framework's in turn, in one process: what the framework adds to a pass.

Processes differ by more than a framework costs, and a machine drifts between two trials. Neighbours in time, on one
network and batch, share both.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

from vnbench.loading.collate import Batch
from vnbench.trial.frameworks.looped import TimedStep
from vnbench.trial.instruments.timing import make_timer
from vnbench.trial.step.optimizer_step import OptimizerStep


def measure_pairs(
    own: OptimizerStep,
    loop: TimedStep,
    batches: Iterator[Batch],
    *,
    num_examples: int,
    num_steps: int,
    num_pairs: int,
    max_s: float,
) -> tuple[tuple[float, float], ...]:
    """Return the mean seconds of a step by the own loop and by a framework's, of blocks of ``num_steps`` in turn.

    Each step takes ``num_examples`` examples. Which loop comes first alternates. Both compute in one thread: a second
    would have helpers of its own, which spin beside those of the first. After ``max_s`` seconds no pair starts.
    """
    pairs: list[tuple[float, float]] = []

    def own_block() -> None:
        own_s.append(_mean_step_s(own, batches, num_examples, num_steps))

    end = time.monotonic() + max_s
    for number in range(num_pairs):
        if pairs and time.monotonic() > end:
            break
        own_s: list[float] = []
        if number % 2 == 0:
            loop.call(own_block)
        loop_s = _mean_step_s(loop, batches, num_examples, num_steps)
        if number % 2:
            loop.call(own_block)
        # A clock that steps backwards leaves no pair.
        if own_s[0] > 0 and loop_s > 0:
            pairs.append((own_s[0], loop_s))
    return tuple(pairs)


def _mean_step_s(step: TimedStep, batches: Iterator[Batch], num_examples: int, num_steps: int) -> float:
    _, times, _ = step.run_block(batches, num_examples=[num_examples] * num_steps, timer=make_timer(step.device))
    return math.fsum(times["step_time_s"]) / num_steps
