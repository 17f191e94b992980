"""Describe the machine of a record, and compare two machines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from vnbench.records.spec.words import DeviceType
from vnbench.records.values.strict import Bytes, Count, Number, Ratio, Seconds, SignedSeconds


class Environment(TypedDict, total=False):
    """The machine and software of a trial. Older records lack some facts; null means unknown or not applicable.

    Facts of later versions, which have no type here, are kept as read.
    """

    vnbench_version: str | None
    revision: str
    """Commit of vnbench's source, or a digest of the source."""
    python_version: str
    platform: str
    torch_version: str
    cuda_version: str | None
    cudnn_version: int | None
    device_type: DeviceType
    device_name: str
    device_uuid: str | None
    """Identity of the GPU, such as ``GPU-...``."""
    device_memory_bytes: Bytes | None
    device_capability: str | None
    """CUDA compute capability, such as ``9.0``."""
    native_precisions: list[str] | None
    """Precisions that the device has instructions for."""
    convolution_s: dict[str, Seconds]
    """Seconds of one convolution by precision; only ``vnbench env`` measures them."""
    num_multiprocessors: Count | None
    cudnn_plan_cache_limit: str | None
    """Execution plans that torch keeps (TORCH_CUDNN_V8_API_LRU_CACHE_LIMIT)."""
    onednn_primitive_cache_capacity: str | None
    """Primitives that oneDNN keeps (ONEDNN_PRIMITIVE_CACHE_CAPACITY)."""
    driver_version: str | None
    power_limit_w: Number | None
    default_power_limit_w: Number | None
    max_sm_clock_mhz: Number | None
    application_sm_clock_mhz: Number | None
    default_application_sm_clock_mhz: Number | None
    is_mig_enabled: bool | None
    is_ecc_enabled: bool | None
    nvml_notes: list[str] | None
    """What NVML did not report, and why."""
    cpu_name: str
    cpu_capability: str | None
    """Instructions that torch's own kernels use, such as ``AVX512``."""
    num_cpus: Count
    """CPUs that the process may use."""
    num_threads: Count
    """Threads that torch computes with."""
    host_memory_bytes: Bytes | None
    load_average_1min: Number
    allocator_settings: str | None
    """Settings of the caching allocator (PYTORCH_ALLOC_CONF)."""
    cudnn_benchmark: bool
    deterministic: bool
    anomaly_detection: bool
    cpu_vendor: str | None
    cpu_family: int | None
    cpu_model: int | None
    cpu_stepping: int | None
    isa_variables: dict[str, str] | None
    """Environment variables that keep oneDNN and torch from using instructions of the CPU."""
    cpu_governor: str | None
    is_cpu_turbo: bool | None
    cpu_quota_cores: Number | None
    """CPU time that the process may use, in cores."""
    shared_memory_bytes: Bytes | None
    shared_memory_free_bytes: Bytes | None
    debugging_variables: dict[str, str] | None
    """Environment variables that slow programs down or change what they compute."""
    thread_variables: dict[str, str] | None
    """Environment variables that limit threads."""
    wait_variables: dict[str, str] | None
    """Environment variables that set how threads wait for each other."""


class Spread(TypedDict, total=False):
    """Smallest, mean and largest value of a counter over the readings of a measured span."""

    min: Number
    mean: Number
    max: Number


class DeviceTelemetry(TypedDict, total=False):
    """NVML's readings of the GPU (vnbench.measure.nvml)."""

    num_readings: Count
    period_s: Seconds
    """Time between two readings."""
    sm_clock_mhz: Spread | None
    memory_clock_mhz: Spread | None
    power_w: Spread | None
    temperature_c: Spread | None
    device_used_bytes: Spread | None
    sm_utilisation_percent: Spread | None
    num_processes: Spread | None
    throttle_shares: dict[str, Ratio] | None
    """Share of the readings with each harmful throttle reason that occurred."""
    max_sm_clock_mhz: Number | None
    notes: list[str]
    """What NVML did not report, and why."""


class HostTelemetry(TypedDict, total=False):
    """Use of the CPU cores (vnbench.measure.host)."""

    num_cpus: Count
    num_readings: Count
    period_s: Seconds
    """Time between two readings."""
    observed_s: SignedSeconds
    """Time between the first reading and the last."""
    own_busy_cores: Ratio | None
    """Cores used by the trial's own processes."""
    other_busy_cores: Ratio | None
    """Cores used by other programs."""
    stolen_cores: Ratio | None
    """Cores used by other guests of the hypervisor."""


class Telemetry(TypedDict, total=False):
    """Readings of the machine, taken by the parent process while a trial measured."""

    device: DeviceTelemetry | None
    host: HostTelemetry | None


SPEED_KEYS = (
    "device_capability",
    "cpu_vendor",
    "cpu_family",
    "cpu_model",
    "cpu_capability",
    "isa_variables",
    "num_cpus",
    "num_threads",
)
"""Facts that affect times, besides the names of device and torch. Processors of the same name differ in speed, above
all by the instructions that they have. The stepping is left out, because it only fixes faults."""

FILE_KEYS = ("device_name", *SPEED_KEYS, "torch_version", "revision")
"""Facts that all records of one results file share."""


def differences(there: Mapping[str, object], here: Mapping[str, object]) -> tuple[str, ...]:
    """Return the differences of two environments in FILE_KEYS, such as ``num_cpus 2 there, 4 here``.

    A fact that one of them lacks, as in records of earlier versions, is not compared.
    """
    return tuple(
        f"{key} {fact_text(there[key])} there, {fact_text(here[key])} here"
        for key in FILE_KEYS
        if there.get(key) is not None and here.get(key) is not None and there[key] != here[key]
    )


def fact_text(value: object) -> str:
    """Return a fact in one line, for people and for comparing."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={value[name]}" for name in sorted(value)) or "none"
    return str(value)
