"""Properties of the processor, the system and the environment variables that affect a trial's time."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vnbench.measure.control_groups import cpu_quota_cores


def _is_on(value: str) -> bool:
    return value.strip().lower() not in ("", "0", "false", "off", "no")


def _is_given(value: str) -> bool:
    return bool(value)


def _is_debug_allocator(value: str) -> bool:
    return value == "malloc" or "debug" in value


DEBUGGING_VARIABLES: Mapping[str, Callable[[str], bool]] = {
    "CUDA_LAUNCH_BLOCKING": _is_on,  # waits for each kernel
    "PYTORCH_NO_CUDA_MEMORY_CACHING": _is_given,  # calls cudaMalloc for each tensor; any value counts
    "TORCH_SHOW_DISPATCH_TRACE": _is_on,  # prints each operation
    "TORCH_LOGS": _is_given,
    "TORCH_SHOW_CPP_STACKTRACES": _is_on,
    "NVIDIA_TF32_OVERRIDE": _is_given,  # makes cuBLAS and cuDNN use another precision
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": _is_on,
    "CUBLAS_LOGINFO_DBG": _is_on,
    "CUDNN_LOGINFO_DBG": _is_on,
    "CUDNN_LOGLEVEL_DBG": _is_on,
    "CUDA_INJECTION64_PATH": _is_given,  # a profiler
    "ONEDNN_VERBOSE": _is_on,
    "DNNL_VERBOSE": _is_on,
    "MKL_VERBOSE": _is_on,
    "PYTHONDEVMODE": _is_given,  # CPython takes any text as yes
    "PYTHONMALLOC": _is_debug_allocator,
    "PYTHONTRACEMALLOC": _is_on,
    "PYTHONASYNCIODEBUG": _is_given,
    "MALLOC_CHECK_": _is_on,
    "MALLOC_PERTURB_": _is_on,
}
"""Environment variables that slow programs down or change what they compute, and a test of their values."""

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Environment variables that limit how many CPUs a computation uses."""

WAIT_VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Environment variables that control how the threads of a computation wait for each other."""

ISA_VARIABLES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")
"""Environment variables that keep oneDNN (new and old name) and torch from using some of the CPU's instructions."""


def machine_settings(*, variables: Mapping[str, str] = os.environ, root: Path = Path("/")) -> dict[str, Any]:
    """Return JSON values by name; unknown values are None. ``root`` is the folder with proc, sys and dev."""
    total_bytes, free_bytes = _shared_memory(root)
    return {
        **_processor(root),
        "isa_variables": {name: variables[name] for name in ISA_VARIABLES if variables.get(name)},
        "cpu_governor": _governor(root),
        "is_cpu_turbo": _turbo(root),
        "cpu_quota_cores": cpu_quota_cores(root),
        "shared_memory_bytes": total_bytes,
        "shared_memory_free_bytes": free_bytes,
        "debugging_variables": {
            name: variables[name] for name, matters in DEBUGGING_VARIABLES.items() if matters(variables.get(name, ""))
        },
        "thread_variables": {name: variables[name] for name in THREAD_VARIABLES if variables.get(name)},
        "wait_variables": {name: variables[name] for name in WAIT_VARIABLES if variables.get(name)},
    }


def _processor(root: Path) -> dict[str, str | int | None]:
    """Return vendor, family, model and stepping of the first CPU, in the processor's own numbering.

    On ARM they come from the MIDR register: implementer, architecture, part, and 16 x variant + revision.
    """
    lines = (_text(root / "proc/cpuinfo") or "").partition("\n\n")[0].splitlines()
    told = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if "CPU implementer" in told:
        variant, revision = _number(told.get("CPU variant")), _number(told.get("CPU revision"))
        return {
            "cpu_vendor": told["CPU implementer"],
            "cpu_family": _number(told.get("CPU architecture")),
            "cpu_model": _number(told.get("CPU part")),
            "cpu_stepping": None if variant is None or revision is None else 16 * variant + revision,
        }
    return {
        "cpu_vendor": told.get("vendor_id") or None,
        "cpu_family": _number(told.get("cpu family")),
        "cpu_model": _number(told.get("model")),
        "cpu_stepping": _number(told.get("stepping")),
    }


def _number(text: str | None) -> int | None:
    """Return a number written in decimal or, with 0x, in hexadecimal digits; None if the text is not a number."""
    try:
        return int(text or "", 0)
    except ValueError:
        return None  # Linux writes "unknown" for old processors


def _governor(root: Path) -> str | None:
    """Return the frequency governors of the CPUs that this process may use, joined by commas if they differ."""
    paths = (root / f"sys/devices/system/cpu/cpu{n}/cpufreq/scaling_governor" for n in os.sched_getaffinity(0))
    governors = {text for path in paths if (text := _text(path)) is not None}
    return ",".join(sorted(governors)) or None


def _turbo(root: Path) -> bool | None:
    """Return whether the CPUs may exceed their base clock; None if unknown."""
    no_turbo = _text(root / "sys/devices/system/cpu/intel_pstate/no_turbo")
    if no_turbo is not None:
        return no_turbo == "0"
    boost = _text(root / "sys/devices/system/cpu/cpufreq/boost")
    return None if boost is None else boost == "1"


def _shared_memory(root: Path) -> tuple[int | None, int | None]:
    """Return size and free space of /dev/shm in bytes; loader workers pass their batches through it."""
    try:
        status = os.statvfs(root / "dev/shm")
    except OSError:
        return None, None
    return status.f_frsize * status.f_blocks, status.f_frsize * status.f_bavail


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
