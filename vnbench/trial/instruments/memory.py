"""Peak memory: the caching allocator's counters on CUDA, live tensor bytes by storage on the CPU."""

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
"""Memory that a device has to have left for a library to start: loading cuDNN's kernels took about 500 MB of it before
cuDNN 8.5, and 150 MB since (pytorch#81620); a handle of cuBLAS takes some tens of MB."""


def keep_freed_memory() -> bool:
    """Make glibc keep freed buffers in the process; return whether it took the settings.

    By default glibc hands each large buffer back to the system and page faults dominate a CPU step: 4 x 480 x 3,200 px
    took 11.8 s, and 4.8 s with these settings. Other C libraries are left as they are.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return False
    return bool(libc.mallopt(M_MMAP_MAX, 0)) and bool(libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


def limit_memory(limit_bytes: int, *, device: torch.device) -> None:
    """Let this process take no more memory than this from now on: an allocation beyond it fails.

    On CUDA the limit is of the caching allocator, without the context. On the CPU it is of the process's own writable
    memory (RLIMIT_DATA) beyond what it has now, oneDNN's workspace included; a machine without /proc has none.

    Raises:
        RuntimeError: the operating system does not tell how much memory the process has.
    """
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit_bytes / total))
        return
    held_bytes = _process_status("VmData")
    if held_bytes is None:
        raise RuntimeError("--memory-limit needs /proc to tell how much memory the process has")
    _, hard_limit = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (held_bytes + limit_bytes, hard_limit))


class LiveTensorTracker(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch 2.13 leaves it untyped
    """Counts the bytes of live tensor storages, and their peak, while it is entered.

    A storage counts once, from the operation that returns it until it is freed, however many tensors view it. What
    existed before (parameters, gradients, optimizer state, inputs) has to be named to ``track``. Memory that never
    becomes a tensor is invisible: oneDNN's workspace above all.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live_bytes = 0
        """Bytes of the live storages now."""
        self.peak_bytes = 0
        """Most bytes live at once since the tracker was made."""
        self.num_operators = 0
        """Operations dispatched since the tracker was made."""
        self._storages: dict[int, weakref.finalize[Any, Any]] = {}

    def track(self, tensors: Iterable[torch.Tensor]) -> None:
        """Count the storages of tensors that exist already."""
        for tensor in tensors:
            self._count(tensor)

    def close(self) -> None:
        """Forget every storage without waiting for its end."""
        for finalizer in self._storages.values():
            finalizer.detach()
        self._storages.clear()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation, and count it and the storages of what it returns."""
        if func.namespace == "prim":  # a fake tensor is asked for its device
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
    """Let the peaks start anew; return the allocator's retries so far, which no reset touches."""
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    num_retries: int = torch.cuda.memory_stats(device)["num_alloc_retries"]
    return num_retries


def num_cuda_ooms() -> int:
    """Return how often the caching allocator found no memory, also where a library hid it behind another error.

    It is asked where something failed, and after some faults CUDA answers every question with the fault: then 0.
    """
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch 2.13 leaves it untyped
        return 0
    try:
        num_ooms: int = torch.cuda.memory_stats().get("num_ooms", 0)
    except RuntimeError:
        return 0
    return num_ooms


def free_unheld_memory(device: torch.device) -> None:
    """Give back to the driver what the caching allocator keeps and no tensor holds; nothing on the CPU.

    Tensors that a caller still holds stay, and their blocks with them: let go of them first. After a fault of CUDA
    nothing can be given back, and the fault is told elsewhere.
    """
    gc.collect()
    if device.type == "cuda":
        with contextlib.suppress(RuntimeError):
            torch.cuda.empty_cache()


def is_cuda_full() -> bool:
    """Return whether the device has less than FULL_BELOW_BYTES free, or the caching allocator once found it full.

    After an error that sticks CUDA answers nothing any more; such a device is not called full.
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
    """Return what the live-tensor tracker read on the CPU."""
    return MemoryReading(
        instrument="live-tensor-tracker",
        peak_allocated_bytes=tracker.peak_bytes,
        peak_reserved_bytes=None,
        num_alloc_retries=None,
        process_peak_rss_bytes=process_peak_rss_bytes(),
        capacity_bytes=host_memory_bytes(),
        num_operators=tracker.num_operators,
    )


def process_memory() -> MemoryReading:
    """Return what the operating system says of this process, where no other instrument ran."""
    return MemoryReading(
        instrument="process",
        peak_allocated_bytes=None,
        peak_reserved_bytes=None,
        num_alloc_retries=None,
        process_peak_rss_bytes=process_peak_rss_bytes(),
        capacity_bytes=host_memory_bytes(),
    )


def process_peak_rss_bytes() -> int | None:
    """Return the largest resident set of this process, or None where /proc does not tell it."""
    return _process_status("VmHWM")


def process_rss_bytes() -> int | None:
    """Return the resident set of this process now, or None where /proc does not tell it."""
    return _process_status("VmRSS")


def processes_bytes(pids: Iterable[int]) -> int | None:
    """Return the memory of some processes of this machine, what they share counted once; None where unknown.

    That is the sum of their proportional set sizes; one that has ended takes none.
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
    """Return the memory of the machine, or of the control groups of this process where that is less.

    ``root`` holds proc and sys.
    """
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return None
    limit = memory_limit_bytes(root)
    return total if limit is None else min(total, limit)
