from __future__ import annotations

import json
from pathlib import Path

import pytest

from vnbench.cli.app import run

pytestmark = pytest.mark.processes

SMALL = "--examples 10 --epochs 2 --widths 96:160 --heights 32:64 --num-workers 0 --batch-size 2 --micro-batch-size 1"


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", ["--kills 2 --harm torn --interval 1", "--kills 1 --harm full-disk --snapshot-mode async --interval 2"]
)
def test_a_run_that_is_killed_loses_no_snapshot_and_ends_the_same(
    options: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["drill", *SMALL.split(), *options.split(), "--snapshot-target", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kills"] == int(options.split()[1])
    assert found["lost_snapshots"] == 0
    assert found["is_bitwise_equal"]
    # A torn file costs the interval before, too.
    assert found["redone_steps_max"] <= 2 * found["interval_steps"]
    assert found["is_full_disk_told"] is (True if "full-disk" in options else None)
    assert 0 < found["planned_s"]["p10"] < found["planned_s"]["p50"] < found["planned_s"]["p90"]
    assert found["measured_s"] > found["work_s"] / 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--kills 0", "--kills"),
        ("--batch-size 1,2", "a drill trains one configuration"),
        ("--snapshot-target nowhere", "there is no such folder"),
        ("--harm flood", "--harm"),
        ("--snapshot-mode later", "--snapshot-mode"),
    ],
)
def test_what_cannot_be_drilled_is_told(options: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["drill", *SMALL.split(), *options.split()]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
