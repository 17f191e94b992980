"""Planted slowdowns are where they are said to be, and each rule says of given times what it should."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import gate_truths as truths
import numpy as np
import planted_copies
import pytest

STEADY_N = 1 + 0.001 * np.arange(10)

PASSES_THROUGH = """
import json, torch
from vnbench import planted
from vnbench.loading.examples import MicroBatchDataset
from vnbench.loading.loader import process_loader
from vnbench.model.attention import BottleneckAttention
from vnbench.model.normalization import NormConfig
from vnbench.trial.step.optimizer_step import OptimizerStep

waits = []
planted.wait = waits.append

def counted(use):
    waits.clear()
    planted.passed = None
    use()
    return len(waits)

def hand_out():
    common = dict(pin_memory=False, prefetch_factor=2, timeout_s=1.0, seed=0)
    assert len(list(process_loader([torch.zeros(1)] * 3, [0, 1, 2], num_workers=0, **common))) == 3

attention = BottleneckAttention(32, norm=NormConfig(groups="1", precision="fp32", kernel="native"))
found = {
    "sampler": counted(hand_out),
    "layer": counted(lambda: [attention(torch.zeros(1, 32, 2, 2)) for _ in range(3)]),
    "loader": hasattr(MicroBatchDataset.__getitem__, "__wrapped__"),
    "step": hasattr(OptimizerStep.run, "__wrapped__"),
}
print(json.dumps(found))
"""


@pytest.mark.torch
@pytest.mark.processes
def test_each_place_is_slowed_down_in_a_copy_and_nowhere_else(tmp_path: Path) -> None:
    copy = planted_copies.copied(tmp_path / "copy")
    for place in planted_copies.PLACES:
        planted_copies.plant(copy, place, share=0.03)
    told = subprocess.check_output(
        [sys.executable, "-P", "-c", PASSES_THROUGH], cwd=copy, env=os.environ | {"PYTHONPATH": str(copy)}
    )
    assert json.loads(told) == {"sampler": 2, "layer": 2, "loader": True, "step": True}
    for where in planted_copies.PLACES.values():
        assert where.before in (planted_copies.ROOT / "vnbench" / where.module).read_text()


def test_a_text_that_is_not_there_once_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "vnbench").mkdir()
    (tmp_path / "vnbench" / "some.py").write_text("one two two")
    for text in ("two", "three"):
        with pytest.raises(AssertionError, match="is not there once"):
            planted_copies.change(tmp_path, "some.py", before=text, after="")
    planted_copies.change(tmp_path, "some.py", before="one", after="1")
    assert (tmp_path / "vnbench" / "some.py").read_text() == "1 two two"


def test_a_wait_is_as_long_as_its_share() -> None:
    now_s = 0.0

    def clock() -> float:
        nonlocal now_s
        now_s += 0.001
        return now_s

    def work() -> str:
        nonlocal now_s
        now_s += 10.0
        return "done"

    waits: dict[str, Any] = {}
    exec(planted_copies.WAITS.format(share=0.1), waits)
    waits["clock"] = clock
    assert waits["slower"](work)() == "done"
    assert now_s == pytest.approx(11.0, abs=0.01)
    for expected_s in (11.0, 22.0, 33.0):
        waits["slow_down"]()
        assert now_s == pytest.approx(expected_s, abs=0.05)
        work()
    # A pause between two calls is not a time that is slowed down.
    now_s += 1000.0
    waits["slow_down"]()
    assert now_s == pytest.approx(1044.0, abs=0.1)
    assert list(waits["Handed"](["a", "b"])) == ["a", "b"]


def test_each_truth_is_measured_once_a_pass_and_a_part_of_them_is_balanced() -> None:
    once, twice = list(truths.truths(1)), list(truths.truths(2))
    assert twice[: len(once)] == once
    assert len(set(twice)) == len(twice)
    counts = Counter((one.place, one.share) for one in twice)
    for place in planted_copies.PLACES:
        assert counts[place, truths.WHOLE] == 1
        assert all(counts[place, share] == 2 for share in truths.SHARES)
    assert counts[truths.UNCHANGED, 0.0] == 10
    planted = [one for one in twice if not one.is_whole]
    for start in range(0, len(planted), 5):
        stretch = planted[start : start + 5]
        assert {one.place for one in stretch} == {truths.UNCHANGED, *planted_copies.PLACES}
        assert len({one.share for one in stretch}) == 5


def test_what_was_measured_is_not_measured_again(tmp_path: Path) -> None:
    out = tmp_path / "truths.ndjson"
    first, second, *rest = truths.due(out, passes=1)
    out.write_text(json.dumps({"place": second.place, "share": second.share, "number": second.number}) + "\n")
    assert list(truths.due(out, passes=1)) == [first, *rest]


@pytest.mark.parametrize(
    ("factor", "alarms"),
    [
        (1.0, set()),
        (1.01, {"rank test"}),
        (1.03, {"gate", "rank test"}),
        (1.06, {"gate", "mean 5%", "min 5%", "median 5%", "rank test"}),
        (1.2, set(truths.RULES)),
    ],
)
def test_each_rule_calls_a_slowdown_of_one_of_two_rows_by_its_size(factor: float, alarms: set[str]) -> None:
    baseline_RN = np.array([STEADY_N, STEADY_N])
    # The blocks of the second row are the same in another order.
    candidate_RN = np.array([factor * STEADY_N, np.roll(STEADY_N, 1)])
    assert {name for name, rule in truths.RULES.items() if rule(baseline_RN, candidate_RN)} == alarms


def test_one_block_that_something_else_slowed_is_an_alarm_for_means_alone() -> None:
    baseline_RN = np.array([STEADY_N, STEADY_N])
    candidate_RN = baseline_RN.copy()
    candidate_RN[0, 4] *= 3
    alarms = {name for name, rule in truths.RULES.items() if rule(baseline_RN, candidate_RN)}
    assert alarms == {"mean 5%", "mean 10%"}


def test_asv_asks_for_ranks_as_well_as_for_a_size() -> None:
    baseline_RN = np.array([np.linspace(1.0, 2.0, 10)])
    assert not truths.RULES["asv"](baseline_RN, 1.15 * baseline_RN)
    assert truths.RULES["median 5%"](baseline_RN, 1.15 * baseline_RN)


def test_the_gate_ends_as_soon_as_it_is_decided() -> None:
    baseline_RN = np.array([STEADY_N, STEADY_N])
    outcome, num_blocks = truths.gate(baseline_RN, baseline_RN)
    assert (outcome, num_blocks < 10) == ("pass", True)
    noisy_RN = baseline_RN * np.exp(0.2 * np.cos(np.arange(10)))
    assert truths.gate(baseline_RN, noisy_RN) == ("undecided", 10)


def test_a_table_counts_alarms_by_what_was_planted() -> None:
    def run(place: str, share: float) -> dict[str, Any]:
        row = {"kind": "compute", "baseline_s": STEADY_N.tolist(), "candidate_s": ((1 + share) * STEADY_N).tolist()}
        return {"place": place, "share": share, "number": 0, "rows": [row]}

    runs = [run("unchanged", 0.0), run("step", 0.03), run("step", 0.03), run("layer", 0.03), run("step", truths.WHOLE)]
    _, _, *lines = truths.table(runs)
    assert [line.split(" | ")[:3] for line in lines] == [
        ["| unchanged", "0/1", "0/1"],
        ["| step 3 %", "2/2", "0/2"],
        ["| layer 3 %", "1/1", "0/1"],
        ["| **all places 3 %**", "3/3", "0/3"],
    ]
    header, _, reached = truths.reach_table(runs)
    assert header.endswith("| compute |")
    assert reached.endswith("| 100 % |")


@pytest.mark.processes
def test_the_busy_program_ends_with_its_script() -> None:
    with truths.load("seed") as process:
        assert process.poll() is None
    assert process.returncode == 0
