from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import stand_in_cuda
import torch

from vnbench.records.machine_keys import FILE_KEYS
from vnbench.trial.instruments.environment import describe_environment, probe, source_revision


def test_the_environment_is_json_and_holds_what_is_compared() -> None:
    environment = describe_environment("cpu")
    assert json.loads(json.dumps(environment)) == environment
    assert environment.keys() >= set(FILE_KEYS)
    assert environment["device_name"]
    assert environment["revision"]
    assert environment["torch_version"] == torch.__version__


def test_the_revision_is_stable_within_a_process() -> None:
    assert source_revision() == source_revision()


def test_auto_takes_what_there_is() -> None:
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert json.loads(probe("auto"))["device_type"] == expected


def test_the_settings_of_the_machine_are_among_the_facts_and_a_gpus_are_null_on_the_cpu() -> None:
    environment = describe_environment("cpu")
    assert environment["anomaly_detection"] is False
    for name in ("cpu_governor", "cpu_quota_cores", "shared_memory_free_bytes", "debugging_variables"):
        assert name in environment
    for name in ("driver_version", "power_limit_w", "is_mig_enabled", "nvml_notes"):
        assert environment[name] is None


NUMBERS = ("cpu_vendor", "cpu_family", "cpu_model", "cpu_stepping", "isa_variables")


def test_the_environment_tells_the_processor_and_what_it_computes_natively() -> None:
    environment = describe_environment("cpu")
    assert {*NUMBERS, "cpu_capability"} <= environment.keys()
    assert environment["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    assert environment["native_precisions"][0] == "fp32"
    assert set(environment["native_precisions"]) <= {"fp32", "bf16", "fp16"}


def test_a_processor_without_avx_512_emulates_both_precisions_of_16_bits() -> None:
    code = "from vnbench.trial.instruments.environment import probe; print(probe('cpu'))"
    variables = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    child = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | variables, capture_output=True, text=True, check=True
    )
    environment = json.loads(child.stdout)
    assert environment["isa_variables"] == variables
    if environment["cpu_vendor"] in ("AuthenticAMD", "GenuineIntel"):
        assert (environment["cpu_capability"], environment["native_precisions"]) == ("AVX2", ["fp32"])


def test_without_onednn_fp32_alone_is_native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.setattr(torch.ops, "mkldnn", None)
    assert describe_environment("cpu")["native_precisions"] == ["fp32"]


@pytest.mark.parametrize(
    ("name", "capability", "native"),
    [
        ("Tesla T4", (7, 5), ["fp32", "fp16"]),
        ("Tesla V100-SXM2-16GB", (7, 0), ["fp32", "fp16"]),
        ("NVIDIA H200", (9, 0), ["fp32", "tf32", "bf16", "fp16"]),
    ],
)
def test_a_gpus_environment_tells_what_it_has_units_for(
    monkeypatch: pytest.MonkeyPatch, name: str, capability: tuple[int, int], native: list[str]
) -> None:
    stand_in_cuda.install(monkeypatch)
    major, minor = capability
    card = SimpleNamespace(
        name=name, major=major, minor=minor, uuid="0", total_memory=16 * 2**30, multi_processor_count=40
    )
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device=None: card)
    environment = describe_environment("cuda")
    assert environment["device_capability"] == f"{major}.{minor}"
    assert environment["native_precisions"] == native
