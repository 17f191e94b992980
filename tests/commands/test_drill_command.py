from __future__ import annotations

import json
from pathlib import Path

import pytest

from vnbench.analysis.planning.drills import DrillReport, Hit, Kill, Measured
from vnbench.cli.app import run
from vnbench.output.tables.drill import drill_lines

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


def test_it_ends_with_the_options_of_a_plan(capsys: pytest.CaptureFixture[str]) -> None:
    hit = Hit(
        kill=Kill(place="step", step=3, share=0.5), last_word="loading", done=3, redone=1, is_lost=False, was_torn=True
    )
    measured = Measured(
        start_up_s=2,
        step_times_s=(0.1,) * 50,
        spread=0,
        held_up_s=0.00004,
        snapshot_s=0.00004,
        read_s=0.03,
        num_bytes=4096,
        restart_s=2.5,
    )
    report = DrillReport(
        measured=measured,
        hits=(hit,),
        interval=10,
        planned_s={"p10": 9.0, "p50": 10.0, "p90": 11.0},
        measured_s=9.5,
        is_bitwise_equal=True,
        is_full_told=False,
    )
    *lines, last = drill_lines(report)
    assert run(["plan", *last.partition("vnbench plan ")[2].split(), "--interruptions", "3", "--json"]) == 0
    assert "After 1 kill the run ended as one that was never killed, to the bit; 0 snapshots lost" in lines[0]
    assert "It took 9.5 s, planned 10 s (9 s to 11 s, four times in five); off by 5.3 %." in lines[1]
    assert any("NOT survived" in line for line in lines)
    assert any("1 file torn" in line for line in lines)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--kills 0", "--kills"),
        ("--batch-size 1,2", "one configuration is trained"),
        ("--snapshot-target nowhere", "there is no such folder"),
        ("--harm flood", "--harm"),
        ("--snapshot-mode later", "--snapshot-mode"),
    ],
)
def test_what_cannot_be_drilled_is_told(options: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["drill", *SMALL.split(), *options.split()]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
