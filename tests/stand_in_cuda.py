"""A stand-in for CUDA where there is none: tensors that are asked for on it lie on the CPU, and its instruments answer.

What runs under it shows that the branches for CUDA find what they call and hand on what they read. It shows nothing of
what a GPU does.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import stand_in_graphs
import torch
from torch.overrides import TorchFunctionMode

CPU = torch.device("cpu")
NUM_BYTES = 2**21
TOTAL_BYTES = 140 * 10**9

STATISTICS = {
    "allocated_bytes.all.peak": NUM_BYTES - 512,
    "requested_bytes.all.peak": NUM_BYTES - 1024,
    "reserved_bytes.all.peak": NUM_BYTES,
    "reserved_bytes.all.current": NUM_BYTES,
    "num_alloc_retries": 0,
    "num_ooms": 0,
}


class Event:
    """Times as the host does, which on the CPU is when the work has ended."""

    def __init__(self, *, enable_timing: bool) -> None:
        assert enable_timing
        self._time_s = 0.0

    def record(self) -> None:
        self._time_s = time.perf_counter()

    def query(self) -> bool:
        return self._time_s > 0

    def elapsed_time(self, end: Event) -> float:
        return 1000 * (end._time_s - self._time_s)


class TensorsOnCpu(TorchFunctionMode):
    """Puts every tensor on the CPU; a device that is asked what it is still says cuda."""

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.device:
            return func(*args, **(kwargs or {}))
        return func(*map(_on_cpu, args), **{name: _on_cpu(value) for name, value in (kwargs or {}).items()})


def _on_cpu(value: Any) -> Any:
    is_cuda = value.type == "cuda" if isinstance(value, torch.device) else isinstance(value, str) and value == "cuda"
    return CPU if is_cuda else value


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the functions of torch.cuda that trials call answer, and autocast and the gradient scaler take the CPU."""
    install_instruments(monkeypatch)
    autocast, scaler = torch.autocast, torch.amp.GradScaler
    monkeypatch.setattr(torch, "autocast", lambda _, **how: autocast("cpu", **how))
    monkeypatch.setattr(torch.amp, "GradScaler", lambda _, **how: scaler("cpu", **how))


def install_instruments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the functions of torch.cuda that trials call answer."""
    answers: dict[str, Any] = {
        "Event": Event,
        "synchronize": lambda device=None: None,
        "current_device": lambda: 0,
        "is_initialized": lambda: True,
        "memory_stats": lambda device=None: dict(STATISTICS),
        "reset_peak_memory_stats": lambda device=None: None,
        "max_memory_allocated": lambda device=None: NUM_BYTES,
        "mem_get_info": lambda device=None: (TOTAL_BYTES - 2 * NUM_BYTES, TOTAL_BYTES),
        "set_per_process_memory_fraction": lambda fraction: None,
        "empty_cache": lambda: None,
        "make_graphed_callables": stand_in_graphs.make_graphed,
        "graph_pool_handle": lambda: (0, 1),
        "get_allocator_backend": lambda: "native",
        "get_device_properties": lambda device=None: SimpleNamespace(
            name="a stand-in", uuid="0", total_memory=TOTAL_BYTES, major=9, minor=0, multi_processor_count=132
        ),
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    monkeypatch.setattr(torch.cuda.memory, "_record_memory_history", lambda **_: None)
    monkeypatch.setattr(torch.cuda.memory, "_dump_snapshot", lambda path: open(path, "wb").close())
