"""What torch.cuda answers where its tensors are fake: an allocator without waste, events that know who waited."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import stand_in_cuda
import stand_in_graphs
import torch
from fake_cuda.device import FakeCuda, RuleError
from torch._subclasses import fake_tensor

from vnbench.trial.checks import equality
from vnbench.trial.instruments.timing import CudaTimer
from vnbench.trial.kinds import training


class Allocator:
    """Counts as torch's caching allocator does, one that wastes nothing: what is freed stays reserved."""

    def __init__(self, device: FakeCuda) -> None:
        self._tracker = device.tracker
        self._floor_bytes = 0
        """Reserved before the tracker's peak began anew."""
        self.kept_bytes: list[int] = []
        """Bytes of live tensors at each emptying of the cache."""

    @property
    def reserved_bytes(self) -> int:
        """Bytes that are taken from the driver now."""
        return max(self._floor_bytes, self._tracker.peak_bytes)

    def statistics(self, device: Any = None) -> dict[str, int]:
        """Answer as torch.cuda.memory_stats."""
        return {
            "allocated_bytes.all.peak": self._tracker.peak_bytes,
            "requested_bytes.all.peak": self._tracker.peak_bytes,
            "reserved_bytes.all.peak": self.reserved_bytes,
            "reserved_bytes.all.current": self.reserved_bytes,
            "num_alloc_retries": 0,
            "num_ooms": 0,
        }

    def reset_peaks(self, device: Any = None) -> None:
        """Answer as torch.cuda.reset_peak_memory_stats."""
        self._floor_bytes = self.reserved_bytes
        self._tracker.peak_bytes = self._tracker.live_bytes

    def empty_cache(self) -> None:
        """Answer as torch.cuda.empty_cache: what is live stays."""
        self.kept_bytes.append(self._tracker.live_bytes)
        self._floor_bytes = self._tracker.peak_bytes = self._tracker.live_bytes


class Event:
    """Times as the host does, and tells nothing before the device was waited for, as CUDA does."""

    num_waits = 0
    """Times that the device was waited for."""

    def __init__(self, *, enable_timing: bool) -> None:
        assert enable_timing
        self._time_s = 0.0
        self._num_waits = -1

    def record(self) -> None:
        """Take the time."""
        self._time_s, self._num_waits = time.perf_counter(), Event.num_waits

    def elapsed_time(self, end: Event) -> float:
        """Return milliseconds."""
        if Event.num_waits in (self._num_waits, end._num_waits):
            raise RuleError("an event is read before the device was waited for")
        return 1000 * (end._time_s - self._time_s)


def install(monkeypatch: pytest.MonkeyPatch, device: FakeCuda) -> Allocator:
    """Let torch.cuda answer for a fake device; return its allocator."""
    allocator = Allocator(device)
    stand_in_cuda.install_instruments(monkeypatch)

    def synchronize(which: Any = None) -> None:
        if device.is_in_block or device.is_capturing:
            raise RuleError("the device is waited for inside a timed block, or in what is captured as a CUDA graph")
        Event.num_waits += 1

    @contextmanager
    def capturing() -> Iterator[None]:
        device.is_capturing = True
        yield
        device.is_capturing = False

    answers: dict[str, Any] = {
        "make_graphed_callables": partial(stand_in_graphs.make_graphed, capturing=capturing),
        "Event": Event,
        "synchronize": synchronize,
        "memory_stats": allocator.statistics,
        "reset_peak_memory_stats": allocator.reset_peaks,
        "max_memory_allocated": lambda which=None: device.tracker.peak_bytes,
        "empty_cache": allocator.empty_cache,
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "is_bf16_supported": lambda *_, **__: True,
        "default_generators": (torch.Generator(),),
        "_lazy_init": lambda: None,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    # It would make a tensor on CUDA that is none of ours.
    monkeypatch.setattr(fake_tensor, "init_gpu_context", lambda _: None)
    monkeypatch.setattr(torch.utils, "swap_tensors", _take_data)
    # Numbers are made up, so that steps are unequal on every draw of examples.
    monkeypatch.setattr(equality, "NUM_DRAWS", 1)
    monkeypatch.setattr(training, "read_weights", lambda _: None)  # fake tensors have no bits
    _mark_blocks(monkeypatch, device)
    return allocator


def _take_data(parameter: torch.Tensor, converted: torch.Tensor) -> None:
    """Give a parameter the data that a module's ``to`` made of it; fake tensors cannot change places (torch 2.13)."""
    parameter.data = converted


def _mark_blocks(monkeypatch: pytest.MonkeyPatch, device: FakeCuda) -> None:
    """Tell the device which steps are timed: those after a block's first edge, up to its last."""
    begin, end = CudaTimer.begin_block, CudaTimer.end_block

    def begin_block(timer: CudaTimer) -> None:
        begin(timer)
        device.is_in_block = True

    def end_block(timer: CudaTimer) -> Any:
        device.is_in_block = False
        return end(timer)

    monkeypatch.setattr(CudaTimer, "begin_block", begin_block)
    monkeypatch.setattr(CudaTimer, "end_block", end_block)
