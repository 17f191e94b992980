"""Every report that is drawn from records that ship is drawn again, by the command that stands beside it."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest

from vnbench.cli.app import run

ROOT = Path(__file__).parents[2]
COMMANDS = re.findall(r"^\| .*? \| `((?:vnbench|python) [^`]*)`", (ROOT / "reports/README.md").read_text(), flags=re.M)

MEASURING = ("groupnorm_report", "padding_leak", "corpus_report")
"""Scripts that measure what they tell."""

OF_THEIR_OWN = ("floors_report", "findings_report")
"""Scripts that tests of their own draw again."""

REDRAWN = ("accumulation_report", "drill_report", "factored_report", "main_job_report")
"""Scripts that measure, and draw again what they measured before when they are told to."""

ELSEWHERE = ("sampler_peers", "gate_report", "forecast_report", "short_window_report", "watching_report")
"""Scripts that need packages of other projects, or simulate, trace or measure for minutes."""


def script_of(command: str) -> str:
    return Path(shlex.split(command)[1]).stem


DRAWING = [command for command in COMMANDS if script_of(command) not in (*MEASURING, *OF_THEIR_OWN, *ELSEWHERE)]

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").rglob("*.py")), ids=lambda path: path.stem)
def test_every_script_finds_what_it_imports(path: Path) -> None:
    if path.stem == "sampler_peers":
        pytest.importorskip("lhotse")
    if path.stem in ("exact_windows", "short_window_report", "watching_report"):
        pytest.importorskip("lightning")
    assert importlib.import_module(path.stem).__doc__


def test_every_report_has_its_command() -> None:
    table = (ROOT / "reports/README.md").read_text()
    for path in (ROOT / "reports").iterdir():
        assert path.name == "README.md" or path.stem.removesuffix("_example") in table, path.name
    assert len(DRAWING) >= 9


@pytest.mark.slow
@pytest.mark.parametrize("command", DRAWING, ids=script_of)
def test_a_report_is_drawn_from_the_records_that_ship(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    words = shlex.split(command)
    words[words.index("--out") + 1] = str(tmp_path)
    words = [one for word in words for one in (sorted(map(str, Path().glob(word))) if "[" in word else [word])]
    if script_of(command) in REDRAWN:
        words.append("--report-only")
    if words[0] == "vnbench":
        assert run(words[1:]) == 0
    else:
        assert importlib.import_module(script_of(command)).main(words[2:]) == 0
    assert any(path.suffix in (".md", ".png") for path in tmp_path.rglob("*"))
