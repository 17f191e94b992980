"""A loader whose workers are threads: no batch crosses processes, and decoders release the GIL."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from torch.utils.data import Dataset

from vnbench.batching.plan import MicroBatch
from vnbench.errors import LoaderError
from vnbench.loading.collate import Batch

Result: TypeAlias = "Batch | Exception"

Tasks: TypeAlias = "queue.SimpleQueue[tuple[MicroBatch, queue.SimpleQueue[Result]] | None]"
"""Micro-batches to load, each with a queue for its result; None ends one thread."""


class ThreadLoader:
    """Yields given micro-batches as tensors, in order, once per iteration."""

    def __init__(
        self,
        dataset: Dataset[Batch],
        micro_batches: Sequence[MicroBatch],
        *,
        num_workers: int,
        prefetch_factor: int,
        timeout_s: float,
    ) -> None:
        self._dataset = dataset
        self._micro_batches = micro_batches
        self._num_workers = num_workers
        self._num_ahead = num_workers * prefetch_factor
        self._timeout_s = timeout_s

    def __len__(self) -> int:
        return len(self._micro_batches)

    def __iter__(self) -> Iterator[Batch]:
        """Start the threads; return the batches of one pass."""
        tasks: Tasks = queue.SimpleQueue()
        for number in range(self._num_workers):
            _Worker(self._dataset, tasks, number=number).start()
        # Request as many batches as to prefetch; each batch taken requests another.
        promised = [self._ask(tasks, micro_batch) for micro_batch in self._micro_batches[: self._num_ahead]]
        return self._batches(tasks, promised)

    def _batches(
        self,
        tasks: Tasks,
        promised: list[queue.SimpleQueue[Result]],
    ) -> Iterator[Batch]:
        rest = iter(self._micro_batches[self._num_ahead :])
        try:
            while promised:
                try:
                    result = promised.pop(0).get(timeout=self._timeout_s)
                except queue.Empty:
                    raise LoaderError(f"DataLoader timed out after {self._timeout_s:g} seconds") from None
                if isinstance(result, Exception):
                    raise result
                following = next(rest, None)
                if following is not None:
                    promised.append(self._ask(tasks, following))
                yield result
        finally:
            for _ in range(self._num_workers):
                tasks.put(None)

    @staticmethod
    def _ask(tasks: Tasks, micro_batch: MicroBatch) -> queue.SimpleQueue[Result]:
        answer: queue.SimpleQueue[Result] = queue.SimpleQueue()
        tasks.put((micro_batch, answer))
        return answer


class _Worker(threading.Thread):
    def __init__(
        self,
        dataset: Dataset[Batch],
        tasks: Tasks,
        *,
        number: int,
    ) -> None:
        # A daemon, because a hanging thread must not keep the process alive.
        super().__init__(daemon=True, name=f"loader-{number}")
        self.worker_number = number
        self._dataset = dataset
        self._tasks = tasks

    def run(self) -> None:
        while (task := self._tasks.get()) is not None:
            micro_batch, answer = task
            try:
                answer.put(self._dataset[micro_batch])
            except Exception as error:  # re-raised by the consumer
                answer.put(error)
