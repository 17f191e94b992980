"""A stand-in for pynvml, as complete, half-working, hanging or lost as a test wants it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from vnbench.measure import nvml_calls

LONG_S = 600
"""How long a call hangs that nobody lets return."""

UUID = "GPU-11111111-2222-3333-4444-555555555555"

ANSWERS: dict[str, Any] = {
    "nvmlInit": None,
    "nvmlDeviceGetHandleByUUID": "handle",
    "nvmlSystemGetDriverVersion": "575.57.08",
    "nvmlDeviceGetMaxClockInfo": 1980,
    "nvmlDeviceGetClockInfo": 1755,
    "nvmlDeviceGetPowerUsage": 512_500,
    "nvmlDeviceGetTemperature": 54,
    "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=7 * 2**30),
    "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=97, memory=40),
    "nvmlDeviceGetComputeRunningProcesses": ["ours"],
    "nvmlDeviceGetCurrentClocksThrottleReasons": 0,
    "nvmlDeviceGetPowerManagementLimit": 700_000,
    "nvmlDeviceGetPowerManagementDefaultLimit": 700_000,
    "nvmlDeviceGetApplicationsClock": 1980,
    "nvmlDeviceGetDefaultApplicationsClock": 1980,
    "nvmlDeviceGetMigMode": [0, 0],
    "nvmlDeviceGetEccMode": [1, 1],
}
"""What a healthy GPU answers to each function."""


def not_supported(*arguments: Any) -> Any:
    raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)


def gpu_is_lost(*arguments: Any) -> Any:
    raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)


def no_library(*arguments: Any) -> Any:
    raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)


@dataclass
class FakeNvml:
    """Answers the functions of ANSWERS, or as ``changes`` says: another value, or a function that is called."""

    changes: dict[str, Any] = field(default_factory=dict)
    num_calls: dict[str, int] = field(default_factory=dict)
    released: threading.Event = field(default_factory=threading.Event)
    """Lets calls that hang return."""
    has_hung: threading.Event = field(default_factory=threading.Event)
    """Set as soon as a call hangs."""

    def hang(self, *arguments: Any) -> Any:
        self.has_hung.set()
        self.released.wait(LONG_S)
        raise pynvml.NVMLError(pynvml.NVML_ERROR_TIMEOUT)

    def after(self, num_calls: int, function: Callable[..., Any], *, name: str) -> Callable[..., Any]:
        """Return a function that answers as ANSWERS says ``num_calls`` times, and then as ``function`` does."""

        def answer(*arguments: Any) -> Any:
            return ANSWERS[name] if self.num_calls[name] <= num_calls else function(*arguments)

        return answer

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in ANSWERS:
            raise AttributeError(name)

        def call(*arguments: Any) -> Any:
            self.num_calls[name] = self.num_calls.get(name, 0) + 1
            answer = self.changes.get(name, ANSWERS[name])
            return answer(*arguments) if callable(answer) else answer

        return call


@pytest.fixture(name="nvml")
def fake_nvml(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put a fake in the place of pynvml; at the end of the test its hanging calls return."""
    fake = FakeNvml()
    monkeypatch.setattr(nvml_calls, "pynvml", fake)
    monkeypatch.setattr(nvml_calls, "_stuck_threads", [])
    yield fake
    fake.released.set()
