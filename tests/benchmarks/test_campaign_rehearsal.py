"""What the rehearsal of the campaign on a GPU promises, at the ends of what its durations may be."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import campaign
import numpy as np
import pytest
from campaign_rehearsal import Call, rehearse_calls
from campaign_stand_ins import Assumptions, Machine, read_assumptions
from campaign_steps import Outcome, State
from record_factory import memory_spec, training_spec

from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.records.task import TrialTask
from vnbench.sweep.estimate import Workload

pytestmark = pytest.mark.processes

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
DEFINITION = BENCHMARKS / "campaign/campaign_cuda.toml"
STEPS = campaign.read_campaign(DEFINITION)[0]
ASSUMED = read_assumptions(DEFINITION)
SIZES = np.array([[640, 12_800]])
NORM_MS = {"few blocks": 800.0, "as by bandwidth": 50.0}
"""Twice what the forward pass is assumed to take, at either end."""


@pytest.fixture(scope="module", params=NORM_MS.values(), ids=NORM_MS.keys())
def calls(request: pytest.FixtureRequest) -> list[Call]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(BENCHMARKS.parent)
        assumed = dataclasses.replace(ASSUMED, norm_ms=request.param)
        return list(rehearse_calls(STEPS, assumed, minutes=8.0))


def test_the_definition_assumes_the_slower_end() -> None:
    assert max(NORM_MS.values()) == ASSUMED.norm_ms


def test_the_first_call_answers_most(calls: list[Call]) -> None:
    first = calls[0]
    assert first.num_records >= 30
    assert [name for name, _, _ in first.steps][:5] == ["check", "steps", "norm_groups", "levers", "memory"]
    done = {name: outcome.is_done for name, outcome, _ in first.steps}
    assert done["check"]
    assert done["steps"], "batch 1, 4 and 16 in every precision"
    assert done["norm_groups"]
    assert done["levers"]
    assert first.records["memory ok"] >= 9, "three sizes of three configurations"


def test_no_call_takes_longer_than_it_may_and_no_sweep_is_cut_short(calls: list[Call]) -> None:
    for call in calls:
        assert call.seconds <= 480
        assert not [name for name, outcome, _ in call.steps if outcome.is_cut_short]


def test_every_step_is_done_in_the_end(calls: list[Call]) -> None:
    last = {name: outcome for call in calls for name, outcome, _ in call.steps}
    assert set(last) == {step.name for step in STEPS}
    assert [name for name, outcome in last.items() if not outcome.is_done] == []


def test_the_search_goes_on_from_the_memory_of_one_two_and_four(calls: list[Call]) -> None:
    found = [records for call in calls for name, _, records in call.steps if name == "memory_search"]
    # Six configurations: what is forecast and the next, each in two processes.
    assert sum((records.total() for records in found), 0) <= 6 * 5


def test_the_rehearsal_says_that_it_assumes_and_what_a_real_step_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(BENCHMARKS.parent)
    state = State(tmp_path / campaign.STATE_FILE)
    for seconds in (61.0, 7.0):
        state.note("check", Outcome(exit_code=0, seconds=seconds, is_cut_short=False))
    assert campaign.main([str(DEFINITION), "--rehearse", "--results", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Durations are ASSUMED, not measured")
    assert any(line.strip().startswith("norm_ms 800") for line in lines)
    assert any(line.startswith("call 1: ") and line.endswith(" records") for line in lines)
    (check,) = (line for line in lines if line.startswith("  check "))
    assert check.endswith("4 compute ok; took 61, 7 s")
    assert [path.name for path in tmp_path.iterdir()] == [campaign.STATE_FILE], "nothing is run, nothing written"


def test_a_definition_without_assumptions_cannot_be_rehearsed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    definition = tmp_path / "c.toml"
    for table, told in (("", "the table [assumed]"), ("[assumed]\ncores = 1\n", "source")):
        definition.write_text(f"{table}[[step]]\nname = 'a'\ncommand = 'true'\nminutes = 1\n")
        with pytest.raises(SystemExit) as stopped:
            campaign.main([str(definition), "--rehearse"])
        assert stopped.value.code == 2
        assert told in capsys.readouterr().err


def took_s(spec: TrialSpec, assumed: Assumptions = ASSUMED) -> float:
    workload = Workload(train_sizes_N2=SIZES, worst_case=(640, 12_800))
    task = TrialTask(spec=spec, replicate=0, attempt=0, corpus_directory=None)
    return Machine(assumed, workload).record(task).elapsed_s


def test_the_statistics_of_norms_grow_with_the_canvas_and_not_with_the_batch() -> None:
    one = memory_spec(training_spec(device="cuda", model="veernet", batch_size=1, precision="bf16"))
    four = memory_spec(training_spec(device="cuda", model="veernet", batch_size=4, precision="bf16"))
    # Two steps, each of 23 ms an image and 800 ms.
    assert took_s(one) == pytest.approx(ASSUMED.trial_s + 2 * 0.823)
    assert took_s(four) == pytest.approx(ASSUMED.trial_s + 2 * 0.892)
    sixteen_groups = dataclasses.replace(one, norm_groups="16")
    assert took_s(sixteen_groups) == pytest.approx(ASSUMED.trial_s + 2 * 0.123)


def test_what_is_larger_than_the_card_runs_out_of_memory() -> None:
    spec = memory_spec(training_spec(device="cuda", model="veernet", batch_size=16, precision="fp32"))
    workload = Workload(train_sizes_N2=SIZES, worst_case=(640, 12_800))
    task = TrialTask(spec=spec, replicate=0, attempt=0, corpus_directory=None)
    assert Machine(ASSUMED, workload).record(task).status == "oom"
