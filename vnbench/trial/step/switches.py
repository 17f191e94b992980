"""Process-wide switches of torch and its libraries, set from a spec regardless of their previous state."""

from __future__ import annotations

import os

import torch
import torch.utils.deterministic

from vnbench.records.spec.precisions import PRECISIONS
from vnbench.records.spec.trial_spec import MemorySpec, TrialSpec
from vnbench.records.spec.words import Deterministic, Precision
from vnbench.trial.instruments.environment import check_fork
from vnbench.trial.instruments.memory import limit_memory

EXPANDABLE_SEGMENTS = "expandable_segments"
"""Name of the allocator's setting in PYTORCH_ALLOC_CONF."""


PRIMITIVE_CACHE = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
"""oneDNN's limit on prepared kernels in its cache; read when the first kernel is prepared."""

PRIMITIVE_CACHE_CAPACITY = "16384"
"""A step on one canvas needs about two hundred kernels, so oneDNN's default of 1,024 is full after a few canvases. Each
step on another canvas then prepares its kernels anew and takes a quarter longer (suites/bench_canvases.py). The cache
takes memory: a soak of 38 canvases at micro-batch 4 claimed 4.5 GiB instead of 2.4 GiB (VmData). So oneDNN's default is
kept where memory is measured or limited."""

CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
"""cuBLAS's setting of its workspaces."""

CUBLAS_WORKSPACE_CONFIG = ":4096:8"
"""Eight workspaces of 4 MiB: one of the two settings under which cuBLAS repeats itself (its documentation, 2.1.4)."""

PLAN_CACHE = "TORCH_CUDNN_V8_API_LRU_CACHE_LIMIT"
"""torch's limit on cuDNN plans per thread, an LRU cache; read at the first convolution. 0 means no limit, a negative
number no cache."""

PLAN_CACHE_LIMIT = "65536"
"""A step on one canvas needs about 45 plans, 68 under checkpointing, so torch's default of 10,000 is full after 222 or
147 canvases: an epoch with more canvases finds none of its plans again, visited or not. At torch's estimate of 200 KiB
per plan, this limit is 12.5 GiB of host memory, for 1,456 or 963 canvases."""


def set_switches(spec: TrialSpec) -> None:
    """Set the arithmetic, cuDNN's choice of algorithms, the libraries' caches, the allocator and a memory limit.

    Call it before anything else, because libraries read their limits at their first call. Describe the environment
    afterwards, from the process's variables and torch's flags.

    Raises:
        RuntimeError: PYTORCH_ALLOC_CONF selects an allocator other than torch's own (CUDA), or CUDA cannot be used in
            this process.
    """
    if spec.device == "cuda":
        check_fork()
    set_arithmetic(spec.precision)
    _set_determinism(spec.deterministic)
    # The number of algorithms to time (torch.backends.cudnn.benchmark_limit) stays at torch's default, ten.
    torch.backends.cudnn.benchmark = spec.cudnn_benchmark == "on"
    if spec.device == "cuda":
        _set_allocator(spec.allocator)
        os.environ.setdefault(PLAN_CACHE, PLAN_CACHE_LIMIT)
    elif not isinstance(spec, MemorySpec) and spec.memory_limit_bytes is None:
        os.environ.setdefault(PRIMITIVE_CACHE, PRIMITIVE_CACHE_CAPACITY)
    # A trace takes no memory; its peak is compared with the limit afterwards.
    if spec.memory_limit_bytes is not None and not spec.is_traced:
        limit_memory(spec.memory_limit_bytes, device=torch.device(spec.device))


def set_arithmetic(precision: Precision) -> None:
    """Set fp32 convolutions, matrix products and recurrent layers to TF32 if ``precision`` is made of it, else to fp32.

    Attention does not use cuDNN, which builds a plan for each new number of tokens, up to half a second per pass:
    ragged canvases rarely have the same number twice.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)
    fp32_precision = PRECISIONS[precision].fp32_products
    # Older names of the same: torch 2.11 to 2.13 raise an error where they are read and disagree.
    torch.backends.cuda.matmul.allow_tf32 = fp32_precision == "tf32"
    torch.backends.cudnn.allow_tf32 = fp32_precision == "tf32"
    torch.backends.cuda.matmul.fp32_precision = fp32_precision
    torch.backends.cudnn.conv.fp32_precision = fp32_precision  # type: ignore[attr-defined]  # torch 2.13 types it not
    torch.backends.cudnn.rnn.fp32_precision = fp32_precision  # type: ignore[attr-defined]


def _set_determinism(deterministic: Deterministic) -> None:
    """Set whether torch takes kernels that repeat themselves, and raises an error where it has none.

    It must be an error: with a warning instead, attention's backward pass does not repeat itself on CUDA
    (pytorch#182551). Filling new memory shows reads of what nobody wrote, which no kernel of ours does.
    """
    if deterministic != "off":
        # cuBLAS reads it when its first handle is made, and refuses deterministic products without it.
        os.environ.setdefault(CUBLAS_WORKSPACE, CUBLAS_WORKSPACE_CONFIG)
    torch.use_deterministic_algorithms(deterministic != "off")
    torch.utils.deterministic.fill_uninitialized_memory = deterministic == "on"  # type: ignore[attr-defined]  # a property


def _set_allocator(allocator: str) -> None:
    backend = torch.cuda.get_allocator_backend()
    if backend != "native":
        raise RuntimeError(
            f"PYTORCH_ALLOC_CONF asks for backend:{backend}, which conflicts with --allocator {allocator}; "
            "remove backend: from it; trials measure torch's own allocator"
        )
    # The order in which torch reads them for CUDA.
    given = os.environ.get("PYTORCH_CUDA_ALLOC_CONF") or os.environ.get("PYTORCH_ALLOC_CONF") or ""
    if allocator == "native" and EXPANDABLE_SEGMENTS not in given:
        return
    # The last of equal names wins; settings that are not repeated here would return to their defaults.
    wanted = f"{EXPANDABLE_SEGMENTS}:{allocator == 'expandable-segments'}"
    settings = f"{given},{wanted}" if given else wanted
    # Use a call, because torch read the environment on import, before this process was forked.
    torch._C._accelerator_setAllocatorSettings(settings)
    os.environ.pop("PYTORCH_CUDA_ALLOC_CONF", None)
    os.environ["PYTORCH_ALLOC_CONF"] = settings
