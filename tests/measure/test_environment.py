from __future__ import annotations

import json

import torch

from vnbench.measure import nvml
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


def test_without_a_device_nothing_is_sampled() -> None:
    sampler = nvml.DeviceSampler(uuid="GPU-00000000-0000-0000-0000-000000000000")
    sampler.sample()
    assert sampler.telemetry() is None
