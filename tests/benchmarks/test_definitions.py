"""Every sweep definition that ships is understood, and planned as far as a machine without a GPU can."""

from __future__ import annotations

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


def test_every_definition_and_script_is_named_where_benchmarks_are_explained() -> None:
    text = (BENCHMARKS / "README.md").read_text()
    assert len(DEFINITIONS) >= 10
    for path in [*DEFINITIONS, *CAMPAIGNS, *BENCHMARKS.rglob("*.py")]:
        assert path.name in text, path.name
