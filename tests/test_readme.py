"""Every command that the README shows is run, in a folder that holds what the README's reader has."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import pytest

from vnbench.cli.app import run

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```bash\n(.*?)^```$", README, flags=re.M | re.S)
LINES = [line for block in BLOCKS for line in block.splitlines()]
SET_UP_LINES = [line for line in LINES if line.startswith("python3 -m venv")]
COMMANDS = [line for line in LINES if line.startswith("vnbench ")]


def test_two_lines_do_all_the_set_up() -> None:
    main_job, tests = SET_UP_LINES
    assert main_job.endswith("vnbench sweep --widths 3200:12800")
    assert tests.endswith(".venv/bin/pytest -n 3 --dist worksteal")


def test_ci_runs_both_lines_as_they_are_shown() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert "readme_line pytest" in script
    assert "readme_line 'vnbench sweep'" in script


def test_every_line_shown_is_one_that_is_tested() -> None:
    assert set(LINES) == set(SET_UP_LINES) | set(COMMANDS)
    assert len(COMMANDS) >= 9


YAML_LINES = re.findall(
    r"\.venv/bin/(vnbench .*)$", "".join(re.findall(r"^```yaml\n(.*?)^```$", README, flags=re.M | re.S)), flags=re.M
)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reader")
    for name in ("benchmarks", "results"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("sweep*"))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_runs(command: str, reader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(reader)
    arguments = shlex.split(command)[1:]
    if "sweep" in arguments:
        # Each sweep is run to its end, on few and small images; definitions for a GPU are read and planned here.
        is_for_a_gpu = "--config" in arguments
        arguments += ["--device", "cpu", "--dry-run"] if is_for_a_gpu else few_trials(arguments)
    if arguments[0] in ("sweep", "profile") and "--widths" in arguments:
        # The main job alone is tried at its true sizes, by `.ci/run`: small images go the same way.
        arguments += ["--widths", "96:320", "--heights", "32:64"]
    assert run(arguments) == 0


def few_trials(arguments: Sequence[str]) -> list[str]:
    """Return what leaves a sweep the axes that its command names, on the least of images and steps."""
    one_cell = {"--batch-size": "1", "--precision": "fp32", "--norm-precision": "fp32", "--checkpointing": "none"}
    if "--find-max-batch" in arguments:
        return ["--memory-limit", "160MiB", *chain.from_iterable(list(one_cell.items())[1:])]
    one_cell |= {"--sampler": "bucketed", "--num-workers": "0"}
    few = ["--subset", "2", "--max-epochs", "1", "--replicates", "1", "--reference-runs", "1", "--max-attempts", "1"]
    few += ["--compute-sizes", "2", "--min-steps", "2", "--max-steps", "2", "--warm-up-steps", "1"]
    few += [] if "--corpus" in arguments else ["--examples", "4"]
    return [*few, *chain.from_iterable(item for item in one_cell.items() if item[0] not in arguments)]


def test_the_pipelines_for_both_hosts_measure_and_gate() -> None:
    assert [line.split()[1] for line in YAML_LINES] == ["sweep", "gate"] * 2


@pytest.mark.parametrize("command", YAML_LINES)
def test_a_command_of_a_pipeline_runs(command: str, reader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(reader)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    arguments = shlex.split(command)[1:]
    if "sweep" in arguments:
        assert run([*arguments, "--dry-run"]) == 0
        return
    shutil.copy("results/cpu-amd-epyc/gate_2.jsonl", "candidate.jsonl")
    assert run(["gate", "baseline.json", "results/cpu-amd-epyc/gate_1.jsonl", "--update"]) == 0
    assert run(arguments) == (0 if "warn" in arguments else 3), "two sweeps of a shared CPU: undecided"
    assert Path("gate.xml").read_text(encoding="utf-8").startswith("<?xml")
