"""Calls into NVML, which may be missing, not support a query, lose its device, or never return."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

with warnings.catch_warnings():
    # The unmaintained pynvml distribution announces its successor, nvidia-ml-py, on import; both serve here.
    warnings.simplefilter("ignore", FutureWarning)
    import pynvml

T = TypeVar("T")

ANSWER_TIMEOUT_S = 5.0
"""How long an answer is waited for: without the persistence daemon the driver wakes a GPU for one to two seconds."""

GPU_IS_LOST: int = pynvml.NVML_ERROR_GPU_IS_LOST
"""Error of a device that fell off the bus or is otherwise out of reach."""

SM_CLOCK: int = pynvml.NVML_CLOCK_SM
MEMORY_CLOCK: int = pynvml.NVML_CLOCK_MEM
GPU_TEMPERATURE: int = pynvml.NVML_TEMPERATURE_GPU
"""What clocks and temperatures are asked for by."""

SOFTWARE_POWER_CAP: int = pynvml.nvmlClocksThrottleReasonSwPowerCap
HARDWARE_SLOWDOWN: int = pynvml.nvmlClocksThrottleReasonHwSlowdown
SOFTWARE_THERMAL_SLOWDOWN: int = pynvml.nvmlClocksThrottleReasonSwThermalSlowdown
HARDWARE_THERMAL_SLOWDOWN: int = pynvml.nvmlClocksThrottleReasonHwThermalSlowdown
HARDWARE_POWER_BRAKE: int = pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown
"""Bits of the throttle reasons."""

_stuck_threads: list[threading.Thread] = []
"""Threads that were given up in a call of NVML."""


class NvmlClient:
    """Asks NVML. What it does not answer is None, and a note says why, once per question."""

    def __init__(self) -> None:
        self.is_device_lost = False
        """Whether NVML said that the device is lost."""
        self._notes: dict[str, str] = {}

    @property
    def notes(self) -> tuple[str, ...]:
        """What was not answered, and why, as ``power_w: Not Supported``."""
        return tuple(f"{what}: {why}" for what, why in list(self._notes.items()))

    def ask(self, what: str, function: str, *arguments: Any, convert: Callable[[Any], Any] | None = None) -> Any:
        """Return what a function of pynvml answers, through ``convert``; None where it does not answer."""
        try:
            answer = getattr(pynvml, function)(*arguments)
            return answer if convert is None else convert(answer)
        except Exception as error:  # drivers, pynvml and ctypes each raise their own, and none may end a trial
            if getattr(error, "value", None) == GPU_IS_LOST:
                self.is_device_lost = True
            self._notes.setdefault(what, str(error) or type(error).__name__)
            return None

    def open(self) -> bool:
        """Return whether NVML is there. Opening it again is cheap: it counts its users."""
        self.ask("NVML", "nvmlInit")
        return "NVML" not in self._notes

    def find_device(self, uuid: str) -> Any:
        """Return the handle of the device ``GPU-...``, or None."""
        handle = self.ask("device", "nvmlDeviceGetHandleByUUID", uuid)
        if handle is None and not self.is_device_lost:
            # torch names a slice of a divided GPU by the same letters as a whole one.
            handle = NvmlClient().ask("slice", "nvmlDeviceGetHandleByUUID", uuid.replace("GPU-", "MIG-", 1))
            if handle is not None:
                del self._notes["device"]
        return handle


def answer_within(timeout_s: float, question: Callable[[], T]) -> T | None:
    """Return what a function that calls NVML returns, or None if that takes longer than ``timeout_s`` seconds.

    Nothing is asked while an earlier call still hangs.
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
    """Take note that a thread hangs in a call of NVML."""
    _stuck_threads.append(thread)


def is_stuck() -> bool:
    """Return whether an earlier call of NVML still hangs; a driver that hangs once would hang every caller."""
    return any(thread.is_alive() for thread in _stuck_threads)
