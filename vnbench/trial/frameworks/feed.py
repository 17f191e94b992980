"""The passes of a trial, handed one by one to a framework that pulls them: the loop is the framework's.

A framework trains until its data end, while a trial decides block by block whether to go on. So the framework runs in a
thread of its own. It waits in the feed for the next block, and the trial waits until that block is done: never do both
compute. Clocks are read by the framework's thread, so no handing over is part of a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from vnbench.loading.collate import Batch
from vnbench.trial.instruments.timing import PhaseTimes, StepTimer
from vnbench.trial.step.optimizer_step import StepResult

ENDLESS = 10**9
"""Length that a feed tells: a framework that knows no length would fetch a batch ahead to find the last one."""

END_DEADLINE_S = 60.0
"""Seconds that a framework gets to end after its last block."""


class HandedPass(NamedTuple):
    """A micro-batch, and its place in the optimizer step."""

    batch: Batch
    num_examples: int
    """Examples of the whole step."""
    is_first: bool
    """Whether it is the step's first pass."""
    is_last: bool
    """Whether the update follows."""


@dataclass(kw_only=True, slots=True)
class _Block:
    """Steps that are wanted."""

    micro_batches: Iterator[Batch]
    num_examples: Sequence[int]
    timer: StepTimer
    results: list[StepResult] = field(default_factory=list)
    times: tuple[PhaseTimes, float] | None = None


class Feed:
    """An endless iterable of passes for a framework's thread, filled block by block from the trial's."""

    def __init__(self, train: Callable[[Feed], None], *, device: torch.device, num_passes: int | None = None) -> None:
        """``train`` runs the framework on this feed: from the first work on, until ``num_passes`` or the end."""
        self._num_passes = ENDLESS if num_passes is None else num_passes
        self._device = device
        self._thread = threading.Thread(target=self._run, args=(train,), name="framework", daemon=True)
        self._given, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._work: _Block | Callable[[], None] | None = None
        self._block: _Block | None = None
        self._error: BaseException | None = None
        self._is_closed = False
        self._num_left = 0
        self._loss = torch.zeros(())

    def __len__(self) -> int:
        return self._num_passes

    def __iter__(self) -> Iterator[HandedPass]:
        return self

    @property
    def timer(self) -> StepTimer:
        """The timer of the block under way."""
        assert self._block is not None
        return self._block.timer

    # What follows runs in the trial's thread.

    def run_block(
        self, micro_batches: Iterator[Batch], *, num_examples: Sequence[int], timer: StepTimer
    ) -> tuple[list[StepResult], PhaseTimes, float]:
        """Let the framework run a step for each number of examples; return results, times and wall-clock seconds.

        Raises:
            Exception: whatever the framework's thread ended with.
        """
        block = _Block(micro_batches=micro_batches, num_examples=num_examples, timer=timer)
        self._hand(block)
        assert block.times is not None
        return block.results, *block.times

    def call(self, function: Callable[[], None]) -> None:
        """Run a function in the framework's thread: libraries keep what they prepared by thread."""
        self._hand(function)

    def close(self) -> None:
        """End the framework's training, and wait for its thread."""
        self._is_closed = True
        if self._thread.is_alive():
            self._given.release()
            self._thread.join(END_DEADLINE_S)

    def _hand(self, work: _Block | Callable[[], None]) -> None:
        self._work = work
        if not self._thread.ident:
            self._thread.start()
        self._given.release()
        self._done.acquire()
        if self._error is not None:
            raise self._error

    # What follows runs in the framework's thread.

    def _run(self, train: Callable[[Feed], None]) -> None:
        try:
            train(self)
            if not self._end_block() and not self._is_closed:
                raise RuntimeError("the framework ended its training before the trial did")
        except BaseException as error:  # the trial's thread raises it again
            self._error = error
            self._done.release()

    def __next__(self) -> HandedPass:
        self._end_block()
        while self._block is None:
            self._await_block()
        block, is_first = self._block, self._num_left == 0
        if is_first:
            block.timer.begin_step()
            self._num_left = block.num_examples[len(block.results)]
            self._loss = torch.zeros((), device=self._device)
        num_examples = block.num_examples[len(block.results)]
        with block.timer.phase("data_wait"):
            batch = next(block.micro_batches)
        self._num_left -= len(batch.sizes_B2)
        return HandedPass(batch, num_examples, is_first, is_last=self._num_left <= 0)

    def add_loss(self, loss: Tensor) -> None:
        """Add a pass's share to the step's loss."""
        self._loss += loss.detach()

    def end_step(self, num_updates: Tensor) -> None:
        """Tell that the update of a step is done; ``num_updates`` is the optimizer's count of updates."""
        assert self._block is not None
        self._block.results.append(StepResult(loss=self._loss, num_updates=num_updates))
        self._num_left = 0

    def _end_block(self) -> bool:
        """Hand the block back if all of its steps are done; return whether it was."""
        block = self._block
        if block is None or len(block.results) < len(block.num_examples):
            return False
        block.times = block.timer.end_block()
        self._block = None
        self._done.release()
        return True

    def _await_block(self) -> None:
        """Wait for work; do it if it is a function, and make it the block under way otherwise.

        Raises:
            StopIteration: the trial is over.
        """
        if not self._is_closed:
            self._given.acquire()
        if self._is_closed:
            raise StopIteration
        if isinstance(self._work, _Block):
            self._block = self._work
            self._block.timer.begin_block()
        elif self._work is not None:
            self._work()
            self._done.release()
