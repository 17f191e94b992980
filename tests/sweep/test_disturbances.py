from __future__ import annotations

from typing import Any

import pytest
from record_factory import record_of, training_spec

from vnbench.records.record import TrialWarning
from vnbench.records.spec.words import TRIAL_KINDS, TrialKind
from vnbench.sweep.disturbances import find_disturbances, is_disturbed


def device(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "sm_clock_mhz": {"min": 1700.0, "mean": 1755.0, "max": 1980.0},
        "max_sm_clock_mhz": 1980.0,
        "num_processes": {"min": 1, "mean": 1.0, "max": 1},
        "throttle_shares": {},
    }
    return {"device": values | changes, "host": None}


def host(*, other: float | None, stolen: float | None = 0.0, num_cpus: int = 2) -> dict[str, Any]:
    return {"device": None, "host": {"num_cpus": num_cpus, "other_busy_cores": other, "stolen_cores": stolen}}


def found(telemetry: dict[str, Any], kind: TrialKind = "training") -> list[TrialWarning]:
    return list(find_disturbances(telemetry, kind=kind))


@pytest.mark.parametrize("kind", TRIAL_KINDS)
def test_a_quiet_machine_gives_no_warning(kind: TrialKind) -> None:
    assert found(device(), kind) == []
    assert found(host(other=0.1), kind) == []
    assert found({"device": None, "host": None}, kind) == []


def test_another_process_on_the_gpu_disturbs_every_kind() -> None:
    telemetry = device(num_processes={"min": 1, "mean": 2.0, "max": 3})
    for kind in TRIAL_KINDS:
        (warning,) = found(telemetry, kind)
        assert warning.code == "device-shared"
        assert warning.figures == {"num_other_processes": 2.0}
        assert warning.message.startswith("2 other processes on the GPU")


def test_a_power_cap_at_full_load_is_ordinary() -> None:
    assert found(device(throttle_shares={"software power cap": 1.0})) == []


def test_a_power_cap_that_holds_the_clock_under_three_quarters_is_throttling() -> None:
    low = {"min": 900.0, "mean": 1188.0, "max": 1500.0}
    (warning,) = found(device(throttle_shares={"software power cap": 0.9}, sm_clock_mhz=low))
    assert warning.code == "throttled"
    assert warning.figures == {"share_of_readings": 0.9, "sm_clock_mhz": 1188.0, "max_sm_clock_mhz": 1980.0}
    assert "software power cap in 90.0 % of the readings" in warning.message
    assert "1188 MHz on average, of 1980" in warning.message
    assert "raise its power limit" in warning.message


def test_a_low_clock_without_a_reason_is_no_throttling() -> None:
    assert found(device(sm_clock_mhz={"min": 300.0, "mean": 400.0, "max": 500.0})) == []


def test_heat_is_throttling_at_any_clock() -> None:
    telemetry = device(throttle_shares={"software power cap": 0.5, "hardware thermal slowdown": 0.1})
    (warning,) = found(telemetry)
    assert warning.figures["share_of_readings"] == 0.1
    assert "power cap" not in warning.message
    assert found(telemetry, "memory") == []


def test_heat_is_told_where_no_clock_is_known() -> None:
    telemetry = device(throttle_shares={"hardware slowdown": 1.0}, sm_clock_mhz=None, max_sm_clock_mhz=None)
    (warning,) = found(telemetry)
    assert warning.figures == {"share_of_readings": 1.0}


def test_one_busy_core_of_two_disturbs_a_timed_trial() -> None:
    (warning,) = found(host(other=0.98))
    assert warning.code == "busy-cores"
    assert "0.98 of 2 CPU cores" in warning.message
    assert warning.figures == {
        "other_busy_cores": 0.98,
        "stolen_cores": 0.0,
        "num_cpus": 2.0,
        "threshold_cores": 0.25,
    }
    assert found(host(other=0.98), "memory") == []


def test_cores_that_another_guest_took_count_too() -> None:
    (warning,) = found(host(other=0.1, stolen=0.2))
    assert "other guests of this machine 0.20" in warning.message


def test_a_busy_core_of_many_is_noise() -> None:
    assert found(host(other=1.0, num_cpus=64)) == []
    assert len(found(host(other=1.0, num_cpus=16))) == 1


def test_what_is_not_known_is_no_warning() -> None:
    assert found(host(other=None, stolen=None)) == []
    assert found(device(num_processes=None, throttle_shares=None)) == []


def test_only_finished_trials_with_a_passing_trouble_are_disturbed() -> None:
    throttled = (TrialWarning(code="throttled", message="hot"),)
    assert is_disturbed(record_of(training_spec(), warnings=throttled))
    assert not is_disturbed(record_of(training_spec(), status="oom", warnings=throttled))
    assert not is_disturbed(record_of(training_spec(), warnings=(TrialWarning(code="noisy", message="wide"),)))
