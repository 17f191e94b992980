"""Peak memory: the caching allocator's counters on CUDA, the bytes of live tensor storages on the CPU."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import weakref
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vnbench.measure.control_groups import memory_limit_bytes
from vnbench.records.readings import MemoryReading

M_MMAP_MAX = -4
M_TRIM_THRESHOLD = -1
"""Parameters of glibc's mallopt(3), from malloc.h."""

FULL_BELOW_BYTES = 512 * 2**20
"""Free device memory that a library needs to start: loading cuDNN's kernels took about 500 MB before cuDNN 8.5 and
takes 150 MB since (pytorch#81620); a cuBLAS handle takes some tens of MB."""


def keep_freed_memory() -> bool:
    """Make glibc keep freed buffers in the process; return whether it accepted the settings.

    By default glibc returns each large buffer to the system, and page faults dominate a CPU step: 4 x 480 x 3,200 px
    took 11.8 s, and 4.8 s with these settings. Other C libraries are not changed.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return False
    return bool(libc.mallopt(M_MMAP_MAX, 0)) and bool(libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


def limit_memory(limit_bytes: int, *, device: torch.device) -> None:
    """Limit this process's memory from now on: allocations beyond the limit fail.

    On CUDA the limit applies to the caching allocator, without the context. On the CPU it applies to the process's
    private writable memory (RLIMIT_DATA) beyond its present size, including oneDNN's workspace.

    Raises:
        RuntimeError: there is no /proc to show the process's present memory.
    """
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit_bytes / total))
        return
    held_bytes = _process_status("VmData")
    if held_bytes is None:
        raise RuntimeError("--memory-limit needs /proc to read how much memory the process has")
    _, hard_limit = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (held_bytes + limit_bytes, hard_limit))


class LiveTensorTracker(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch 2.13 leaves it untyped
    """Context manager that counts the bytes of live tensor storages and their peak.

    A storage counts once, from the operation that returns it until it is freed, no matter how many tensors view it.
    Pass tensors that exist before (parameters, gradients, optimizer state, inputs) to ``track``. Memory that never
    becomes a tensor is not seen, above all oneDNN's workspace.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live_bytes = 0
        """Bytes of the storages that are live now."""
        self.peak_bytes = 0
        """Maximum of ``live_bytes`` since the tracker was made."""
        self.num_operators = 0
        """Number of operations dispatched since the tracker was made."""
        self._storages: dict[int, weakref.finalize[Any, Any]] = {}

    def track(self, tensors: Iterable[torch.Tensor]) -> None:
        """Count the storages of existing tensors."""
        for tensor in tensors:
            self._count(tensor)

    def close(self) -> None:
        """Forget every storage without waiting until it is freed."""
        for finalizer in self._storages.values():
            finalizer.detach()
        self._storages.clear()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation; count it and the storages of its results."""
        if func.namespace == "prim":  # a query of a fake tensor's device
            return func(*args, **(kwargs or {}))
        self.num_operators += 1
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._count(leaf)
        return result

    def _count(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, num_bytes = storage._cdata, storage.nbytes()
        if key in self._storages or num_bytes == 0:
            return
        finalizer = weakref.finalize(storage, self._forget, key, num_bytes)
        finalizer.atexit = False
        self._storages[key] = finalizer
        self.live_bytes += num_bytes
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)

    def _forget(self, key: int, num_bytes: int) -> None:
        del self._storages[key]
        self.live_bytes -= num_bytes


def reset_cuda_peaks(device: torch.device) -> int:
    """Reset the peaks; return the allocator's retries so far, which a reset does not clear."""
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    num_retries: int = torch.cuda.memory_stats(device)["num_alloc_retries"]
    return num_retries


def num_cuda_ooms() -> int:
    """Return how often the caching allocator ran out of memory, even if a library hid it behind another error.

    It is called after failures. After some faults every CUDA call raises the fault again; then the result is 0.
    """
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch 2.13 leaves it untyped
        return 0
    try:
        num_ooms: int = torch.cuda.memory_stats().get("num_ooms", 0)
    except RuntimeError:
        return 0
    return num_ooms


def free_unheld_memory(device: torch.device) -> None:
    """Return cached memory that no tensor holds from the caching allocator to the driver; do nothing on the CPU.

    Release tensors first: those that a caller holds stay, with their blocks. After a CUDA fault nothing can be
    returned, and the fault is reported elsewhere.
    """
    gc.collect()
    if device.type == "cuda":
        with contextlib.suppress(RuntimeError):
            torch.cuda.empty_cache()


def is_cuda_full() -> bool:
    """Return whether the device has less than FULL_BELOW_BYTES free, or the caching allocator has found it full before.

    After a sticky error CUDA does not answer; then the result is False.
    """
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch 2.13 leaves it untyped
        return False
    try:
        stats = torch.cuda.memory_stats()
        free_bytes, _ = torch.cuda.mem_get_info()
    except RuntimeError:
        return False
    return stats.get("num_ooms", 0) + stats.get("num_alloc_retries", 0) > 0 or free_bytes < FULL_BELOW_BYTES


def cuda_memory(device: torch.device, *, num_retries_before: int) -> MemoryReading:
    """Return the caching allocator's peaks and retries since ``reset_cuda_peaks``."""
    stats = torch.cuda.memory_stats(device)
    free_bytes, total_bytes = torch.cuda.mem_get_info(device)
    return MemoryReading(
        instrument="cuda-caching-allocator",
        peak_allocated_bytes=stats["allocated_bytes.all.peak"],
        peak_reserved_bytes=stats["reserved_bytes.all.peak"],
        num_alloc_retries=stats["num_alloc_retries"] - num_retries_before,
        process_peak_rss_bytes=process_peak_rss_bytes(),
        capacity_bytes=torch.cuda.get_device_properties(device).total_memory,
        peak_requested_bytes=stats["requested_bytes.all.peak"],
        outside_allocator_bytes=total_bytes - free_bytes - stats["reserved_bytes.all.current"],
    )


def tracked_memory(tracker: LiveTensorTracker) -> MemoryReading:
    """Return the live-tensor tracker's reading on the CPU."""
    return MemoryReading(
        instrument="live-tensors",
        peak_allocated_bytes=tracker.peak_bytes,
        peak_reserved_bytes=None,
        num_alloc_retries=None,
        process_peak_rss_bytes=process_peak_rss_bytes(),
        capacity_bytes=host_memory_bytes(),
        num_operators=tracker.num_operators,
    )


def process_memory() -> MemoryReading:
    """Return the operating system's reading of this process, for trials without another instrument."""
    return MemoryReading(
        instrument="process",
        peak_allocated_bytes=None,
        peak_reserved_bytes=None,
        num_alloc_retries=None,
        process_peak_rss_bytes=process_peak_rss_bytes(),
        capacity_bytes=host_memory_bytes(),
    )


def process_peak_rss_bytes() -> int | None:
    """Return the peak resident set of this process, or None without /proc."""
    return _process_status("VmHWM")


def process_rss_bytes() -> int | None:
    """Return the current resident set of this process, or None without /proc."""
    return _process_status("VmRSS")


def processes_bytes(pids: Iterable[int]) -> int | None:
    """Return the memory of some processes, counting shared memory once; None if unknown.

    It is the sum of their proportional set sizes; a process that has ended counts as 0.
    """
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
        except ProcessLookupError:
            continue
        except OSError:
            return None
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def _process_status(name: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)


def host_memory_bytes(*, root: Path = Path("/")) -> int | None:
    """Return the memory of the machine, or the limit of this process's control groups if that is less.

    ``root`` is the folder that holds proc and sys.
    """
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return None
    limit = memory_limit_bytes(root)
    return total if limit is None else min(total, limit)
