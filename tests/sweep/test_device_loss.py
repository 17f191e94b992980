from __future__ import annotations

from typing import Any

import pytest
from fake_nvml import UUID, FakeNvml, fake_nvml, gpu_is_lost
from record_factory import record_of, training_spec

from vnbench.errors import ChildError, InputError
from vnbench.records.record import Cause, Status, TrialRecord
from vnbench.sweep import device_loss
from vnbench.sweep.device_loss import is_device_there, may_have_lost_device

__all__ = ["fake_nvml"]  # the fixture ``nvml``

CUDA_SPEC = training_spec(device="cuda", model="veernet")


def failed(message: str, *, status: Status = "crashed", **changes: Any) -> TrialRecord:
    cause = Cause(kind="exception", message=message)
    return record_of(CUDA_SPEC, status=status, cause=cause, **changes)


@pytest.mark.parametrize(
    "message",
    [
        "RuntimeError: CUDA error: no CUDA-capable device is detected",
        "RuntimeError: No CUDA GPUs are available",
        "RuntimeError: CUDA unknown error - this may be due to an incorrectly set up environment",
        "RuntimeError: CUDA driver initialization failed, you might not have a CUDA gpu.",
        "AcceleratorError: CUDA error: CUDA-capable device(s) is/are busy or unavailable",
        "NVRM: Xid 79, GPU has fallen off the bus.",
        "GPU is lost",
    ],
)
def test_words_of_a_device_that_is_gone_are_known(message: str) -> None:
    assert may_have_lost_device(failed(message))
    in_detail = Cause(kind="exit-code", message="the process ended with exit code 1", detail=f"Traceback\n{message}\n")
    assert may_have_lost_device(record_of(CUDA_SPEC, status="crashed", cause=in_detail))


@pytest.mark.parametrize(
    "message",
    [
        "AcceleratorError: CUDA error: unspecified launch failure",
        "RuntimeError: CUDA error: device-side assert triggered",
        "RuntimeError: CUDA error: an illegal memory access was encountered",
        "ValueError: no",
    ],
)
def test_errors_that_end_one_process_are_no_loss(message: str) -> None:
    assert not may_have_lost_device(failed(message))


def test_a_trial_that_hung_on_a_device_that_nvml_lost_is_suspicious() -> None:
    telemetry = {"device": {"notes": ["power_w: GPU is lost"]}, "host": None}
    assert may_have_lost_device(failed("still running after 10 min", status="timeout", telemetry=telemetry))
    assert not may_have_lost_device(failed("still running after 10 min", status="timeout"))
    assert not may_have_lost_device(record_of(CUDA_SPEC, telemetry=telemetry)), "it finished"


def test_on_the_cpu_there_is_no_device_to_lose() -> None:
    record = record_of(training_spec(), status="crashed", cause=Cause(kind="exception", message="GPU is lost"))
    assert not may_have_lost_device(record)


def test_a_device_that_nvml_calls_lost_is_not_there(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    def probe(device: str) -> dict[str, Any]:
        raise AssertionError("there is nothing more to ask")

    monkeypatch.setattr(device_loss, "probe_environment", probe)
    nvml.changes["nvmlDeviceGetTemperature"] = gpu_is_lost
    assert not is_device_there({"device_uuid": UUID})


@pytest.mark.parametrize(("found", "is_there"), [(UUID, True), ("GPU-another", False)])
def test_a_fresh_process_tells_whether_the_same_device_can_be_used(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, found: str, is_there: bool
) -> None:
    monkeypatch.setattr(device_loss, "probe_environment", lambda device: {"device_uuid": found})
    assert is_device_there({"device_uuid": UUID}) is is_there


@pytest.mark.parametrize(
    "error", [ChildError("no answer"), InputError("--device", "cuda", allowed="no CUDA device", remedy="cpu")]
)
def test_a_device_that_no_fresh_process_can_use_is_not_there(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def probe(device: str) -> dict[str, Any]:
        raise error

    monkeypatch.setattr(device_loss, "probe_environment", probe)
    assert not is_device_there({"device_uuid": UUID})
