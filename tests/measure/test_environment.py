from __future__ import annotations

import json

import torch

from vnbench.measure.environment import describe_environment, probe, source_revision
from vnbench.store import COMPARED_KEYS


def test_the_environment_is_json_and_holds_what_is_compared() -> None:
    environment = describe_environment("cpu")
    assert json.loads(json.dumps(environment)) == environment
    for key in COMPARED_KEYS:
        assert environment[key]
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
