"""Settings and current activity of a GPU, to be queried before a measurement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vnbench.measure.nvml import throttle_reasons
from vnbench.measure.nvml_calls import ANSWER_TIMEOUT_S, GPU_TEMPERATURE, SM_CLOCK, NvmlClient, answer_within

Facts = dict[str, Any]
"""JSON values by name; unknown values are None."""

SETTINGS = (
    "driver_version",
    "power_limit_w",
    "default_power_limit_w",
    "max_sm_clock_mhz",
    "application_sm_clock_mhz",
    "default_application_sm_clock_mhz",
    "is_mig_enabled",
    "is_ecc_enabled",
)
"""Keys of ``gpu_settings``."""

ACTIVITY = ("num_gpu_processes", "sm_clock_mhz", "temperature_c", "throttle_reasons")
"""Keys of ``gpu_activity``."""


def gpu_settings(uuid: str | None) -> Facts:
    """Return a GPU's settings (SETTINGS), with unanswered queries in ``nvml_notes``.

    All values are None without a GPU, for which ``uuid`` is None.
    """

    def ask(client: NvmlClient, handle: Any, facts: Facts) -> None:
        facts["driver_version"] = client.ask("driver_version", "nvmlSystemGetDriverVersion", convert=str)
        for name, function, arguments, convert in (
            ("power_limit_w", "nvmlDeviceGetPowerManagementLimit", (), _watts),
            ("default_power_limit_w", "nvmlDeviceGetPowerManagementDefaultLimit", (), _watts),
            ("max_sm_clock_mhz", "nvmlDeviceGetMaxClockInfo", (SM_CLOCK,), int),
            ("application_sm_clock_mhz", "nvmlDeviceGetApplicationsClock", (SM_CLOCK,), int),
            ("default_application_sm_clock_mhz", "nvmlDeviceGetDefaultApplicationsClock", (SM_CLOCK,), int),
            ("is_mig_enabled", "nvmlDeviceGetMigMode", (), _is_first_set),
            ("is_ecc_enabled", "nvmlDeviceGetEccMode", (), _is_first_set),
        ):
            facts[name] = client.ask(name, function, handle, *arguments, convert=convert)

    return _facts(SETTINGS, uuid, ask)


def gpu_activity(uuid: str | None) -> Facts:
    """Return a GPU's current activity (ACTIVITY) and ``nvml_notes``; all values are None if ``uuid`` is None."""

    def ask(client: NvmlClient, handle: Any, facts: Facts) -> None:
        for name, function, arguments, convert in (
            ("num_gpu_processes", "nvmlDeviceGetComputeRunningProcesses", (), len),
            ("sm_clock_mhz", "nvmlDeviceGetClockInfo", (SM_CLOCK,), int),
            ("temperature_c", "nvmlDeviceGetTemperature", (GPU_TEMPERATURE,), int),
            ("throttle_reasons", "nvmlDeviceGetCurrentClocksThrottleReasons", (), _reasons),
        ):
            facts[name] = client.ask(name, function, handle, *arguments, convert=convert)

    return _facts(ACTIVITY, uuid, ask)


def is_lost(uuid: str) -> bool:
    """Return whether NVML reports a GPU as lost; False if NVML does not answer."""

    def ask() -> bool:
        client = NvmlClient()
        handle = client.find_device(uuid) if client.open() else None
        if handle is not None:
            client.ask("temperature_c", "nvmlDeviceGetTemperature", handle, GPU_TEMPERATURE)
        return client.is_device_lost

    return bool(answer_within(ANSWER_TIMEOUT_S, ask))


def _facts(names: tuple[str, ...], uuid: str | None, ask: Callable[[NvmlClient, Any, Facts], None]) -> Facts:
    if uuid is None:
        return {**dict.fromkeys(names), "nvml_notes": None}
    device = uuid
    client = NvmlClient()
    facts: Facts = {}

    def collect() -> bool:
        handle = client.find_device(device) if client.open() else None
        if handle is not None:
            ask(client, handle, facts)
        return True

    has_answered = answer_within(ANSWER_TIMEOUT_S, collect)
    # Copy, because a hanging call may still return and write. Earlier answers count.
    known = dict(facts)
    notes = [*client.notes, *([] if has_answered else [f"NVML: no answer within {ANSWER_TIMEOUT_S:.0f} s"])]
    return {**{name: known.get(name) for name in names}, "nvml_notes": notes}


def _watts(milliwatts: Any) -> float:
    return float(milliwatts) / 1000


def _is_first_set(modes: Any) -> bool:
    current, _ = modes
    return bool(current)


def _reasons(bits: Any) -> list[str]:
    return list(throttle_reasons(int(bits)))
