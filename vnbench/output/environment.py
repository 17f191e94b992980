"""What this machine is, in lines, and what would disturb a measurement on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from vnbench.measure.host import busy_threshold
from vnbench.measure.nvml import SLOWDOWNS
from vnbench.output.words.numbers import significant
from vnbench.records.machine_keys import Environment
from vnbench.records.spec.precisions import PRECISIONS
from vnbench.units import count, format_bytes

Code = Literal[
    "gpu-processes",  # other processes compute on the GPU
    "power-limit",  # the card may draw less than it is built for
    "low-clocks",  # the card's clocks were set below their default
    "throttling",  # the card is slowed by heat or its power supply now
    "mig",  # the card is divided
    "no-nvml",  # nobody tells what goes on at the GPU
    "busy-cores",  # other programs use the CPU cores
    "small-shared-memory",  # loader workers have too little room to hand over batches
    "cpu-frequency-scaling",  # the CPU's clock follows its load
    "cpu-quota",  # the container may use less time than it has CPUs
    "few-threads",  # fewer threads than CPUs
    "few-instructions",  # torch was told to leave instructions of the CPU alone
    "debugging-flags",  # switches that make programs slower, or compute something else
    "allocator-settings",  # the caching allocator was set up by hand
    "cudnn-benchmark",  # cuDNN times its algorithms on each new shape
]

POWER_LIMIT_TOLERANCE_W = 1.0
"""Watts that a limit may lie under its default: drivers round."""

LOADER_BYTES = 2 * 640 * 12_800 * 16 * 4 * 2
"""Room that a loader on a GPU machine needs: image and mask, one byte a pixel each, of the worst case; batches of 16;
four workers; two batches ahead each. 2.1 GB."""

MIN_SHARED_BYTES = 2**30
"""Room that any loader should have. Docker gives 64 MiB unless told otherwise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Disturbance:
    """Something that would change what is measured on this machine."""

    code: Code
    """Closed list, for programs."""
    message: str
    """What it is, with its numbers, in one line."""
    remedy: str
    """What to do about it."""

    def to_json(self) -> dict[str, str]:
        """Return it as JSON values."""
        return asdict(self)


def environment_lines(
    environment: Environment, *, activity: Mapping[str, Any], disturbances: Sequence[Disturbance]
) -> Iterator[str]:
    """Yield one line per fact, then what goes on now, what is emulated, and one line per disturbance."""
    host, device = activity["host"] or {}, activity["device"] or {}
    facts = {
        **environment,
        **{name: host.get(name) for name in ("other_busy_cores", "stolen_cores")},
        **{name: value for name, value in device.items() if name != "nvml_notes"},
    }
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        yield f"{name:<{width}}  {_shown(name, value)}"
    yield ""
    yield from _precision_lines(environment)
    yield from (f"{found.code}: {found.message}; {found.remedy}" for found in disturbances)
    if not disturbances:
        yield "nothing found that would disturb a measurement"


def _precision_lines(environment: Environment) -> Iterator[str]:
    """Yield what becomes of the precisions that the device has no units for."""
    native = environment.get("native_precisions")
    is_cpu = environment["device_type"] == "cpu"
    lacking = [] if native is None else [name for name in PRECISIONS if name not in native]
    able = [name for name in lacking if not (is_cpu and PRECISIONS[name].is_cuda_only)]
    emulated = [name for name in able if PRECISIONS[name].is_reduced]
    if emulated:
        verb = "are" if len(emulated) > 1 else "is"
        yield f"{' and '.join(emulated)} {verb} emulated here: far slower than fp32"
    yield from (f"{name} has no units here: it is computed as fp32" for name in able if name not in emulated)
    times_s = environment.get("convolution_s") or {}
    base_s = times_s.get("fp32")
    others = {name: seconds for name, seconds in times_s.items() if name != "fp32"}
    if base_s and others:
        told = ", ".join(f"{name} {significant(seconds / base_s, digits=2)}" for name, seconds in others.items())
        threads = " on one thread" if environment["device_type"] == "cpu" else ""
        yield f"time of a 3 x 3 convolution, forward and backward{threads}, relative to fp32: {told}"


def find_disturbances(environment: Environment, *, activity: Mapping[str, Any]) -> Iterator[Disturbance]:
    """Yield what would disturb a measurement: an environment of measure.environment, measure.activity of now."""
    if activity["device"] is not None:
        yield from _of_device_now(activity["device"])
        yield from _of_device_settings(environment)
    yield from _of_cores(environment, activity["host"])
    yield from _of_host_settings(environment)
    yield from _of_switches(environment)


def _of_device_now(device: Mapping[str, Any]) -> Iterator[Disturbance]:
    num_processes = device["num_gpu_processes"]
    if num_processes:
        yield Disturbance(
            code="gpu-processes",
            message=f"{count(num_processes, 'process')} on the GPU",
            remedy="end them, or choose another GPU with CUDA_VISIBLE_DEVICES",
        )
    slowdowns = [reason for reason in device["throttle_reasons"] or () if reason in SLOWDOWNS]
    if slowdowns:
        clock, temperature = device["sm_clock_mhz"], device["temperature_c"]
        yield Disturbance(
            code="throttling",
            message=f"the GPU is slowed now: {', '.join(slowdowns)} (SM clock {clock} MHz, {temperature} C)",
            remedy="let it cool, and look at its fans and power supply",
        )
    if all(value is None for name, value in device.items() if name != "nvml_notes"):
        yield Disturbance(
            code="no-nvml",
            message=f"NVML reports nothing of this GPU ({'; '.join(device['nvml_notes'] or ()) or 'no reason given'})",
            remedy="times are still measured; throttling and other processes go unnoticed",
        )


def _of_device_settings(environment: Environment) -> Iterator[Disturbance]:
    limit_w, default_w = environment.get("power_limit_w"), environment.get("default_power_limit_w")
    if limit_w is not None and default_w is not None and limit_w < default_w - POWER_LIMIT_TOLERANCE_W:
        yield Disturbance(
            code="power-limit",
            message=f"the GPU's power limit is {limit_w:.0f} W, its default {default_w:.0f} W",
            remedy=f"set it with nvidia-smi --power-limit={default_w:.0f} (as root), or compare with such cards only",
        )
    # A default application clock under the card's highest is no limit: with it, cards go higher by themselves.
    clock_mhz, default_mhz = (
        environment.get("application_sm_clock_mhz"),
        environment.get("default_application_sm_clock_mhz"),
    )
    if clock_mhz is not None and default_mhz is not None and clock_mhz < default_mhz:
        highest = environment.get("max_sm_clock_mhz")
        yield Disturbance(
            code="low-clocks",
            message=f"the GPU's SM clock is set to {clock_mhz} MHz (default {default_mhz}, highest {highest})",
            remedy="undo it with nvidia-smi --reset-applications-clocks (as root)",
        )
    if environment.get("is_mig_enabled"):
        yield Disturbance(
            code="mig",
            message="the GPU is divided (MIG): its slices share memory bandwidth and power",
            remedy="keep the other slices idle, and compare with slices of the same size only",
        )


def _of_cores(environment: Environment, host: Mapping[str, Any] | None) -> Iterator[Disturbance]:
    load, num_cpus = environment["load_average_1min"], environment["num_cpus"]
    threshold = busy_threshold(num_cpus)
    remedy = "end them (top lists them), or wait until they are done"
    if host is None or host["other_busy_cores"] is None:
        # The load counts what waits for a disk too, and the minute before; it is all there is here.
        if load >= threshold:
            message = f"other programs ran in the last minute (load {load} on {num_cpus} CPUs)"
            yield Disturbance(code="busy-cores", message=message, remedy=remedy)
        return
    other, stolen = host["other_busy_cores"], host["stolen_cores"]
    if other + stolen >= threshold:
        guests = f", other guests of this machine {stolen:.2f}" if stolen >= 0.01 else ""
        message = f"other programs use {other:.2f}{guests} of {num_cpus} CPU cores now (load {load} in the last minute)"
        yield Disturbance(code="busy-cores", message=message, remedy=remedy)


def _of_host_settings(environment: Environment) -> Iterator[Disturbance]:
    num_cpus = environment["num_cpus"]
    free_bytes = environment.get("shared_memory_free_bytes")
    needed_bytes = LOADER_BYTES if environment["device_type"] == "cuda" else MIN_SHARED_BYTES
    if free_bytes is not None and free_bytes < needed_bytes:
        yield Disturbance(
            code="small-shared-memory",
            message=f"/dev/shm has {format_bytes(free_bytes)} free; loaders may need {format_bytes(needed_bytes)}",
            remedy="docker run --shm-size=4g (or mount -o remount,size=4g /dev/shm as root), or --num-workers 0",
        )
    governor = environment.get("cpu_governor")
    if governor is not None and governor != "performance":
        yield Disturbance(
            code="cpu-frequency-scaling",
            message=f"the CPU's clock follows its load (governor {governor})",
            remedy="write performance to /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor (as root)",
        )
    quota = environment.get("cpu_quota_cores")
    if quota is not None and quota < num_cpus:
        yield Disturbance(
            code="cpu-quota",
            message=f"this container may use {quota:g} CPUs' time on {num_cpus} CPUs: its threads are stopped in turns",
            remedy="raise the quota (docker run --cpus), or pin it to whole CPUs (--cpuset-cpus)",
        )
    kept_from = environment.get("isa_variables") or {}
    if kept_from:
        yield Disturbance(
            code="few-instructions",
            message=f"{_assignments(kept_from)}: torch uses no newer instructions than these",
            remedy=f"unset {' '.join(kept_from)}",
        )
    limits = environment.get("thread_variables") or {}
    few = {name: value for name, value in limits.items() if value.isdigit() and int(value) < num_cpus}
    if few:
        yield Disturbance(
            code="few-threads",
            message=f"{_assignments(few)} on {num_cpus} CPUs: computing on the CPU leaves the others idle",
            remedy=f"unset {' '.join(few)}",
        )


def _of_switches(environment: Environment) -> Iterator[Disturbance]:
    variables = environment.get("debugging_variables") or {}
    if variables:
        yield Disturbance(
            code="debugging-flags",
            message=f"{_assignments(variables)}: debugging aids, which slow programs down",
            remedy=f"unset {' '.join(variables)}",
        )
    if environment.get("anomaly_detection"):
        yield Disturbance(
            code="debugging-flags",
            message="torch's anomaly detection is on: each backward pass is checked",
            remedy="look for torch.autograd.set_detect_anomaly in sitecustomize",
        )
    settings = environment.get("allocator_settings")
    if settings:
        yield Disturbance(
            code="allocator-settings",
            message=f"the caching allocator is set up by hand ({settings}): peaks and times are those of this setting",
            remedy="unset PYTORCH_ALLOC_CONF and PYTORCH_CUDA_ALLOC_CONF; --allocator compares settings",
        )
    if environment.get("cudnn_benchmark"):
        yield Disturbance(
            code="cudnn-benchmark",
            message="cuDNN times its algorithms on each new shape, and images of many sizes keep bringing new shapes",
            remedy="leave it off for ragged batches; --cudnn-benchmark off,on measures what it does",
        )


def _assignments(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name}={significant(value) if isinstance(value, float) else value}" for name, value in values.items()
    )


def _shown(name: str, value: Any) -> str:
    if value is None or value in ({}, []):
        return "-"
    if name.endswith("_bytes"):
        return format_bytes(value)
    if isinstance(value, Mapping):
        return _assignments(value)
    if isinstance(value, list):
        return "; ".join(str(item) for item in value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)
