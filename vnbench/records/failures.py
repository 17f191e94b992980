"""Classify an exception that ended a trial: status and cause."""

from __future__ import annotations

import traceback
from collections.abc import Sequence

from vnbench.errors import CorpusError
from vnbench.records.record import Cause, CauseKind, Status

TEXTS: Sequence[tuple[CauseKind, Status, tuple[str, ...]]] = (
    (
        "library-allocation",
        "oom",
        (
            "CUDNN_STATUS_ALLOC_FAILED",
            "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",  # the same in cuDNN 9
            "CUBLAS_STATUS_ALLOC_FAILED",
            "CUDA error: out of memory",
            "CUDA driver error: out of memory",  # expandable segments map memory with calls of the driver
        ),
    ),
    (
        "host-allocation",
        "oom",
        (
            "DefaultCPUAllocator",
            "std::bad_alloc",  # C++, from allocations inside a library
            "Cannot allocate memory",
            "not enough memory: you tried to allocate",
            "CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
        ),
    ),
    # Must precede worker-died: torch reports the death of the worker in the same message.
    ("shared-memory", "crashed", ("out of shared memory", "/dev/shm has")),
    ("open-files", "crashed", ("oo many open files", "files open (ulimit", "received 0 items of ancdata")),
    ("worker-died", "crashed", ("DataLoader worker (pid",)),
    ("worker-hung", "timeout", ("DataLoader timed out",)),
    (
        "index-overflow",
        "crashed",
        ("canUse32BitIndexMath", "INT_MAX", "integer out of range", "too many elements", "index out of 32 bit"),
    ),
)
"""Texts in messages of torch and its libraries, for exceptions whose type alone does not give the cause."""

MAX_MESSAGE_CHARACTERS = 400
MAX_DETAIL_CHARACTERS = 8000
"""Longest message and traceback in a record: C++ stacks can have tens of thousands of characters."""


NO_ENGINE = "unable to find an engine"
"""Message of the cuDNN front end when every engine failed: out of memory, or none supports so large a tensor."""


LIBRARY_ERRORS = (
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUBLAS_STATUS_INTERNAL_ERROR",
    "CUDNN_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_INTERNAL_ERROR",
)
"""Messages of cuBLAS and cuDNN when they lack memory for handles and kernels, but also for other reasons. They count as
out of memory only if the device is full (pytorch#81620)."""


NO_PRIMITIVE = (
    "could not create a primitive",
    "could not execute a primitive",
    "could not create a memory",
    "can't start new thread",
)
"""Messages of oneDNN when it cannot create its workspace, and of Python when a thread gets no stack, but also for other
reasons. They count as out of memory only under a memory limit."""


ADDRESS_ERRORS = ("illegal memory access", "invalid configuration argument", "misaligned address")
"""CUDA's messages about a kernel outside its tensor; with tensors of 2^31 elements or more, an index overflowed."""


def classify(
    error: BaseException,
    *,
    num_device_ooms: int = 0,
    is_device_full: bool = False,
    has_memory_limit: bool = False,
    has_large_tensors: bool = False,
) -> tuple[Status, Cause]:
    """Return the status and cause of a trial that ``error`` ended.

    The type of the exception decides first, by name, so that this module needs no torch; then the texts in TEXTS.

    Args:
        error: the exception.
        num_device_ooms: how often the device's allocator found no memory; errors of cuDNN do not say.
        is_device_full: whether the device was full; cuDNN and cuBLAS do not say so when they cannot start.
        has_memory_limit: whether the process has a memory limit; errors of oneDNN do not say.
        has_large_tensors: whether a tensor had 2^31 elements or more; errors of CUDA do not say.
    """
    kind: CauseKind = "exception"
    status: Status = "crashed"
    text = str(error)
    if isinstance(error, CorpusError):
        kind = "unusable-image"
    elif type(error).__name__ == "OutOfMemoryError":
        kind, status = "torch-out-of-memory", "oom"
    elif isinstance(error, MemoryError):
        kind, status = "host-allocation", "oom"
    elif has_memory_limit and any(needle in text for needle in NO_PRIMITIVE):
        kind, status = "library-allocation", "oom"
    elif NO_ENGINE in text:
        kind, status = ("library-allocation", "oom") if num_device_ooms else ("index-overflow", "crashed")
    elif has_large_tensors and any(needle in text for needle in ADDRESS_ERRORS):
        kind, status = "index-overflow", "crashed"
    else:
        for candidate, meaning, needles in TEXTS:
            if any(needle in text for needle in needles):
                kind, status = candidate, meaning
                break
        else:
            if any(needle in text for needle in LIBRARY_ERRORS):
                kind, status = ("library-allocation", "oom") if is_device_full else ("library-error", "crashed")
    detail = "".join(traceback.format_exception(error))
    message = summary_line(error)
    if kind == "unusable-image":
        message = message.rpartition("CorpusError: ")[2]  # the name of the file comes first
    return status, Cause(kind=kind, message=message, detail=detail[-MAX_DETAIL_CHARACTERS:])


def summary_line(error: BaseException) -> str:
    """Return an error in one line: its type and the first non-empty line of its message.

    An error of a loader worker carries the worker's traceback; its last line is returned.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    line = lines[-1] if lines[0].startswith("Caught ") else f"{type(error).__name__}: {lines[0]}"
    return line[:MAX_MESSAGE_CHARACTERS]
