from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from vnbench.output.environment import Code, Disturbance, environment_lines, find_disturbances

GIB = 2**30

CPU: dict[str, Any] = {
    "device_type": "cpu",
    "device_uuid": None,
    "device_memory_bytes": 16 * GIB,
    "num_cpus": 2,
    "load_average_1min": 0.1,
    "allocator_settings": None,
    "cudnn_benchmark": False,
    "anomaly_detection": False,
    "cpu_governor": "performance",
    "is_cpu_turbo": True,
    "cpu_quota_cores": None,
    "shared_memory_free_bytes": 8 * GIB,
    "debugging_variables": {},
    "thread_variables": {},
    "isa_variables": {},
    "native_precisions": ["fp32", "bf16", "fp16"],
}
CUDA: dict[str, Any] = CPU | {
    "device_type": "cuda",
    "device_uuid": "GPU-1",
    "power_limit_w": 700.0,
    "default_power_limit_w": 700.0,
    "max_sm_clock_mhz": 1980,
    "application_sm_clock_mhz": 1980,
    "default_application_sm_clock_mhz": 1980,
    "is_mig_enabled": False,
    "is_ecc_enabled": True,
    "native_precisions": ["fp32", "tf32", "bf16", "fp16"],
}
QUIET_HOST: dict[str, Any] = {"num_cpus": 2, "own_busy_cores": 0.0, "other_busy_cores": 0.02, "stolen_cores": 0.0}
QUIET_DEVICE: dict[str, Any] = {
    "num_gpu_processes": 0,
    "sm_clock_mhz": 345,
    "temperature_c": 35,
    "throttle_reasons": [],
    "nvml_notes": [],
}


def found(
    environment: dict[str, Any], *, host: dict[str, Any] | None = QUIET_HOST, device: dict[str, Any] | None = None
) -> list[Disturbance]:
    if device is None and environment["device_type"] == "cuda":
        device = QUIET_DEVICE
    return list(find_disturbances(environment, activity={"host": host, "device": device}))


@pytest.mark.parametrize("environment", [CPU, CUDA], ids=["cpu", "cuda"])
def test_on_a_quiet_machine_there_is_nothing_to_say(environment: dict[str, Any]) -> None:
    assert found(environment) == []
    device = QUIET_DEVICE if environment is CUDA else None
    lines = list(environment_lines(environment, activity={"host": QUIET_HOST, "device": device}, disturbances=[]))
    assert lines[-1] == "nothing found that would disturb a measurement"
    assert any(line.split() == ["device_memory_bytes", "16.0", "GiB"] for line in lines)
    assert any(line.split() == ["other_busy_cores", "0.02"] for line in lines)


def test_facts_alone_disturb_nothing() -> None:
    assert found(CUDA | {"is_ecc_enabled": False, "is_cpu_turbo": False}) == []
    nulls = dict.fromkeys(CUDA) | {name: CUDA[name] for name in ("device_type", "num_cpus", "load_average_1min")}
    assert found(nulls) == []


@pytest.mark.parametrize(
    ("changes", "code", "told"),
    [
        ({"power_limit_w": 350.0}, "power-limit", "350 W, its default 700 W"),
        ({"application_sm_clock_mhz": 1200}, "low-clocks", "1200 MHz (default 1980, highest 1980)"),
        ({"is_mig_enabled": True}, "mig", "MIG"),
        ({"shared_memory_free_bytes": 64 * 2**20}, "small-shared-memory", "64.0 MiB free"),
        ({"shared_memory_free_bytes": int(1.5 * GIB)}, "small-shared-memory", "may need 1.95 GiB"),
        ({"cpu_governor": "powersave"}, "cpu-frequency-scaling", "governor powersave"),
        ({"cpu_quota_cores": 1.5}, "cpu-quota", "1.5 CPUs' time on 2 CPUs"),
        ({"thread_variables": {"OMP_NUM_THREADS": "1"}}, "few-threads", "OMP_NUM_THREADS=1 on 2 CPUs"),
        ({"isa_variables": {"ONEDNN_MAX_CPU_ISA": "AVX2"}}, "few-instructions", "ONEDNN_MAX_CPU_ISA=AVX2"),
        ({"debugging_variables": {"CUDA_LAUNCH_BLOCKING": "1"}}, "debugging-flags", "CUDA_LAUNCH_BLOCKING=1"),
        ({"anomaly_detection": True}, "debugging-flags", "anomaly detection"),
        ({"allocator_settings": "max_split_size_mb:64"}, "allocator-settings", "max_split_size_mb:64"),
        ({"cudnn_benchmark": True}, "cudnn-benchmark", "each new shape"),
    ],
)
def test_each_setting_that_disturbs_has_its_code_its_numbers_and_a_remedy(
    changes: dict[str, Any], code: str, told: str
) -> None:
    (disturbance,) = found(CUDA | changes)
    assert disturbance.code == code
    assert told in disturbance.message
    assert disturbance.remedy


@pytest.mark.parametrize(
    ("changes", "code", "told"),
    [
        ({"num_gpu_processes": 2}, "gpu-processes", "2 processes"),
        ({"throttle_reasons": ["hardware slowdown"]}, "throttling", "hardware slowdown (SM clock 345 MHz, 35 C)"),
        (dict.fromkeys(QUIET_DEVICE) | {"nvml_notes": ["NVML: Driver Not Loaded"]}, "no-nvml", "Driver Not Loaded"),
    ],
)
def test_what_goes_on_at_the_gpu_is_told(changes: dict[str, Any], code: str, told: str) -> None:
    (disturbance,) = found(CUDA, device=QUIET_DEVICE | changes)
    assert disturbance.code == code
    assert told in disturbance.message


def test_a_power_cap_of_an_idle_card_is_no_throttling() -> None:
    assert found(CUDA, device=QUIET_DEVICE | {"throttle_reasons": ["software power cap"]}) == []


def test_a_small_loader_needs_less_shared_memory_on_the_cpu() -> None:
    assert found(CPU | {"shared_memory_free_bytes": int(1.5 * GIB)}) == []
    assert [item.code for item in found(CPU | {"shared_memory_free_bytes": GIB - 1})] == ["small-shared-memory"]


def test_a_threads_variable_at_the_number_of_cpus_is_no_limit() -> None:
    assert found(CPU | {"thread_variables": {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "many"}}) == []


def test_busy_cores_are_told_with_the_load() -> None:
    (busy,) = found(CPU | {"load_average_1min": 1.4}, host=QUIET_HOST | {"other_busy_cores": 0.97, "stolen_cores": 0.3})
    assert busy.code == "busy-cores"
    assert "0.97, other guests of this machine 0.30 of 2 CPU cores now (load 1.4" in busy.message


def test_a_load_that_has_passed_does_not_disturb_but_counts_where_nothing_else_is_known() -> None:
    loaded = CPU | {"load_average_1min": 1.4}
    assert found(loaded) == []
    (busy,) = found(loaded, host=None)
    assert busy.code == "busy-cores"
    assert found(CPU, host=None) == []


def test_a_disturbance_is_three_texts_in_json() -> None:
    (disturbance,) = found(CUDA | {"is_mig_enabled": True})
    values = json.loads(json.dumps(disturbance.to_json()))
    assert set(values) == {"code", "message", "remedy"}
    assert values["code"] in get_args(Code)
    lines = list(environment_lines(CUDA, activity={"host": None, "device": None}, disturbances=[disturbance]))
    assert lines[-1] == f"mig: {disturbance.message}; {disturbance.remedy}"


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        (CPU, []),
        (CUDA, []),
        (CPU | {"native_precisions": None}, []),
        (CPU | {"native_precisions": ["fp32"]}, ["bf16 and fp16 are emulated here: far slower than fp32"]),
        (CPU | {"native_precisions": ["fp32", "bf16"]}, ["fp16 is emulated here: far slower than fp32"]),
        (
            CUDA | {"native_precisions": ["fp32", "fp16"]},
            ["bf16 is emulated here: far slower than fp32", "tf32 has no units here: it is computed as fp32"],
        ),
    ],
    ids=["CPU with all", "H200", "an older record", "AVX2", "AVX-512 without fp16", "T4"],
)
def test_what_is_emulated_is_said_in_words(environment: dict[str, Any], told: list[str]) -> None:
    lines = list(environment_lines(environment, activity={"host": None, "device": None}, disturbances=[]))
    assert lines[lines.index("") + 1 : -1] == told
    if environment["native_precisions"] is not None:
        assert any(line.split()[0] == "native_precisions" and "fp32" in line for line in lines)


def test_what_each_precision_costs_is_told_beside_what_flags_say() -> None:
    times = {"fp32": 0.002, "bf16": 0.04}
    facts = CPU | {"native_precisions": ["fp32"], "convolution_s": times}
    told = list(environment_lines(facts, activity={"host": None, "device": None}, disturbances=[]))
    assert "bf16 and fp16 are emulated here: far slower than fp32" in told
    line = next(line for line in told if line.startswith("time of a 3 x 3 convolution"))
    assert line.endswith("on one thread, relative to fp32: bf16 20")
