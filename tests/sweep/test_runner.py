from __future__ import annotations

import itertools
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_nvml import UUID, FakeNvml, fake_nvml, gpu_is_lost, not_supported
from record_factory import memory_spec, training_spec
from scripted_child import BEGUN, MEASURED_S, SEEN

from vnbench.errors import InputError
from vnbench.measure import nvml_calls
from vnbench.measure.host import MIN_OBSERVED_S, HostReading, busy_threshold
from vnbench.measure.nvml import HARMFUL_THROTTLE_REASONS
from vnbench.records.record import TrialRecord
from vnbench.records.task import TrialTask
from vnbench.sweep.runner import probe_environment, run_traces, run_trial

pytestmark = pytest.mark.processes

__all__ = ["fake_nvml"]  # the fixture ``nvml``

ROOT = Path(__file__).parents[2]

ENVIRONMENT = {"device_name": "here", "device_uuid": None}
WITH_GPU = {"device_name": "here", "device_uuid": UUID}

needs_proc = pytest.mark.skipif(not Path("/proc/stat").exists(), reason="needs /proc")


def trial(
    behaviour: str,
    *,
    timeout_s: float = 600.0,
    environment: Mapping[str, Any] = ENVIRONMENT,
    is_memory: bool = False,
    memory_limit_bytes: int | None = None,
    folder: Path | None = None,
) -> TrialRecord:
    spec = memory_spec(training_spec()) if is_memory else training_spec()
    spec = replace(spec, memory_limit_bytes=memory_limit_bytes)
    task = TrialTask(spec=spec, replicate=0, attempt=2, corpus_directory=str(folder) if folder else None)
    return run_trial(task, environment=environment, timeout_s=timeout_s, entry=f"scripted_child:{behaviour}")


def device_telemetry(record: TrialRecord) -> dict[str, Any]:
    assert record.telemetry is not None
    device: dict[str, Any] = record.telemetry["device"]
    return device


def host_telemetry(record: TrialRecord) -> dict[str, Any]:
    assert record.telemetry is not None
    host: dict[str, Any] = record.telemetry["host"]
    return host


def codes(record: TrialRecord) -> list[str]:
    return [warning.code for warning in record.warnings]


POWER = "nvmlDeviceGetPowerUsage"


def let_end(folder: Path, nvml: FakeNvml, *, after: int, then: Callable[..., Any] = lambda *_: 512_500) -> None:
    """Let a child of ``measure_until_seen`` or ``answer_once_seen`` end after so many readings of a GPU.

    They count from when the child measures; the reading after them is answered by ``then``.
    """
    numbers = itertools.count(1)

    def answer(*arguments: Any) -> Any:
        if (folder / BEGUN).exists() and next(numbers) > after:
            (folder / SEEN).touch()
            return then(*arguments)
        return 512_500

    nvml.changes[POWER] = answer


class ScriptedHost:
    """Stands for a machine on which others work so many core seconds between two readings; ends its child in time."""

    num_cpus = 2

    def __init__(self, folder: Path, *, busy_s: float) -> None:
        self._folder = folder
        self._step_s = busy_s
        self._readings_s: list[float] = []

    def read(self) -> HostReading:
        if (self._folder / BEGUN).exists():
            self._readings_s.append(time.monotonic())
            # The first may have begun before the span; what lies between two of the others must say something.
            if len(self._readings_s) > 3 and self._readings_s[-2] - self._readings_s[1] > MIN_OBSERVED_S:
                (self._folder / SEEN).touch()
        return HostReading(busy_s=self._step_s * len(self._readings_s), stolen_s=0.0, own_s=0.0)


def test_a_good_trial_comes_back_as_its_record() -> None:
    record = trial("answer_in_order")
    assert record.status == "ok"
    assert record.attempt == 2
    assert record.elapsed_s > 0


@pytest.mark.parametrize(
    ("behaviour", "status", "cause"),
    [
        ("be_killed", "crashed", "signal"),
        ("exit_with_7", "crashed", "exit-code"),
        ("exit_in_order_without_a_record", "crashed", "no-record"),
        ("write_garbage", "crashed", "garbage"),
        ("write_a_torn_record", "crashed", "garbage"),
        ("answer_for_another_trial", "crashed", "garbage"),
        ("raise_an_error", "crashed", "exit-code"),
        ("fill_memory", "crashed", "exit-code"),
    ],
)
def test_a_child_without_a_record_becomes_one(behaviour: str, status: str, cause: str) -> None:
    record = trial(behaviour)
    assert record.cause is not None
    assert (record.status, record.cause.kind) == (status, cause)
    assert record.environment == ENVIRONMENT
    assert TrialRecord.from_json(record.to_json()) == record


def traces(behaviour: str, *, timeout_s: float = 600.0) -> tuple[TrialRecord, ...]:
    specs = [replace(memory_spec(training_spec(batch_size=size)), memory_by="trace") for size in (1, 2)]
    tasks = [TrialTask(spec=spec, replicate=0, attempt=3, corpus_directory=None) for spec in specs]
    records = run_traces(tasks, environment=ENVIRONMENT, timeout_s=timeout_s, entry=f"scripted_child:{behaviour}")
    assert [(record.spec, record.attempt) for record in records] == [(task.spec, task.attempt) for task in tasks]
    return records


@pytest.mark.parametrize(
    ("behaviour", "status", "cause"),
    [
        ("be_killed", "crashed", "signal"),
        ("exit_in_order_without_a_record", "crashed", "no-record"),
        ("write_garbage", "crashed", "garbage"),
        ("echo", "crashed", "garbage"),
        ("raise_an_error", "crashed", "exit-code"),
        ("hang", "timeout", "deadline"),
    ],
)
def test_traces_whose_process_gives_no_records_become_some(behaviour: str, status: str, cause: str) -> None:
    for record in traces(behaviour, timeout_s=1.0 if behaviour == "hang" else 600.0):
        assert record.cause is not None
        assert (record.status, record.cause.kind) == (status, cause)
        assert record.environment == ENVIRONMENT


def test_of_several_traces_only_those_without_a_record_fail() -> None:
    first, second = traces("answer_for_the_first_of_all")
    assert (first.status, first.environment) == ("ok", {"device_name": "scripted"})
    assert (second.status, second.cause and second.cause.kind) == ("crashed", "garbage")


def test_no_traces_need_no_answer() -> None:
    assert run_traces([], environment=ENVIRONMENT, timeout_s=60.0) == ()


def test_a_hanging_trial_is_a_timeout() -> None:
    record = trial("hang", timeout_s=0.4)
    assert record.cause is not None
    assert (record.status, record.cause.kind) == ("timeout", "deadline")


def test_a_kill_while_the_system_ran_out_of_memory_is_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter([5, 6])
    monkeypatch.setattr("vnbench.processes.parent._oom_kill_count", lambda: next(counts))
    record = trial("be_killed")
    assert record.cause is not None
    assert (record.status, record.cause.kind) == ("oom", "host-killed")


def test_a_process_that_dies_of_an_allocation_is_told_by_what_it_said() -> None:
    record = trial("die_of_an_allocation")
    assert record.cause is not None
    assert (record.status, record.cause.kind) == ("oom", "host-allocation")
    assert "SIGABRT" in record.cause.message


def test_a_library_that_fails_under_a_memory_limit_is_held_to_have_run_out_of_memory() -> None:
    limited, free = trial("fail_in_a_library", memory_limit_bytes=2**30), trial("fail_in_a_library")
    assert limited.cause is not None
    assert free.cause is not None
    assert (limited.status, limited.cause.kind) == ("oom", "host-allocation")
    assert "SIGSEGV, under a memory limit" in limited.cause.message
    assert (free.status, free.cause.kind) == ("crashed", "signal")


def test_the_machine_tells_what_it_is() -> None:
    environment = probe_environment("cpu")
    assert environment["device_type"] == "cpu"
    assert environment["num_cpus"] >= 1
    assert environment["torch_version"]
    assert environment["revision"]


TWO_REVISIONS = """
import pathlib
from vnbench.sweep.runner import probe_environment

before = probe_environment("cpu")["revision"]
edited = pathlib.Path("vnbench", "units.py")
edited.write_text(edited.read_text() + "# mended")
print(before, probe_environment("cpu")["revision"])
"""


def test_children_tell_the_revision_that_they_run_whatever_is_edited_meanwhile(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "vnbench", tmp_path / "vnbench", ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [sys.executable, "-c", TWO_REVISIONS],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    before, after = done.stdout.split()
    assert before == after


def test_cuda_is_refused_where_there_is_none() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(InputError, match="--device cuda: "):
        probe_environment("cuda")


def test_the_measured_span_is_told_in_seconds_after_the_start_of_the_process() -> None:
    record = trial("measure_while_asleep")
    assert record.measured_span_s is not None
    start_s, end_s = record.measured_span_s
    assert 0 < start_s < end_s < record.elapsed_s
    assert end_s - start_s >= MEASURED_S


def test_only_what_was_seen_in_the_measured_span_counts(
    nvml: FakeNvml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vnbench.measure.nvml.SILENCE_S", math.inf)
    let_end(tmp_path, nvml, after=4)
    record = trial("measure_until_seen", environment=WITH_GPU, folder=tmp_path)
    assert record.measured_span_s is not None
    start_s, end_s = record.measured_span_s
    device = device_telemetry(record)
    # The first of the four may have begun before the span.
    assert 3 <= device["num_readings"] <= (end_s - start_s) / device["period_s"] + 1
    assert device["power_w"]["mean"] == 512.5
    assert device["notes"] == []


def test_a_trial_on_the_cpu_has_no_device_telemetry() -> None:
    record = trial("answer_in_order")
    assert record.telemetry is not None
    assert record.telemetry["device"] is None
    assert set(record.telemetry) == {"device", "host"}


def test_a_trial_without_a_span_is_watched_as_a_whole(nvml: FakeNvml, tmp_path: Path) -> None:
    let_end(tmp_path, nvml, after=3)
    record = trial("answer_once_seen", environment=WITH_GPU, folder=tmp_path)
    assert record.measured_span_s is None
    assert device_telemetry(record)["num_readings"] >= 3


def test_a_trial_that_hangs_is_watched_too(nvml: FakeNvml) -> None:
    record = trial("hang", timeout_s=1.0, environment=WITH_GPU)
    assert record.status == "timeout"
    assert device_telemetry(record)["power_w"]["mean"] == 512.5


@pytest.mark.parametrize("function", ["nvmlInit", "nvmlDeviceGetPowerUsage"])
def test_an_nvml_that_hangs_costs_a_note_and_no_trial(
    nvml: FakeNvml, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vnbench.measure.nvml.SILENCE_S", 0.5)
    nvml.changes[function] = nvml.hang
    record = trial("measure_while_asleep", environment=WITH_GPU)
    assert record.status == "ok"
    device = device_telemetry(record)
    assert device["num_readings"] == 0
    assert device["power_w"] is None
    (note,) = device["notes"]
    assert note.startswith("no reading for ")
    again = trial("answer_in_order", environment=WITH_GPU)
    assert again.status == "ok"
    assert device_telemetry(again)["notes"] == ["NVML: not asked, because an earlier call has not returned"]
    assert nvml.num_calls[function] == 1
    assert nvml_calls.is_stuck(), "the call was waited for"


def test_an_nvml_that_hangs_in_the_middle_keeps_what_it_told_before(
    nvml: FakeNvml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vnbench.measure.nvml.SILENCE_S", 0.5)
    let_end(tmp_path, nvml, after=2, then=nvml.hang)
    device = device_telemetry(trial("answer_once_seen", environment=WITH_GPU, folder=tmp_path))
    assert device["num_readings"] == nvml.num_calls[POWER] - 1 >= 2
    assert device["notes"][0].startswith("no reading for ")


def test_a_gpu_that_is_lost_leaves_a_note_and_what_was_read_before(
    nvml: FakeNvml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vnbench.measure.nvml.SILENCE_S", math.inf)
    let_end(tmp_path, nvml, after=2, then=gpu_is_lost)
    device = device_telemetry(trial("answer_once_seen", environment=WITH_GPU, folder=tmp_path))
    assert device["num_readings"] == nvml.num_calls[POWER] - 1 >= 2
    assert device["notes"] == ["power_w: GPU is lost"]


def test_a_half_working_nvml_gives_nulls_with_notes_and_no_warning(nvml: FakeNvml) -> None:
    for name in ("nvmlDeviceGetClockInfo", "nvmlDeviceGetCurrentClocksThrottleReasons"):
        nvml.changes[name] = not_supported
    record = trial("measure_while_asleep", environment=WITH_GPU)
    device = device_telemetry(record)
    assert device["sm_clock_mhz"] is device["throttle_shares"] is None
    assert device["power_w"] is not None
    assert len(device["notes"]) == 3
    assert not {"throttled", "device-shared"} & set(codes(record))


def test_a_slowed_and_shared_gpu_is_told(nvml: FakeNvml) -> None:
    nvml.changes["nvmlDeviceGetCurrentClocksThrottleReasons"] = HARMFUL_THROTTLE_REASONS["hardware slowdown"]
    nvml.changes["nvmlDeviceGetComputeRunningProcesses"] = ["ours", "theirs"]
    assert {"throttled", "device-shared"} <= set(codes(trial("measure_while_asleep", environment=WITH_GPU)))
    assert codes(trial("measure_while_asleep", environment=WITH_GPU, is_memory=True)) == ["device-shared"]


def test_a_busy_core_is_told_with_its_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = watched_trial(tmp_path / "training", monkeypatch, busy_s=100.0)
    memory_record = watched_trial(tmp_path / "memory", monkeypatch, busy_s=100.0, is_memory=True)
    host = host_telemetry(record)
    (warning,) = (warning for warning in record.warnings if warning.code == "busy-cores")
    assert warning.figures["other_busy_cores"] == host["other_busy_cores"] > 0
    assert warning.figures["threshold_cores"] == busy_threshold(host["num_cpus"])
    assert "busy-cores" not in codes(memory_record), "bytes do not depend on load"


def test_without_a_busy_core_there_is_no_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = watched_trial(tmp_path / "quiet", monkeypatch, busy_s=0.0)
    assert host_telemetry(record)["other_busy_cores"] == 0
    assert record.warnings == ()


def watched_trial(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, busy_s: float, is_memory: bool = False
) -> TrialRecord:
    folder.mkdir()
    monkeypatch.setattr("vnbench.sweep.telemetry.HostReader", lambda: ScriptedHost(folder, busy_s=busy_s))
    return trial("measure_until_seen", folder=folder, is_memory=is_memory)


@needs_proc
def test_what_the_workers_of_a_trial_compute_is_no_disturbance() -> None:
    host = host_telemetry(trial("measure_while_a_worker_computes"))
    # Its first and its last moments may lie outside the readings.
    assert host["own_busy_cores"] * host["observed_s"] > MEASURED_S / 4
    assert host["own_busy_cores"] + host["other_busy_cores"] <= 1.1 * host["num_cpus"]
