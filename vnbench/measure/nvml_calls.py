"""Safe calls into NVML, which may be missing, not support a query, lose its device, or never return."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

with warnings.catch_warnings():
    # On import, the unmaintained pynvml distribution announces its successor, nvidia-ml-py; both work here.
    warnings.simplefilter("ignore", FutureWarning)
    import pynvml

T = TypeVar("T")

ANSWER_TIMEOUT_S = 5.0
"""Seconds to wait for an answer: without the persistence daemon the driver takes one to two seconds to wake a GPU."""

GPU_IS_LOST: int = pynvml.NVML_ERROR_GPU_IS_LOST
"""Error code for a device that fell off the bus or is otherwise unreachable."""

SM_CLOCK: int = pynvml.NVML_CLOCK_SM
MEMORY_CLOCK: int = pynvml.NVML_CLOCK_MEM
GPU_TEMPERATURE: int = pynvml.NVML_TEMPERATURE_GPU
"""Constants that select a clock or a temperature."""

SOFTWARE_POWER_CAP: int = pynvml.nvmlClocksThrottleReasonSwPowerCap
HARDWARE_SLOWDOWN: int = pynvml.nvmlClocksThrottleReasonHwSlowdown
SOFTWARE_THERMAL_SLOWDOWN: int = pynvml.nvmlClocksThrottleReasonSwThermalSlowdown
HARDWARE_THERMAL_SLOWDOWN: int = pynvml.nvmlClocksThrottleReasonHwThermalSlowdown
HARDWARE_POWER_BRAKE: int = pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown
"""Bits of the throttle reasons."""

_stuck_threads: list[threading.Thread] = []
"""Threads that hang in an NVML call."""


class NvmlClient:
    """Client of NVML. An unanswered query returns None, and a note says why, once per query."""

    def __init__(self) -> None:
        self.is_device_lost = False
        """Whether NVML reported the device as lost."""
        self._notes: dict[str, str] = {}

    @property
    def notes(self) -> tuple[str, ...]:
        """Unanswered queries with reasons, such as ``power_w: Not Supported``."""
        return tuple(f"{what}: {why}" for what, why in list(self._notes.items()))

    def ask(self, what: str, function: str, *arguments: Any, convert: Callable[[Any], Any] | None = None) -> Any:
        """Return the result of a function of pynvml, passed through ``convert``; None if the call fails."""
        try:
            answer = getattr(pynvml, function)(*arguments)
            return answer if convert is None else convert(answer)
        except Exception as error:  # drivers, pynvml and ctypes raise their own errors; none may end a trial
            if getattr(error, "value", None) == GPU_IS_LOST:
                self.is_device_lost = True
            self._notes.setdefault(what, str(error) or type(error).__name__)
            return None

    def open(self) -> bool:
        """Return whether NVML is available. Opening it again is cheap, because it counts its users."""
        self.ask("NVML", "nvmlInit")
        return "NVML" not in self._notes

    def find_device(self, uuid: str) -> Any:
        """Return the handle of the device ``GPU-...``, or None."""
        handle = self.ask("device", "nvmlDeviceGetHandleByUUID", uuid)
        if handle is None and not self.is_device_lost:
            # torch gives a MIG slice the prefix of a whole GPU.
            handle = NvmlClient().ask("slice", "nvmlDeviceGetHandleByUUID", uuid.replace("GPU-", "MIG-", 1))
            if handle is not None:
                del self._notes["device"]
        return handle


def answer_within(timeout_s: float, question: Callable[[], T]) -> T | None:
    """Return the result of a function that calls NVML, or None if it takes longer than ``timeout_s`` seconds.

    While an earlier call still hangs, the function is not called, and the result is None.
    """
    if is_stuck():
        return None
    answers: list[T] = []
    thread = threading.Thread(target=lambda: answers.append(question()), name="nvml-question", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if thread.is_alive():
        give_up(thread)
    return answers[0] if answers else None


def give_up(thread: threading.Thread) -> None:
    """Note that a thread hangs in an NVML call."""
    _stuck_threads.append(thread)


def is_stuck() -> bool:
    """Return whether an earlier NVML call still hangs; then the driver would hang every caller."""
    return any(thread.is_alive() for thread in _stuck_threads)
