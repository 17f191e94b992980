"""What every test shares: GPU tests are skipped where there is no GPU, and nothing touches the user's cache."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from vnbench.harness.process import SPIN_COUNT

# As in the processes of trials, and before a test imports torch: beside a busy core tests take a tenth of the time.
os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    gpu_items = [item for item in items if item.get_closest_marker("gpu")]
    if not gpu_items:
        return
    import torch

    if torch.cuda.is_available():
        return
    for item in gpu_items:
        item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep synthetic corpora of tests in one temporary folder per test session."""
    cache = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    return cache
