"""Notes of which example each loader worker is at, readable after a worker died or while it hangs."""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

NOTHING = 0
"""Marks a worker without an example; in the notes, examples are counted from 1."""


class WorkerWatch:
    """One note per worker, in memory shared with every process that is forked after it was made."""

    def __init__(self, num_workers: int) -> None:
        notes = np.frombuffer(mmap.mmap(-1, 16 * max(1, num_workers)), dtype=np.int64)
        self._notes_W2 = notes.reshape(-1, 2)

    @contextmanager
    def at(self, index: int, *, worker: int) -> Iterator[None]:
        """Note that a worker in this process is at an example. The note remains after an exception or death."""
        self._notes_W2[worker] = (os.getpid(), index + 1)
        yield
        self._notes_W2[worker, 1] = NOTHING

    def examples_of(self, message: str) -> tuple[int, ...]:
        """Return the examples of the workers whose pids a message of torch names; of all workers if it names none.

        Workers without an example are left out.
        """
        pids = {
            int(digits) for group in re.findall(r"\(pid(?:\(s\))? ([\d, ]+)\)", message) for digits in group.split(",")
        }
        notes = [(pid, place) for pid, place in self._notes_W2.tolist() if place != NOTHING]
        return tuple(place - 1 for pid, place in notes if not pids or pid in pids)
