"""Telemetry of the machine while a trial runs, summarised over the span in which the trial measured."""

from __future__ import annotations

import time
from types import TracebackType

from vnbench.measure import host, nvml, nvml_calls
from vnbench.measure.host import HostReader, HostReading
from vnbench.measure.nvml import DeviceReader, DeviceReading
from vnbench.measure.sampling import Sampler, Span
from vnbench.records.machine_keys import DeviceTelemetry, Telemetry


class MachineWatch:
    """Context manager that samples the host and, if there is one, the GPU.

    The two samplers are independent, and leaving waits at most a second for either: a hanging driver costs only a note.
    """

    def __init__(self, *, device_uuid: str | None) -> None:
        """``device_uuid`` is the GPU, as ``GPU-...``; None on the CPU."""
        self._host_reader = HostReader()
        self._host: Sampler[HostReading] = Sampler(self._host_reader.read, period_s=host.PERIOD_S, name="host-readings")
        self._device_reader = DeviceReader(device_uuid) if device_uuid else None
        self._device: Sampler[DeviceReading] | None = None
        if self._device_reader is not None and not nvml_calls.is_stuck():
            self._device = Sampler(self._device_reader.read, period_s=nvml.PERIOD_S, name="device-readings")
        self._start_s = self._end_s = 0.0

    def __enter__(self) -> MachineWatch:
        self._start_s = time.monotonic()
        self._host.start()
        if self._device is not None:
            self._device.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_s = time.monotonic()
        self._host.stop()
        hanging = self._device.stop() if self._device is not None else None
        if hanging is not None:
            nvml_calls.give_up(hanging)

    def telemetry(self, measured: Span | None) -> Telemetry:
        """Return a summary of a span of ``time.monotonic()``, or of the whole time if ``measured`` is None."""
        return {
            "device": self._device_telemetry(measured),
            "host": host.summarise_host(self._host.readings, num_cpus=self._host_reader.num_cpus, measured=measured),
        }

    def _device_telemetry(self, measured: Span | None) -> DeviceTelemetry | None:
        if self._device_reader is None:
            return None
        readings = self._device.readings if self._device is not None else ()
        if self._device is None:
            notes: tuple[str, ...] = ("NVML: not asked, because an earlier call has not returned",)
        else:
            notes = self._device_reader.client.notes
        # A reader that found no device, or lost it, has noted that; what follows is not a gap in the readings.
        has_ended = self._device is None or self._device.is_exhausted
        end_s = (readings[-1].at_s if readings else self._start_s) if has_ended else self._end_s
        return nvml.summarise_device(
            readings,
            watched=(self._start_s, end_s),
            measured=measured,
            max_sm_clock_mhz=self._device_reader.max_sm_clock_mhz,
            notes=notes,
        )
