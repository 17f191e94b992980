"""What this machine is, in lines, and what would disturb a measurement on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vnbench.units import format_bytes

BUSY_LOAD_PER_CPU = 0.25
"""Load average per CPU above which other programs are at work: a quarter of each core."""


def environment_lines(environment: Mapping[str, Any], *, num_gpu_processes: int | None) -> Iterator[str]:
    """Yield one line per fact, then one per disturbance. The number of processes on the GPU is None where unknown."""
    width = max(len(name) for name in environment)
    for name, value in environment.items():
        shown = format_bytes(value) if name.endswith("_bytes") and value is not None else value
        yield f"{name:<{width}}  {'-' if shown is None else shown}"
    yield ""
    disturbances = list(find_disturbances(environment, num_gpu_processes=num_gpu_processes))
    yield from disturbances or ["nothing was found that would disturb a measurement"]


def find_disturbances(environment: Mapping[str, Any], *, num_gpu_processes: int | None) -> Iterator[str]:
    """Yield what would disturb a measurement, each with its numbers and what to do."""
    load, num_cpus = environment["load_average_1min"], environment["num_cpus"]
    if load > BUSY_LOAD_PER_CPU * num_cpus:
        yield f"other programs are at work (load {load} on {num_cpus} CPUs): end them, or expect longer times"
    if num_gpu_processes:
        yield f"{num_gpu_processes} processes are on the GPU: end them, or choose another with CUDA_VISIBLE_DEVICES"
