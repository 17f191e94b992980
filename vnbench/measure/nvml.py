"""NVML telemetry of a GPU during a trial: clocks, power, temperature, throttling, memory, other processes.

The parent process reads it, so that nothing polls inside the measured process. A counter that a driver or a virtual GPU
does not offer is None, and a note says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from vnbench.measure import nvml_calls
from vnbench.measure.nvml_calls import NvmlClient
from vnbench.measure.sampling import Span, Stamped, longest_silence_s, readings_in
from vnbench.records.machine_keys import DeviceTelemetry

PERIOD_S = 0.2
"""Seconds between two readings: NVML updates its power and utilisation figures every 0.1 s or more slowly."""

SILENCE_S = 2.0
"""Seconds without a reading that are worth a note: ten periods."""

POWER_CAP = "software power cap"

SLOWDOWNS: Mapping[str, int] = {
    "hardware slowdown": nvml_calls.HARDWARE_SLOWDOWN,
    "software thermal slowdown": nvml_calls.SOFTWARE_THERMAL_SLOWDOWN,
    "hardware thermal slowdown": nvml_calls.HARDWARE_THERMAL_SLOWDOWN,
    "hardware power brake": nvml_calls.HARDWARE_POWER_BRAKE,
}
"""Throttle reasons that mean too much heat or too little power."""

HARMFUL_THROTTLE_REASONS: Mapping[str, int] = {
    POWER_CAP: nvml_calls.SOFTWARE_POWER_CAP,
    **SLOWDOWNS,
}
"""Throttle reasons that slow a running kernel; idle and application clocks are not among them."""

Counter = tuple[str, tuple[Any, ...], Callable[[Any], float]]

COUNTERS: Mapping[str, Counter] = {
    "sm_clock_mhz": ("nvmlDeviceGetClockInfo", (nvml_calls.SM_CLOCK,), float),
    "memory_clock_mhz": ("nvmlDeviceGetClockInfo", (nvml_calls.MEMORY_CLOCK,), float),
    "power_w": ("nvmlDeviceGetPowerUsage", (), lambda milliwatts: milliwatts / 1000),
    "temperature_c": ("nvmlDeviceGetTemperature", (nvml_calls.GPU_TEMPERATURE,), float),
    "device_used_bytes": ("nvmlDeviceGetMemoryInfo", (), lambda memory: int(memory.used)),
    "sm_utilisation_percent": ("nvmlDeviceGetUtilizationRates", (), lambda rates: float(rates.gpu)),
    "num_processes": ("nvmlDeviceGetComputeRunningProcesses", (), len),
}
"""For each counter: function of pynvml, arguments after the device, and conversion."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceReading:
    """One reading of a GPU."""

    counters: Mapping[str, float | None]
    """Values by the names in COUNTERS; None if the driver does not answer."""
    throttle_bits: int | None
    """Current throttle reasons, as bits of nvml.h."""


class DeviceReader:
    """Reads one GPU; only one thread may call ``read``."""

    def __init__(self, uuid: str) -> None:
        """``uuid`` is the device, as ``GPU-...``."""
        self.client = NvmlClient()
        self.max_sm_clock_mhz: float | None = None
        """Highest SM clock of the card; known after the first reading."""
        self._uuid = uuid
        self._handle: Any = None

    def read(self) -> DeviceReading | None:
        """Return a reading, or None if there is no device or it was lost."""
        if self._handle is None:
            self._handle = self.client.find_device(self._uuid) if self.client.open() else None
            if self._handle is None:
                return None
            self.max_sm_clock_mhz = self.client.ask(
                "max_sm_clock_mhz", "nvmlDeviceGetMaxClockInfo", self._handle, nvml_calls.SM_CLOCK, convert=float
            )
        counters = {
            name: self.client.ask(name, function, self._handle, *arguments, convert=convert)
            for name, (function, arguments, convert) in COUNTERS.items()
        }
        bits = self.client.ask(
            "throttle_shares", "nvmlDeviceGetCurrentClocksThrottleReasons", self._handle, convert=int
        )
        return None if self.client.is_device_lost else DeviceReading(counters=counters, throttle_bits=bits)


def summarise_device(
    readings: Sequence[Stamped[DeviceReading]],
    *,
    watched: Span,
    measured: Span | None,
    max_sm_clock_mhz: float | None,
    notes: Sequence[str],
) -> DeviceTelemetry:
    """Return the ``device`` part of a record's telemetry.

    It holds minimum, mean and maximum of each counter and the share of readings with each harmful throttle reason, over
    the readings in the ``measured`` span: all of them if it is None, the nearest one if none is inside. ``watched`` is
    the span in which readings were taken.
    """
    chosen = [item.reading for item in readings_in(readings, measured)]
    silence_s = longest_silence_s(readings, watched)
    silence = [f"no reading for {silence_s:.1f} s"] if silence_s > SILENCE_S else []
    summary: dict[str, Any] = {"num_readings": len(chosen), "period_s": PERIOD_S}
    for name in COUNTERS:
        present = [value for reading in chosen if (value := reading.counters[name]) is not None]
        summary[name] = (
            {"min": min(present), "mean": sum(present) / len(present), "max": max(present)} if present else None
        )
    summary["max_sm_clock_mhz"] = max_sm_clock_mhz
    summary["throttle_shares"] = _throttle_shares(chosen)
    summary["notes"] = [*notes, *silence]
    return cast(DeviceTelemetry, summary)


def throttle_reasons(bits: int) -> tuple[str, ...]:
    """Return the names of the harmful throttle reasons among the bits of nvml.h."""
    return tuple(name for name, bit in HARMFUL_THROTTLE_REASONS.items() if bits & bit)


def _throttle_shares(readings: Sequence[DeviceReading]) -> dict[str, float] | None:
    """Return the share of readings with each harmful reason that occurred; None if the driver reports no reasons."""
    told = [throttle_reasons(reading.throttle_bits) for reading in readings if reading.throttle_bits is not None]
    if not told:
        return None
    shares = {name: sum(name in names for names in told) / len(told) for name in HARMFUL_THROTTLE_REASONS}
    return {name: share for name, share in shares.items() if share}
