from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from vnbench.trial.instruments.memory import (
    FULL_BELOW_BYTES,
    LiveTensorTracker,
    host_memory_bytes,
    is_cuda_full,
    process_memory,
    process_peak_rss_bytes,
    tracked_memory,
)

FLOAT_BYTES = 4


def test_the_peak_is_the_most_that_lives_at_once() -> None:
    tracker = LiveTensorTracker()
    with tracker:
        a = torch.zeros(1000)
        b = torch.zeros(500)
        del a
        c = torch.zeros(700)
    assert tracker.peak_bytes == 1500 * FLOAT_BYTES
    assert tracker.live_bytes == 1200 * FLOAT_BYTES
    del b, c
    assert tracker.live_bytes == 0


def test_views_of_one_storage_count_once() -> None:
    tracker = LiveTensorTracker()
    with tracker:
        whole = torch.zeros(1000)
        parts = [whole[:500], whole.view(10, 100), whole.detach()]
    assert tracker.live_bytes == 1000 * FLOAT_BYTES
    del whole
    assert tracker.live_bytes == 1000 * FLOAT_BYTES, "a view keeps the storage alive"
    del parts
    assert tracker.live_bytes == 0


def test_tensors_from_before_count_when_they_are_named() -> None:
    existing = torch.zeros(300)
    tracker = LiveTensorTracker()
    with tracker:
        tracker.track([existing, existing[:10]])
        added = existing + 1
    assert tracker.peak_bytes == 600 * FLOAT_BYTES
    del added, existing
    assert tracker.live_bytes == 0


def test_what_backward_keeps_and_frees_is_seen() -> None:
    # y = x * x keeps x alone (it is its own operand); sin keeps its input too.
    x = torch.ones(1000, requires_grad=True)
    tracker = LiveTensorTracker()
    with tracker:
        tracker.track([x])
        y = (x * x).sin().sum()
        kept = tracker.live_bytes
        y.backward()
    assert kept == 2 * 1000 * FLOAT_BYTES + FLOAT_BYTES
    del y
    assert tracker.live_bytes == 2 * 1000 * FLOAT_BYTES, "x and its gradient are left"


def test_checkpointing_keeps_less() -> None:
    def block(x: torch.Tensor) -> torch.Tensor:
        for _ in range(8):
            x = x.sin()
        return x

    def peak(*, is_checkpointed: bool) -> int:
        x = torch.ones(10_000, requires_grad=True)
        tracker = LiveTensorTracker()
        with tracker:
            y = x
            for _ in range(4):
                y = checkpoint(block, y, use_reentrant=False) if is_checkpointed else block(y)
            y.sum().backward()
        tracker.close()
        return tracker.peak_bytes

    assert peak(is_checkpointed=True) < 0.5 * peak(is_checkpointed=False)


def test_nothing_is_left_behind_in_the_tracker() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.GroupNorm(1, 4), torch.nn.Conv2d(4, 1, 3))
    tracker = LiveTensorTracker()
    with tracker:
        for _ in range(3):
            model(torch.ones(1, 1, 16, 16)).sum().backward()
            model.zero_grad(set_to_none=True)
    gc.collect()
    assert tracker.live_bytes == 0


def test_a_tracked_reading_says_who_counted() -> None:
    tracker = LiveTensorTracker()
    with tracker:
        torch.ones(3).add(1.0)
    reading = tracked_memory(tracker)
    assert (reading.instrument, reading.peak_allocated_bytes) == ("live-tensors", 24)
    assert reading.num_operators == 2
    assert reading.peak_reserved_bytes is None
    assert reading.num_alloc_retries is None


def test_where_no_instrument_ran_the_peak_of_tensors_is_missing_and_not_zero() -> None:
    assert process_memory().peak_allocated_bytes is None


def test_the_process_peak_lies_within_the_hosts_memory() -> None:
    peak, capacity = process_peak_rss_bytes(), host_memory_bytes()
    assert peak is not None
    assert capacity is not None
    assert 10 * 2**20 < peak < capacity


@pytest.mark.gpu
def test_the_cuda_allocators_peak_is_exact_for_known_tensors() -> None:
    from vnbench.trial.instruments.memory import cuda_memory, reset_cuda_peaks

    device = torch.device("cuda")
    torch.cuda.empty_cache()
    num_retries_before = reset_cuda_peaks(device)
    before = torch.cuda.memory_allocated()
    blocks = [torch.zeros(2**20, dtype=torch.uint8, device="cuda") for _ in range(8)]
    del blocks
    reading = cuda_memory(device, num_retries_before=num_retries_before)
    assert reading.peak_allocated_bytes == before + 8 * 2**20
    assert reading.peak_reserved_bytes is not None
    assert reading.peak_reserved_bytes >= reading.peak_allocated_bytes
    assert reading.num_alloc_retries == 0


MIB = 2**20
NO_LIMIT = 9223372036854771712
"""What version 1 of control groups writes for no limit: the largest whole number of pages of 4 KiB."""
PHYSICAL_BYTES = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize(
    ("groups", "limits", "expected"),
    [
        ("", {}, PHYSICAL_BYTES),
        ("0::/\n", {"memory.max": f"{300 * MIB}"}, 300 * MIB),
        ("0::/slice/box\n", {"slice/box/memory.max": "max", "slice/memory.max": f"{200 * MIB}"}, 200 * MIB),
        ("0::/slice/box\n", {"slice/box/memory.max": f"{100 * MIB}", "memory.max": f"{200 * MIB}"}, 100 * MIB),
        ("0::/slice/box\n", {"slice/box/memory.max": "max", "slice/memory.max": "max"}, PHYSICAL_BYTES),
        ("4:memory:/box\n0::/\n", {"memory/box/memory.limit_in_bytes": f"{150 * MIB}"}, 150 * MIB),
        (
            "4:memory:/a/b\n",
            {"memory/a/b/memory.limit_in_bytes": f"{NO_LIMIT}", "memory/a/memory.limit_in_bytes": f"{250 * MIB}"},
            250 * MIB,
        ),
        # A container of version 1 reads the machine's path, and finds its own group at the top.
        ("4:memory:/docker/1f\n", {"memory/memory.limit_in_bytes": f"{350 * MIB}"}, 350 * MIB),
        ("4:memory:/box\n", {"memory/box/memory.limit_in_bytes": f"{NO_LIMIT}"}, PHYSICAL_BYTES),
        ("4:memory:/box\n", {"cpu/box/memory.limit_in_bytes": f"{50 * MIB}"}, PHYSICAL_BYTES),
    ],
    ids=[
        "no groups",
        "the root alone",
        "a parent's limit",
        "the narrower of two",
        "none of two",
        "version 1",
        "a parent's of version 1",
        "a container of version 1",
        "no limit of version 1",
        "another controller's folder",
    ],
)
def test_the_memory_of_a_process_is_the_smallest_limit_of_its_control_groups(
    tmp_path: Path, groups: str, limits: dict[str, str], expected: int
) -> None:
    texts = {"proc/self/cgroup": groups} | {f"sys/fs/cgroup/{name}": f"{limit}\n" for name, limit in limits.items()}
    for name, text in texts.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert host_memory_bytes(root=tmp_path) == expected


@pytest.mark.parametrize(
    ("statistics", "free_bytes", "is_full"),
    [
        ({"num_ooms": 0, "num_alloc_retries": 0}, FULL_BELOW_BYTES, False),
        ({"num_ooms": 0, "num_alloc_retries": 0}, FULL_BELOW_BYTES - 1, True),
        ({"num_ooms": 1, "num_alloc_retries": 0}, 2**36, True),
        ({"num_ooms": 0, "num_alloc_retries": 1}, 2**36, True),
        ({}, 2**36, False),
    ],
)
def test_a_device_is_full_by_its_free_memory_or_by_what_its_allocator_once_found(
    monkeypatch: pytest.MonkeyPatch, statistics: dict[str, int], free_bytes: int, is_full: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "memory_stats", lambda: statistics)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free_bytes, 2**37))
    assert is_cuda_full() == is_full


def test_a_device_that_answers_no_more_is_not_called_full(monkeypatch: pytest.MonkeyPatch) -> None:
    def stuck() -> tuple[int, int]:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "memory_stats", dict)
    monkeypatch.setattr(torch.cuda, "mem_get_info", stuck)
    assert not is_cuda_full()


def test_without_cuda_no_device_is_full() -> None:
    assert torch.cuda.is_initialized() or not is_cuda_full()
