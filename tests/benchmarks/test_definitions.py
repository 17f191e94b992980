"""Every sweep definition that ships is understood, and planned as far as a machine without a GPU can."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from record_factory import record_of

from vnbench.cli.app import run

pytestmark = pytest.mark.processes

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CAMPAIGNS = sorted(BENCHMARKS.glob("campaign/*.toml"))
DEFINITIONS = sorted(BENCHMARKS.glob("definitions/*.toml"))


@pytest.mark.parametrize("path", DEFINITIONS, ids=lambda path: path.stem)
def test_a_definition_is_planned(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # What the machine can do decides how long it takes, not what a definition asks for.
    monkeypatch.setattr(
        "vnbench.commands.sweep.sweep.run_trial", lambda task, **_: record_of(task.spec, status="crashed")
    )
    assert run(["sweep", "--config", str(path), "--device", "cpu", "--dry-run", "--json"]) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_definition_for_cuda_varies_the_groups_of_norms_and_so_does_the_first_call_of_its_campaign() -> None:
    """On CUDA they decide how many multiprocessors are at work, and with it most of what else is compared."""
    varied = {
        path.stem
        for path in DEFINITIONS
        if path.stem.endswith("_cuda") and len(tomllib.loads(path.read_text()).get("norm-groups", ())) > 1
    }
    assert "norms_cuda" in varied
    steps = tomllib.loads((BENCHMARKS / "campaign" / "campaign_cuda.toml").read_text())["step"]
    assert [step["name"] for step in steps if step["priority"] == 1 and "--norm-groups" in step["command"]]


def test_every_definition_and_script_is_named_where_benchmarks_are_explained() -> None:
    text = (BENCHMARKS / "README.md").read_text()
    assert len(DEFINITIONS) >= 10
    for path in [*DEFINITIONS, *CAMPAIGNS, *BENCHMARKS.rglob("*.py")]:
        assert path.name in text, path.name
