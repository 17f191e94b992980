"""The environment of a measurement: device, driver, versions, flags, machine settings, source revision and load."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any, cast

import torch

from vnbench.measure.gpu_state import gpu_settings
from vnbench.measure.machine import machine_settings
from vnbench.records.machine_keys import Environment
from vnbench.records.spec.precisions import PRECISIONS, Arithmetic
from vnbench.records.spec.words import DeviceType
from vnbench.trial.instruments.memory import host_memory_bytes


def describe_environment(device: DeviceType) -> Environment:
    """Return the current state of machine and software for trials on ``device``.

    Raises:
        RuntimeError: ``device`` is cuda and there is no CUDA device.
    """
    facts = {
        "vnbench_version": _installed_version(),
        "revision": source_revision(),
        "python_version": platform.python_version(),
        "platform": platform.platform(),
        "torch_version": torch.__version__,
        "cuda_version": torch.version.cuda,
        "cudnn_version": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]  # torch 2.13 leaves it untyped
        "device_type": device,
        **(_cuda_device() if device == "cuda" else _cpu_device()),
        "cpu_name": _cpu_name(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "num_cpus": len(os.sched_getaffinity(0)),
        "num_threads": torch.get_num_threads(),
        "host_memory_bytes": host_memory_bytes(),
        "load_average_1min": round(os.getloadavg()[0], 2),
        "allocator_settings": os.environ.get("PYTORCH_ALLOC_CONF") or os.environ.get("PYTORCH_CUDA_ALLOC_CONF"),
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "anomaly_detection": torch.is_anomaly_enabled(),
        **machine_settings(),
    }
    return cast(Environment, facts)


def probe(payload: str) -> str:
    """Return, as JSON, the environment on the device that ``payload`` names: auto, cuda or cpu.

    ``auto`` means CUDA if there is a device. If ``cuda`` is asked for and absent, the answer is ``{"error": reason}``.
    """
    available = torch.cuda.is_available()
    if payload == "cuda" and not available:
        built = torch.version.cuda is not None
        reason = "no CUDA device is visible" if built else f"torch {torch.__version__} is built without CUDA"
        return json.dumps({"error": reason})
    device: DeviceType = "cuda" if available and payload != "cpu" else "cpu"
    return json.dumps(describe_environment(device))


def check_fork() -> None:
    """Refuse a process in which CUDA cannot be used; torch's own error would only say how to start processes.

    Raises:
        RuntimeError: the process that this one was forked from had already used CUDA.
    """
    if torch.cuda._is_in_bad_fork():
        raise RuntimeError(
            "CUDA was used before this process was forked, so it cannot be used here: a module that starts "
            "with Python or is imported with torch uses it (sitecustomize, a plug-in of torch); remove that module"
        )


def _cuda_device() -> dict[str, Any]:
    check_fork()
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    uuid = f"GPU-{properties.uuid}"
    return {
        "device_name": properties.name,
        "device_uuid": uuid,
        "device_memory_bytes": properties.total_memory,
        "device_capability": f"{properties.major}.{properties.minor}",
        "native_precisions": [
            name for name, one in PRECISIONS.items() if one.has_units((properties.major, properties.minor))
        ],
        "num_multiprocessors": properties.multi_processor_count,
        "cudnn_plan_cache_limit": os.environ.get("TORCH_CUDNN_V8_API_LRU_CACHE_LIMIT"),
        **gpu_settings(uuid),
    }


def _cpu_device() -> dict[str, Any]:
    return {
        "device_name": _cpu_name(),
        "device_uuid": None,
        "device_memory_bytes": host_memory_bytes(),
        "device_capability": None,
        "native_precisions": [name for name, one in PRECISIONS.items() if _cpu_has_instructions(one)],
        "num_multiprocessors": None,
        "onednn_primitive_cache_capacity": os.environ.get("ONEDNN_PRIMITIVE_CACHE_CAPACITY"),
        **gpu_settings(None),
    }


def _cpu_has_instructions(one: Arithmetic) -> bool:
    """Return whether oneDNN supports a precision on this processor, within ONEDNN_MAX_CPU_ISA.

    Support does not mean speed: with plain AVX-512, oneDNN supports bf16 but is slower than in fp32. A torch without
    oneDNN lacks these queries.
    """
    if one.onednn_question is None:
        return not one.is_cuda_only
    knows = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # torch 2.13 leaves it untyped
    return knows and bool(getattr(torch.ops.mkldnn, one.onednn_question)())


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


@functools.cache
def source_revision() -> str:
    """Return the revision of vnbench's source: the commit of its checkout, or its version.

    A digest of the source files is appended if they differ from the commit or there is no checkout.
    """
    package = Path(__file__).parents[2]
    commit = _git(package, "rev-parse", "--short=12", "HEAD")
    if commit is None or _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return f"{_installed_version() or 'uninstalled'}+{_source_digest(package)}"
    return f"{commit}+{_source_digest(package)}" if _git(package, "status", "--porcelain", "--", ".") else commit


def _installed_version() -> str | None:
    try:
        return importlib.metadata.version("vnbench")
    except importlib.metadata.PackageNotFoundError:
        return None  # run from its source tree


def _git(directory: Path, *arguments: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(directory), *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def _source_digest(package: Path) -> str:
    content = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        content.update(str(path.relative_to(package)).encode())
        content.update(path.read_bytes())
    return content.hexdigest()[:8]


# Determine it on import: children are forked from a process that has read the source, and run what it read. If each
# child looked itself, edits during a sweep would give one file records of two revisions.
source_revision()
