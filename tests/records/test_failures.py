from __future__ import annotations

import pytest
import torch

from vnbench.errors import CorpusError
from vnbench.records.failures import MAX_DETAIL_CHARACTERS, classify

pytestmark = pytest.mark.torch


def raised_by_torch(num_bytes: int) -> BaseException:
    try:
        torch.empty(num_bytes, dtype=torch.uint8)
    except RuntimeError as error:
        return error
    raise AssertionError("the allocation succeeded")


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "oom", "torch-out-of-memory"),
        (MemoryError(), "oom", "host-allocation"),
        (RuntimeError("std::bad_alloc"), "oom", "host-allocation"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "oom", "library-allocation"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), "oom", "library-allocation"),
        (RuntimeError("CUDA error: out of memory\nCompile with"), "oom", "library-allocation"),
        (RuntimeError("CUDA driver error: out of memory"), "oom", "library-allocation"),
        (
            RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
            "oom",
            "library-allocation",
        ),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED"), "oom", "host-allocation"),
        (RuntimeError("CUDA driver error: invalid argument"), "crashed", "exception"),
        (RuntimeError("Expected canUse32BitIndexMath(input) to be true"), "crashed", "index-overflow"),
        (RuntimeError("size mismatch"), "crashed", "exception"),
        (CorpusError("a.png: does not decode"), "crashed", "unusable-image"),
        (OSError(24, "Too many open files", "a.png"), "crashed", "open-files"),
        (RuntimeError("Too many open files. Communication with the workers is no longer"), "crashed", "open-files"),
        (RuntimeError("received 0 items of ancdata"), "crashed", "open-files"),
    ],
)
def test_an_error_is_told_by_its_type_and_its_text(error: BaseException, status: str, kind: str) -> None:
    found, cause = classify(error)
    assert (found, cause.kind) == (status, kind)


@pytest.mark.parametrize(
    "error",
    [
        CorpusError("logs/a.png: does not decode"),
        CorpusError(
            "Caught CorpusError in DataLoader worker process 0.\n"
            "  vnbench.errors.CorpusError: logs/a.png: does not decode"
        ),
    ],
)
def test_an_image_that_cannot_be_used_is_told_by_its_name_first(error: CorpusError) -> None:
    assert classify(error)[1].message == "logs/a.png: does not decode"


@pytest.mark.parametrize(
    ("num_device_ooms", "expected"), [(0, ("crashed", "index-overflow")), (2, ("oom", "library-allocation"))]
)
def test_a_convolution_without_an_engine_is_told_by_the_allocators_count(
    num_device_ooms: int, expected: tuple[str, str]
) -> None:
    error = RuntimeError("GET was unable to find an engine to execute this computation")
    status, cause = classify(error, num_device_ooms=num_device_ooms)
    assert (status, cause.kind) == expected


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
        "CUDA error: CUBLAS_STATUS_INTERNAL_ERROR when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR",
    ],
)
@pytest.mark.parametrize(
    ("is_full", "expected"), [(False, ("crashed", "library-error")), (True, ("oom", "library-allocation"))]
)
def test_a_library_that_cannot_start_is_out_of_memory_on_a_full_device_alone(
    text: str, is_full: bool, expected: tuple[str, str]
) -> None:
    status, cause = classify(RuntimeError(text), is_device_full=is_full)
    assert (status, cause.kind) == expected
    assert text in cause.message


@pytest.mark.parametrize(("has_limit", "expected"), [(False, "crashed"), (True, "oom")])
def test_onednn_without_a_workspace_is_told_by_the_limit(has_limit: bool, expected: str) -> None:
    status, cause = classify(RuntimeError("could not create a primitive"), has_memory_limit=has_limit)
    assert status == expected
    assert cause.kind == ("library-allocation" if has_limit else "exception")


def test_a_refused_host_allocation_is_out_of_memory() -> None:
    status, cause = classify(raised_by_torch(2**50))
    assert (status, cause.kind) == ("oom", "host-allocation")


def test_the_message_is_one_line_and_the_detail_is_bounded() -> None:
    _, cause = classify(RuntimeError("first line\n" + "x" * 100_000))
    assert cause.message == "RuntimeError: first line"
    assert cause.detail is not None
    assert len(cause.detail) <= MAX_DETAIL_CHARACTERS


def test_an_error_of_a_loader_worker_is_told_by_its_last_line() -> None:
    text = "Caught CorpusError in DataLoader worker process 1.\nOriginal Traceback:\n  x\nE: bad.png"
    _, cause = classify(RuntimeError(text))
    assert cause.message == "E: bad.png"
