"""What an exception inside a trial means: its status and its cause."""

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
            "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",  # cuDNN 9's name of the one before
            "CUBLAS_STATUS_ALLOC_FAILED",
            "CUDA error: out of memory",
            "CUDA driver error: out of memory",  # expandable segments map memory by the driver's own calls
        ),
    ),
    (
        "host-allocation",
        "oom",
        (
            "DefaultCPUAllocator",
            "std::bad_alloc",  # of C++, from whatever a library allocates for itself
            "Cannot allocate memory",
            "not enough memory: you tried to allocate",
            "CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
        ),
    ),
    # Before the death of a worker, which torch tells in the same message.
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
"""Messages of torch and its libraries that an exception's type alone does not tell apart."""

MAX_MESSAGE_CHARACTERS = 400
MAX_DETAIL_CHARACTERS = 8000
"""Longest message and traceback that go into a record: C++ stacks run to tens of thousands of characters."""


NO_ENGINE = "unable to find an engine"
"""What cuDNN's front end says when every engine failed: for want of memory, or because none takes so large a tensor."""


LIBRARY_ERRORS = (
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUBLAS_STATUS_INTERNAL_ERROR",
    "CUDNN_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_INTERNAL_ERROR",
)
"""What cuBLAS and cuDNN say when they find no room for their handles and kernels, among other reasons; only on a full
device they mean that (pytorch#81620)."""


NO_PRIMITIVE = (
    "could not create a primitive",
    "could not execute a primitive",
    "could not create a memory",
    "can't start new thread",
)
"""What oneDNN says when it cannot make its workspace, and Python when a thread gets no stack, among other reasons; only
under a memory limit they mean that."""


ADDRESS_ERRORS = ("illegal memory access", "invalid configuration argument", "misaligned address")
"""What CUDA says of a kernel that left its tensor; where a tensor has 2^31 elements or more, its index overflowed."""


def classify(
    error: BaseException,
    *,
    num_device_ooms: int = 0,
    is_device_full: bool = False,
    has_memory_limit: bool = False,
    has_large_tensors: bool = False,
) -> tuple[Status, Cause]:
    """Return the status and cause of a trial that ``error`` ended.

    The type decides first, by name, so that this module needs no torch; then the texts of TEXTS. ``num_device_ooms``
    tells how often the device's allocator found no memory, which an error of cuDNN does not say; ``is_device_full``
    whether the device was full, which neither cuDNN nor cuBLAS says where it cannot start; ``has_memory_limit`` whether
    the process has one, which an error of oneDNN does not say; ``has_large_tensors`` whether a tensor had 2^31 elements
    or more, which no error of CUDA says.
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
        message = message.rpartition("CorpusError: ")[2]  # what is wrong is the file, and its name comes first
    return status, Cause(kind=kind, message=message, detail=detail[-MAX_DETAIL_CHARACTERS:])


def summary_line(error: BaseException) -> str:
    """Return an error in one line: its type and the first line that says something.

    An error from a loader worker carries the worker's traceback, whose last line is the one that says something.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    line = lines[-1] if lines[0].startswith("Caught ") else f"{type(error).__name__}: {lines[0]}"
    return line[:MAX_MESSAGE_CHARACTERS]
