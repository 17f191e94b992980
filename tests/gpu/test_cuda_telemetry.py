from __future__ import annotations

import pytest

pytestmark = pytest.mark.gpu


def test_nvml_reads_the_device_that_torch_uses() -> None:
    from vnbench.measure.environment import describe_environment
    from vnbench.measure.nvml import DeviceSampler

    environment = describe_environment("cuda")
    sampler = DeviceSampler(uuid=environment["device_uuid"])
    sampler.sample()
    sampler.sample()
    telemetry = sampler.telemetry()
    assert telemetry is not None
    assert telemetry["num_samples"] == 2
    assert telemetry["device_used_bytes"]["max"] <= 1.1 * environment["device_memory_bytes"]
