"""Moments of a run on two clocks: the host's, and on CUDA the device's, of which nothing waits for the end."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment of the training process."""

    host_s: float
    """``time.perf_counter()`` of the host."""
    event: torch.cuda.Event | None
    """Event in the device's current stream; None on the CPU, where work ends when its call returns."""

    def is_reached(self) -> bool:
        """Return whether the device has come so far; nothing waits for it."""
        if self.event is None:
            return True
        return bool(self.event.query())  # type: ignore[no-untyped-call]  # torch 2.13 leaves it untyped

    def until(self, other: Mark) -> float | None:
        """Return the seconds to a later mark, as the device took them; None if the clock stepped backwards.

        On CUDA both must have been reached.
        """
        if self.event is not None and other.event is not None:
            milliseconds: float = self.event.elapsed_time(other.event)
            return milliseconds / 1e3
        return self.host_until(other)

    def host_until(self, other: Mark) -> float | None:
        """Return the seconds to a later mark on the host's clock; None if it stepped backwards."""
        seconds = other.host_s - self.host_s
        return seconds if seconds >= 0 else None


def mark(device: torch.device) -> Mark:
    """Return this moment."""
    event = None
    if device.type == "cuda":
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch 2.13 leaves it untyped
        event.record()
    return Mark(time.perf_counter(), event)
