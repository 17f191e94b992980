from __future__ import annotations

from typing import Any

import pytest
from record_factory import compute_spec, training_spec

from vnbench.measure.gpu_state import gpu_activity, gpu_settings
from vnbench.measure.nvml import COUNTERS, DeviceReader
from vnbench.records.task import TrialTask
from vnbench.sweep.device_loss import is_device_there
from vnbench.sweep.runner import probe_environment, run_trial

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def environment() -> dict[str, Any]:
    return probe_environment("cuda")


def test_nvml_reads_the_device_that_torch_uses(environment: dict[str, Any]) -> None:
    reader = DeviceReader(environment["device_uuid"])
    reading = reader.read()
    assert reading is not None, reader.client.notes
    unknown = [name for name, value in reading.counters.items() if value is None]
    assert {note.split(":")[0] for note in reader.client.notes} >= set(unknown), "each null has its note"
    used_bytes = reading.counters["device_used_bytes"]
    assert used_bytes is None or used_bytes <= 1.1 * environment["device_memory_bytes"]


def test_the_settings_and_activity_of_the_gpu_are_known_or_noted(environment: dict[str, Any]) -> None:
    for facts in (gpu_settings(environment["device_uuid"]), gpu_activity(environment["device_uuid"])):
        noted = {note.split(":")[0] for note in facts["nvml_notes"]}
        assert {name for name, value in facts.items() if value is None} <= noted
    assert environment["driver_version"]


def test_a_trial_has_readings_of_its_measured_span(environment: dict[str, Any]) -> None:
    spec = compute_spec(
        device="cuda",
        model="veernet",
        canvas_sizes=((640, 6_400),),
        num_warm_up_steps=2,
        min_steps=10,
        max_steps=200,
        noise_target=1e-6,
        max_measuring_s=3.0,
    )
    # The tests' own process has a context of its own by now if an earlier test has used CUDA in it.
    before = num_processes_now(environment)
    task = TrialTask(spec=spec, replicate=0, attempt=0, corpus_directory=None)
    record = run_trial(task, environment=environment, timeout_s=600)
    assert record.status == "ok", record.cause
    assert record.measured_span_s is not None
    start, end = record.measured_span_s
    assert 0 < start < end < record.elapsed_s
    assert record.telemetry is not None
    device, host = record.telemetry["device"], record.telemetry["host"]
    assert 1 <= device["num_readings"] <= (end - start) / device["period_s"] + 1
    assert set(COUNTERS) <= set(device)
    assert device["power_w"] is not None or any(note.startswith("power_w:") for note in device["notes"])
    processes = device["num_processes"]
    if processes is not None and before is not None:
        assert processes["max"] <= before + 1, "the trial is one process more"
    assert host["num_readings"] >= 1


def num_processes_now(environment: dict[str, Any]) -> float | None:
    reading = DeviceReader(environment["device_uuid"]).read()
    return None if reading is None else reading.counters["num_processes"]


def test_a_gpu_that_works_is_there_and_another_one_is_not(environment: dict[str, Any]) -> None:
    assert is_device_there(environment)
    assert not is_device_there(environment | {"device_uuid": "GPU-00000000-0000-0000-0000-000000000000"})


def test_a_trial_that_hangs_on_the_gpu_is_watched_too(environment: dict[str, Any]) -> None:
    task = TrialTask(spec=training_spec(device="cuda"), replicate=0, attempt=0, corpus_directory=None)
    record = run_trial(task, environment=environment, timeout_s=1.0, entry="scripted_child:hang")
    assert record.telemetry is not None
    assert record.telemetry["device"]["num_readings"] >= 1
