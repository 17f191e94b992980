"""Switches of torch and its libraries that hold for a whole process, set as the spec says whatever they were before."""

from __future__ import annotations

import os

import torch

from vnbench.records.spec.precisions import PRECISIONS
from vnbench.records.spec.trial_spec import MemorySpec, TrialSpec
from vnbench.records.spec.words import Allocator, Precision
from vnbench.trial.instruments.environment import check_fork
from vnbench.trial.instruments.memory import limit_memory

EXPANDABLE_SEGMENTS = "expandable_segments"
"""The allocator's setting, as PYTORCH_ALLOC_CONF spells it."""


PRIMITIVE_CACHE = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
"""oneDNN's limit on kernels that it keeps prepared; read when the first one is."""

PRIMITIVE_CACHE_CAPACITY = "16384"
"""A step on one canvas takes some two hundred of them, so oneDNN's default of 1,024 is full after a few canvases. Each
step on another one then prepares its kernels anew, and takes a quarter longer (suites/bench_canvases.py). What
is kept takes memory: a soak of 38 canvases, micro-batch 4, claimed 4.5 GiB instead of 2.4 (VmData). Where memory is
measured or limited, oneDNN's default therefore stays."""

PLAN_CACHE = "TORCH_CUDNN_V8_API_LRU_CACHE_LIMIT"
"""torch's limit on plans of cuDNN that each thread keeps, the least recently used dropped first; read at the first
convolution. 0 is no limit, a negative number keeps none."""

PLAN_CACHE_LIMIT = "65536"
"""A step on one canvas takes some 45 of them, 68 under checkpointing, so torch's default of 10,000 is full after 222
canvases or 147: an epoch of more that goes round finds none of its plans again, visited or not. At the 200 KiB that
torch reckons for a plan these are 12.5 GiB of the host's memory, for 1,456 canvases or 963."""


def set_switches(spec: TrialSpec) -> None:
    """Set the arithmetic, cuDNN's choice of algorithms, what libraries keep, the allocator and a memory limit.

    Before anything else, for libraries read their limits at their first call.

    The process's environment and torch's flags then say what holds, so describe them afterwards.

    Raises:
        RuntimeError: PYTORCH_ALLOC_CONF has put another allocator in the place of torch's own (CUDA), or CUDA cannot be
            used in this process.
    """
    if spec.device == "cuda":
        check_fork()
    set_arithmetic(spec.precision)
    # How many algorithms are timed (torch.backends.cudnn.benchmark_limit) stays at torch's default, ten.
    torch.backends.cudnn.benchmark = spec.cudnn_benchmark == "on"
    if spec.device == "cuda":
        _set_allocator(spec.allocator)
        os.environ.setdefault(PLAN_CACHE, PLAN_CACHE_LIMIT)
    elif not isinstance(spec, MemorySpec) and spec.memory_limit_bytes is None:
        os.environ.setdefault(PRIMITIVE_CACHE, PRIMITIVE_CACHE_CAPACITY)
    # A trace takes no memory, and is held against the limit afterwards.
    if spec.memory_limit_bytes is not None and not spec.is_traced:
        limit_memory(spec.memory_limit_bytes, device=torch.device(spec.device))


def set_arithmetic(precision: Precision) -> None:
    """Let fp32 convolutions and matrix products use TF32 if ``precision`` is made of it, and full fp32 otherwise.

    Attention leaves cuDNN out: it builds a plan for each new number of tokens, up to half a second a pass, and ragged
    canvases rarely have the same number twice.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)
    fp32_precision = PRECISIONS[precision].fp32_products
    torch.backends.cuda.matmul.fp32_precision = fp32_precision
    torch.backends.cudnn.conv.fp32_precision = fp32_precision  # type: ignore[attr-defined]  # torch 2.13 types it not


def _set_allocator(allocator: Allocator) -> None:
    backend = torch.cuda.get_allocator_backend()
    if backend != "native":
        raise RuntimeError(
            f"PYTORCH_ALLOC_CONF asks for backend:{backend}, which --allocator {allocator} is not; "
            "take backend: out of it: trials measure torch's own allocator"
        )
    # In the order in which torch reads them for CUDA.
    given = os.environ.get("PYTORCH_CUDA_ALLOC_CONF") or os.environ.get("PYTORCH_ALLOC_CONF") or ""
    if allocator == "native" and EXPANDABLE_SEGMENTS not in given:
        return
    # The last of equal names counts; what is not repeated here would go back to its default.
    wanted = f"{EXPANDABLE_SEGMENTS}:{allocator == 'expandable-segments'}"
    settings = f"{given},{wanted}" if given else wanted
    # By call, because torch read the environment when it was imported, before this process was forked.
    torch._C._accelerator_setAllocatorSettings(settings)
    os.environ.pop("PYTORCH_CUDA_ALLOC_CONF", None)
    os.environ["PYTORCH_ALLOC_CONF"] = settings
