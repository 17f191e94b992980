"""Which example each loader worker is at, readable after a worker died or while it hangs."""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

NOTHING = 0
"""Stands where a worker is at no example; examples are counted from 1 here."""


class WorkerWatch:
    """A line of notes per worker, in memory shared with every process forked after it was made."""

    def __init__(self, num_workers: int) -> None:
        notes = np.frombuffer(mmap.mmap(-1, 16 * max(1, num_workers)), dtype=np.int64)
        self._notes_W2 = notes.reshape(-1, 2)

    @contextmanager
    def at(self, index: int, *, worker: int) -> Iterator[None]:
        """Note that a worker of this process is at an example; left standing where an exception or death ends it."""
        self._notes_W2[worker] = (os.getpid(), index + 1)
        yield
        self._notes_W2[worker, 1] = NOTHING

    def examples_of(self, message: str) -> tuple[int, ...]:
        """Return the examples at which the workers are that a message of torch names by pid; of all if it names none.

        A worker that is at no example is left out.
        """
        pids = {
            int(digits) for group in re.findall(r"\(pid(?:\(s\))? ([\d, ]+)\)", message) for digits in group.split(",")
        }
        notes = [(pid, place) for pid, place in self._notes_W2.tolist() if place != NOTHING]
        return tuple(place - 1 for pid, place in notes if not pids or pid in pids)
