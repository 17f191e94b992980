from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any

import pytest
from fake_nvml import UUID, FakeNvml, fake_nvml, gpu_is_lost, no_library, not_supported

from vnbench.measure import gpu_state, nvml_calls
from vnbench.measure.nvml import COUNTERS, HARMFUL_THROTTLE_REASONS, DeviceReader, summarise_device
from vnbench.measure.nvml_calls import NvmlClient, answer_within
from vnbench.measure.sampling import (
    MAX_PERIOD_S,
    Sampler,
    Span,
    Stamped,
    longest_silence_s,
    readings_in,
    stretched_period_s,
)

__all__ = ["fake_nvml"]  # the fixture ``nvml``


def summary(reader: DeviceReader, *, num_readings: int, measured: Span | None = None) -> dict[str, Any]:
    """Return the summary of readings at 0 s, 1 s, ..."""
    readings = [(float(at_s), reader.read()) for at_s in range(num_readings)]
    return summarise_device(
        [Stamped(at_s=at_s, reading=reading) for at_s, reading in readings if reading is not None],
        watched=(0.0, float(num_readings)),
        measured=measured,
        max_sm_clock_mhz=reader.max_sm_clock_mhz,
        notes=reader.client.notes,
    )


def test_a_healthy_device_has_every_counter_and_no_notes(nvml: FakeNvml) -> None:
    told = summary(DeviceReader(UUID), num_readings=3)
    assert told["num_readings"] == 3
    assert told["power_w"] == {"min": 512.5, "mean": 512.5, "max": 512.5}
    assert told["device_used_bytes"]["max"] == 7 * 2**30
    assert told["num_processes"]["max"] == 1
    assert told["max_sm_clock_mhz"] == 1980
    assert told["throttle_shares"] == {}
    assert told["notes"] == []


def test_only_readings_in_the_measured_span_count(nvml: FakeNvml) -> None:
    watts = iter([100_000, 400_000, 600_000, 100_000])
    nvml.changes["nvmlDeviceGetPowerUsage"] = lambda handle: next(watts)
    told = summary(DeviceReader(UUID), num_readings=4, measured=(1.0, 2.0))
    assert told["num_readings"] == 2
    assert told["power_w"] == {"min": 400.0, "mean": 500.0, "max": 600.0}


def test_a_query_that_is_not_supported_is_null_and_one_note(nvml: FakeNvml) -> None:
    nvml.changes["nvmlDeviceGetPowerUsage"] = not_supported
    nvml.changes["nvmlDeviceGetCurrentClocksThrottleReasons"] = not_supported
    told = summary(DeviceReader(UUID), num_readings=3)
    assert told["power_w"] is None
    assert told["throttle_shares"] is None
    assert told["sm_clock_mhz"]["mean"] == 1755
    assert told["notes"] == ["power_w: Not Supported", "throttle_shares: Not Supported"]


@pytest.mark.parametrize("error", [OSError("driver went away"), AttributeError("no such function"), TypeError("c_int")])
def test_whatever_a_query_raises_it_is_a_note(nvml: FakeNvml, error: Exception) -> None:
    def fail(*arguments: Any) -> Any:
        raise error

    nvml.changes["nvmlDeviceGetTemperature"] = fail
    told = summary(DeviceReader(UUID), num_readings=2)
    assert told["temperature_c"] is None
    assert told["notes"] == [f"temperature_c: {error}"]


def test_without_the_library_nothing_is_read_and_a_note_says_so(nvml: FakeNvml) -> None:
    nvml.changes["nvmlInit"] = no_library
    told = summary(DeviceReader(UUID), num_readings=1)
    assert told["num_readings"] == 0
    assert all(told[name] is None for name in COUNTERS)
    assert told["notes"] == ["NVML: NVML Shared Library Not Found"]


def test_a_device_that_is_lost_in_the_middle_ends_the_readings_with_a_note(nvml: FakeNvml) -> None:
    name = "nvmlDeviceGetTemperature"
    nvml.changes[name] = nvml.after(2, gpu_is_lost, name=name)
    told = summary(DeviceReader(UUID), num_readings=4)
    assert told["num_readings"] == 2
    assert "temperature_c: GPU is lost" in told["notes"]


def test_throttle_reasons_are_shares_of_the_readings(nvml: FakeNvml) -> None:
    cap, heat = HARMFUL_THROTTLE_REASONS["software power cap"], HARMFUL_THROTTLE_REASONS["hardware thermal slowdown"]
    idle = 1
    bits = iter([idle, cap, cap | heat, 0])
    nvml.changes["nvmlDeviceGetCurrentClocksThrottleReasons"] = lambda handle: next(bits)
    told = summary(DeviceReader(UUID), num_readings=4)
    assert told["throttle_shares"] == {"software power cap": 0.5, "hardware thermal slowdown": 0.25}


def test_a_slice_of_a_divided_gpu_is_found_by_its_own_name(nvml: FakeNvml) -> None:
    def find(uuid: str) -> str:
        return "slice" if uuid.startswith("MIG-") else not_supported()

    nvml.changes["nvmlDeviceGetHandleByUUID"] = find
    client = NvmlClient()
    assert client.open()
    assert client.find_device(UUID) == "slice"
    assert client.notes == ()


def test_a_sampler_reads_at_its_period_until_it_is_stopped() -> None:
    numbers, has_read_five = itertools.count(1), threading.Event()

    def read() -> int:
        number = next(numbers)
        if number == 5:
            has_read_five.set()
        return number

    sampler = Sampler(read, period_s=0.05, name="test")
    sampler.start()
    assert has_read_five.wait(60)
    assert sampler.stop(timeout_s=60) is None
    taken = sampler.readings
    assert [item.reading for item in taken] == list(range(1, len(taken) + 1))
    assert min(after.at_s - before.at_s for before, after in itertools.pairwise(taken)) >= 0.049
    assert not sampler.is_exhausted
    assert next(numbers) == len(taken) + 1, "it reads on after its end"


def test_readings_that_cost_a_lot_become_rarer() -> None:
    assert stretched_period_s(0.2, cost_s=0.0) == 0.2
    assert stretched_period_s(0.2, cost_s=0.002) == 0.2, "1 % of a core"
    assert stretched_period_s(0.2, cost_s=0.005) == pytest.approx(0.5)
    assert stretched_period_s(0.2, cost_s=1.0) == MAX_PERIOD_S


def test_a_reading_that_hangs_does_not_hold_up_its_sampler(nvml: FakeNvml) -> None:
    nvml.changes["nvmlDeviceGetUtilizationRates"] = nvml.hang
    reader = DeviceReader(UUID)
    sampler = Sampler(reader.read, period_s=0.05, name="test")
    sampler.start()
    assert nvml.has_hung.wait(60)
    hanging = sampler.stop(timeout_s=0.2)
    assert hanging is not None, "it was waited for until it returned"
    assert sampler.readings == ()


def test_a_question_that_hangs_is_none_and_nothing_is_asked_until_it_returns(nvml: FakeNvml) -> None:
    nvml.changes["nvmlDeviceGetTemperature"] = nvml.hang
    assert answer_within(0.1, lambda: NvmlClient().ask("temperature_c", "nvmlDeviceGetTemperature")) is None
    assert answer_within(60.0, lambda: "answer") is None, "another would hang as well"
    assert nvml_calls.is_stuck(), "the call was waited for"
    nvml.released.set()
    for thread in nvml_calls._stuck_threads:
        thread.join(60)
    assert answer_within(60.0, lambda: "answer") == "answer"


def test_the_nearest_reading_stands_for_a_span_between_two() -> None:
    readings = [Stamped(at_s=at_s, reading=at_s) for at_s in (1.0, 1.2, 1.4)]
    assert [item.reading for item in readings_in(readings, (1.21, 1.25))] == [1.2]
    assert [item.reading for item in readings_in(readings, (1.0, 1.2))] == [1.0, 1.2], "both ends are included"
    assert readings_in(readings, (60.0, 61.0)) == (), "a reading of long before says nothing"
    assert len(readings_in(readings, None)) == 3
    assert readings_in([], (0.0, 1.0)) == ()


def test_silence_counts_from_and_to_the_ends_of_the_watch() -> None:
    readings = [Stamped(at_s=at_s, reading=at_s) for at_s in (1.0, 2.0)]
    assert longest_silence_s(readings, (0.5, 9.0)) == 7.0
    assert longest_silence_s([], (0.5, 9.0)) == 8.5


def test_a_long_silence_is_a_note(nvml: FakeNvml) -> None:
    reading = DeviceReader(UUID).read()
    assert reading is not None
    told = summarise_device(
        [Stamped(at_s=0.0, reading=reading)], watched=(0.0, 30.0), measured=None, max_sm_clock_mhz=None, notes=()
    )
    assert told["notes"] == ["no reading for 30.0 s"]


def test_the_settings_of_a_gpu_are_told(nvml: FakeNvml) -> None:
    nvml.changes["nvmlDeviceGetPowerManagementLimit"] = 350_000
    nvml.changes["nvmlDeviceGetEccMode"] = not_supported
    assert gpu_state.gpu_settings(UUID) == {
        "driver_version": "575.57.08",
        "power_limit_w": 350.0,
        "default_power_limit_w": 700.0,
        "max_sm_clock_mhz": 1980,
        "application_sm_clock_mhz": 1980,
        "default_application_sm_clock_mhz": 1980,
        "is_mig_enabled": False,
        "is_ecc_enabled": None,
        "nvml_notes": ["is_ecc_enabled: Not Supported"],
    }


def test_what_goes_on_at_a_gpu_is_told(nvml: FakeNvml) -> None:
    nvml.changes["nvmlDeviceGetCurrentClocksThrottleReasons"] = HARMFUL_THROTTLE_REASONS["hardware slowdown"]
    assert gpu_state.gpu_activity(UUID) == {
        "num_gpu_processes": 1,
        "sm_clock_mhz": 1755,
        "temperature_c": 54,
        "throttle_reasons": ["hardware slowdown"],
        "nvml_notes": [],
    }


def test_settings_asked_before_a_query_hung_are_kept(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer_or_hang(timeout_s: float, question: Callable[[], bool]) -> bool | None:
        threading.Thread(target=question, daemon=True).start()
        assert nvml.has_hung.wait(60)
        return None

    monkeypatch.setattr(gpu_state, "answer_within", answer_or_hang)
    nvml.changes["nvmlDeviceGetMigMode"] = nvml.hang
    told = gpu_state.gpu_settings(UUID)
    assert told["power_limit_w"] == 700.0
    assert told["is_mig_enabled"] is None
    assert told["nvml_notes"] == ["NVML: no answer within 5 s"]


def test_without_a_gpu_its_facts_are_null() -> None:
    assert set(gpu_state.gpu_settings(None).values()) == {None}
    assert set(gpu_state.gpu_activity(None).values()) == {None}


def test_only_a_device_that_nvml_calls_lost_is_lost(nvml: FakeNvml) -> None:
    assert not gpu_state.is_lost(UUID)
    nvml.changes["nvmlDeviceGetTemperature"] = not_supported
    assert not gpu_state.is_lost(UUID)
    nvml.changes["nvmlDeviceGetTemperature"] = gpu_is_lost
    assert gpu_state.is_lost(UUID)
    nvml.changes["nvmlDeviceGetHandleByUUID"] = gpu_is_lost
    assert gpu_state.is_lost(UUID)
    nvml.changes["nvmlInit"] = no_library
    assert not gpu_state.is_lost(UUID)
