"""What NVML sees of a GPU while a trial runs: clocks, power, temperature, throttling, memory, other processes.

The parent process reads it, so that nothing polls inside the measured process. Without NVML, or without a GPU, there is
no telemetry, and each counter that a driver does not offer is None.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

with warnings.catch_warnings():
    # The unmaintained pynvml distribution announces its successor, nvidia-ml-py, on import; both serve here.
    warnings.simplefilter("ignore", FutureWarning)
    import pynvml

T = TypeVar("T")

HARMFUL_THROTTLE_REASONS = {
    "software power cap": pynvml.nvmlClocksThrottleReasonSwPowerCap,
    "hardware slowdown": pynvml.nvmlClocksThrottleReasonHwSlowdown,
    "software thermal slowdown": pynvml.nvmlClocksThrottleReasonSwThermalSlowdown,
    "hardware thermal slowdown": pynvml.nvmlClocksThrottleReasonHwThermalSlowdown,
    "hardware power brake": pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown,
}
"""Throttle reasons that slow a running kernel; idling and application clocks are not among them."""


def driver_version() -> str | None:
    """Return the version of the NVIDIA driver, or None where NVML does not answer."""
    if not _initialised():
        return None
    return _ask(pynvml.nvmlSystemGetDriverVersion)


def count_processes(uuid: str | None) -> int | None:
    """Return how many processes compute on a GPU, or None where that is not known."""
    if uuid is None or not _initialised():
        return None
    handle = _ask(pynvml.nvmlDeviceGetHandleByUUID, uuid)
    processes = None if handle is None else _ask(pynvml.nvmlDeviceGetComputeRunningProcesses, handle)
    return None if processes is None else len(processes)


@dataclass(kw_only=True, slots=True)
class DeviceSampler:
    """Collects readings of one GPU; ``sample`` takes one, ``telemetry`` returns what was collected."""

    uuid: str
    """The device, as ``GPU-...``."""
    _handle: Any = field(default=None, init=False)
    _columns: dict[str, list[float | None]] = field(default_factory=dict, init=False)
    _throttle_bits: int = field(default=0, init=False)
    _num_samples: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if _initialised():
            self._handle = _ask(pynvml.nvmlDeviceGetHandleByUUID, self.uuid)

    def sample(self) -> None:
        """Read the counters once."""
        if self._handle is None:
            return
        handle = self._handle
        power_mw = _ask(pynvml.nvmlDeviceGetPowerUsage, handle)
        memory = _ask(pynvml.nvmlDeviceGetMemoryInfo, handle)
        utilisation = _ask(pynvml.nvmlDeviceGetUtilizationRates, handle)
        processes = _ask(pynvml.nvmlDeviceGetComputeRunningProcesses, handle)
        readings: dict[str, float | None] = {
            "sm_clock_mhz": _ask(pynvml.nvmlDeviceGetClockInfo, handle, pynvml.NVML_CLOCK_SM),
            "memory_clock_mhz": _ask(pynvml.nvmlDeviceGetClockInfo, handle, pynvml.NVML_CLOCK_MEM),
            "power_w": None if power_mw is None else power_mw / 1000,
            "temperature_c": _ask(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU),
            "device_used_bytes": None if memory is None else memory.used,
            "sm_utilisation_percent": None if utilisation is None else utilisation.gpu,
            "num_processes": None if processes is None else len(processes),
        }
        for name, value in readings.items():
            self._columns.setdefault(name, []).append(value)
        self._throttle_bits |= _ask(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle) or 0
        self._num_samples += 1

    def telemetry(self) -> dict[str, Any] | None:
        """Return minimum, mean and maximum of each counter and the throttle reasons; None if nothing was read."""
        if not self._num_samples:
            return None
        summary: dict[str, Any] = {"num_samples": self._num_samples}
        for name, column in self._columns.items():
            present = [value for value in column if value is not None]
            summary[name] = (
                {"min": min(present), "mean": sum(present) / len(present), "max": max(present)} if present else None
            )
        summary["throttle_reasons"] = [
            name for name, bit in HARMFUL_THROTTLE_REASONS.items() if self._throttle_bits & bit
        ]
        return summary


@functools.cache
def _initialised() -> bool:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return False
    return True


def _ask(query: Callable[..., T], *arguments: Any) -> T | None:
    try:
        return query(*arguments)
    except pynvml.NVMLError:
        return None
