from __future__ import annotations

import importlib
import json
import subprocess
import sys

import pytest

import vnbench.batching

OLD = {
    "vnbench.data.resume": ("EpochSampler", "PlanState", "read_state"),
    "vnbench.data.plan": ("BatchPlan", "MicroBatch", "PlanConfig"),
    "vnbench.data.sizes": ("SizeDistribution", "draw_sizes", "read_sizes_csv"),
    "vnbench.data.batching": ("plan_epoch",),
}
"""Where earlier versions had what training scripts import."""


def test_all_that_is_public_is_there() -> None:
    assert sorted(vnbench.batching.__all__) == sorted(name for names in OLD.values() for name in names)
    assert all(hasattr(vnbench.batching, name) for name in vnbench.batching.__all__)


@pytest.mark.parametrize("module", OLD)
def test_names_of_earlier_versions_are_the_same_objects(module: str) -> None:
    old = importlib.import_module(module)
    for name in OLD[module]:
        assert getattr(old, name) is getattr(vnbench.batching, name)


@pytest.mark.processes
def test_the_public_home_imports_neither_torch_nor_other_rooms_above_it() -> None:
    script = "import json, sys, vnbench.batching; print(json.dumps([name for name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    rooms = {name.split(".")[1] for name in json.loads(done.stdout) if name.startswith("vnbench.")}
    assert "torch" not in json.loads(done.stdout)
    assert rooms <= {"batching", "records", "processes", "parsers", "meant", "texts", "units", "errors"}
