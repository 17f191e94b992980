from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import record_factory as factory
from rich.console import Console

from vnbench.analysis.comparison.compare import Comparison
from vnbench.analysis.comparison.rows import Tolerances
from vnbench.analysis.comparison.sides import Side, side_of
from vnbench.cli.app import run
from vnbench.commands.gate import rerun as rerun_command
from vnbench.commands.gate.gate import GateOptions
from vnbench.commands.gate.rerun import RerunOptions, rerun
from vnbench.commands.gate.trial import find_checkout, run_ordered_trial
from vnbench.commands.gate.worker import Worker
from vnbench.errors import InputError
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.records.store import ResultsFile, load_results
from vnbench.records.task import TrialTask
from vnbench.sweep.in_turn import planned_turns

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[2]
SPECS = tuple(factory.compute_spec(precision=precision) for precision in ("fp32", "bf16"))


class FakeCheckout:
    """Measures compute specs in no time, each process with a noise of its own."""

    def __init__(self, *, factors: Mapping[TrialSpec, float], seed: int, spread: float = 0.01) -> None:
        self.factors = factors
        self.spread = spread
        self.random = np.random.default_rng(seed)
        self.tasks: list[TrialTask] = []

    def environment(self, device: str) -> Mapping[str, Any]:
        return factory.CPU_ENVIRONMENT

    def run(self, task: TrialTask, *, timeout_s: float) -> TrialRecord:
        self.tasks.append(task)
        factor = self.factors.get(task.spec, 1.0) * float(np.exp(self.random.normal(0, self.spread)))
        return timed(task.spec, factor, replicate=task.replicate)


def timed(spec: TrialSpec, seconds: float, *, replicate: int = 0) -> TrialRecord:
    return factory.record_of(spec, steps=factory.steps_of([seconds, seconds]), replicate=replicate)


def blunt_sides() -> tuple[Side, Side]:
    """Return sides of one process each: every row is ambiguous, and the second configuration differs by nothing."""
    return (
        side_of([timed(spec, 1.0 + 0.01 * i) for i, spec in enumerate(SPECS)]),
        side_of([timed(spec, 1.01 + 0.005 * i) for i, spec in enumerate(SPECS)]),
    )


def measured(
    tmp_path: Path, *, factors: Mapping[TrialSpec, float], time_cap_s: float = 3600.0, spread: float = 0.01
) -> tuple[Comparison, FakeCheckout, FakeCheckout]:
    checkouts = FakeCheckout(factors={}, seed=0, spread=spread), FakeCheckout(factors=factors, seed=1, spread=spread)
    how = RerunOptions(
        workers=cast(tuple[Worker, Worker], checkouts),
        out=tmp_path,
        time_cap_s=time_cap_s,
        trial_timeout_s=600.0,
        corpus=None,
    )
    options = GateOptions(tolerances=Tolerances())
    comparison, _ = rerun(blunt_sides(), options=options, how=how, console=Console(file=io.StringIO()))
    return comparison, *checkouts


def test_what_is_ambiguous_is_measured_until_it_is_not(tmp_path: Path) -> None:
    comparison, baseline, candidate = measured(tmp_path, factors={}, spread=0.04)
    assert comparison.outcome == "pass"
    assert len(baseline.tasks) == len(candidate.tasks) > 2 * rerun_command.FIRST_PROCESSES


def test_a_slowdown_that_noise_had_hidden_is_found(tmp_path: Path) -> None:
    comparison, _, _ = measured(tmp_path, factors={SPECS[1]: 1.1})
    assert comparison.outcome == "regression"
    worse = {row.spec_id for row in comparison.rows if row.verdict == "worse"}
    assert SPECS[1].spec_id in worse
    assert SPECS[0].spec_id not in worse


def test_new_records_are_kept_and_their_replicates_go_on(tmp_path: Path) -> None:
    _, baseline, _ = measured(tmp_path, factors={SPECS[1]: 1.5})
    first = load_results(tmp_path / "baseline.jsonl").records
    assert len(first) == len(baseline.tasks)
    measured(tmp_path, factors={SPECS[1]: 1.5})
    both = load_results(tmp_path / "baseline.jsonl").records
    assert len(both) > len(first)
    assert len({record.trial_id for record in both}) == len(both)


def test_no_pair_is_begun_after_the_time_cap(tmp_path: Path) -> None:
    comparison, baseline, candidate = measured(tmp_path, factors={}, time_cap_s=1e-9)
    assert comparison.outcome == "undecided"
    assert baseline.tasks == candidate.tasks == []


def test_a_checkout_with_another_torch_is_named(tmp_path: Path) -> None:
    sides = blunt_sides()
    keys = dict(sides[1].keys) | {"torch": ("2.12.0",)}
    merged = rerun_command._with_new(dataclasses.replace(sides[1], keys=keys), [timed(SPECS[0], 1.0)])
    assert merged.keys["torch"] == ("2.12.0", "2.13.0+cpu")


def test_what_only_the_new_records_tell_of_their_machine_is_compared(tmp_path: Path) -> None:
    new = dataclasses.replace(timed(SPECS[0], 1.0), environment=factory.CPU_ENVIRONMENT | {"num_threads": 2})
    assert rerun_command._with_new(blunt_sides()[0], [new]).keys["num_threads"] == ("2",)


def test_records_of_a_rerun_on_another_machine_stay_and_both_files_are_named(tmp_path: Path) -> None:
    environment = factory.CPU_ENVIRONMENT | {"device_name": "another"}
    for name in rerun_command.SIDES:
        with ResultsFile(tmp_path / f"{name}.jsonl", environment=environment) as results:
            results.append(dataclasses.replace(timed(SPECS[0], 1.0), environment=environment))
    measured(tmp_path, factors={SPECS[1]: 1.5})
    for name in rerun_command.SIDES:
        assert len(load_results(tmp_path / f"{name}.jsonl").records) == 1
        assert load_results(tmp_path / f"{name}.2.jsonl").records


def test_each_side_measures_its_own_text_of_an_edited_network(tmp_path: Path) -> None:
    texts = [factory.compute_spec(model="nets/mine.py:build", model_id=text * 12) for text in "ab"]
    sides = (side_of([timed(texts[0], 1.0)]), side_of([timed(texts[1], 1.01)]))
    checkouts = FakeCheckout(factors={}, seed=0), FakeCheckout(factors={texts[1]: 1.3}, seed=1)
    # Of an earlier text, measured again before it was edited: it stands for nothing now.
    with ResultsFile(tmp_path / "candidate.jsonl", environment=factory.CPU_ENVIRONMENT) as results:
        results.append(timed(factory.compute_spec(model="nets/mine.py:build", model_id="c" * 12), 1.0))
    how = RerunOptions(
        workers=cast(tuple[Worker, Worker], checkouts),
        out=tmp_path,
        time_cap_s=3600.0,
        trial_timeout_s=600.0,
        corpus=None,
    )
    options = GateOptions(tolerances=Tolerances())
    comparison, _ = rerun(sides, options=options, how=how, console=Console(file=io.StringIO()))
    assert [{task.spec for task in checkout.tasks} for checkout in checkouts] == [{texts[0]}, {texts[1]}]
    assert comparison.outcome == "regression"
    assert not comparison.notes


def test_each_look_has_less_of_the_error_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    original = rerun_command.compare_with

    def spying(*arguments: Any, family_error: float) -> Comparison:
        rates.append(family_error)
        return original(*arguments, family_error=family_error)

    monkeypatch.setattr(rerun_command, "compare_with", spying)
    measured(tmp_path, factors={}, spread=0.02)
    assert len(rates) > 2
    assert rates == [rerun_command.FAMILY_ERROR / 2**look for look in range(1, len(rates) + 1)]
    assert sum(rates) < rerun_command.FAMILY_ERROR


def test_both_sides_take_turns_and_neither_is_always_first() -> None:
    turns = planned_turns(SPECS, num_processes=20, seed=0)
    pairs = [turns[i : i + 2] for i in range(0, len(turns), 2)]
    assert all(one[1] == other[1] and {one[0], other[0]} == {0, 1} for one, other in pairs)
    assert {pair[0][0] for pair in pairs} == {0, 1}
    for spec in SPECS:
        assert sum(turn == (0, spec) for turn in turns) == 20
    assert turns == planned_turns(SPECS, num_processes=20, seed=0)


def small_spec() -> TrialSpec:
    return factory.compute_spec(
        canvas_sizes=((32, 64),), min_steps=2, max_steps=4, max_measuring_s=0.2, num_warm_up_steps=1
    )


def test_an_ordered_trial_answers_with_its_record() -> None:
    task = TrialTask(spec=small_spec(), replicate=3, attempt=0, corpus_directory=None)
    record = TrialRecord.from_json(run_ordered_trial(json.dumps({"task": json.loads(task.to_json()), "timeout_s": 60})))
    assert (record.spec, record.replicate, record.status) == (small_spec(), 3, "ok")


@pytest.mark.parametrize("order", ["", "{}", "[]", '{"task": {}, "timeout_s": 1}', '{"task": 1, "timeout_s": "x"}'])
def test_an_order_that_is_none_is_refused(order: str) -> None:
    with pytest.raises(InputError, match="no order"):
        run_ordered_trial(order)


def checkout_of(folder: Path, *, change: Callable[[str], str] = str) -> Path:
    """Return a copy of this source tree in a folder, its training step changed."""
    shutil.copytree(ROOT / "vnbench", folder / "vnbench", ignore=shutil.ignore_patterns("__pycache__"))
    step = folder / "vnbench" / "trial" / "step" / "optimizer_step.py"
    step.write_text(change(step.read_text()))
    os.symlink(sys.prefix, folder / ".venv")
    return folder


def test_each_checkout_runs_its_own_code(tmp_path: Path) -> None:
    """A record's revision holds a digest of the source that measured it; times tell nothing on a busy machine."""
    folders = [
        checkout_of(tmp_path / "old"),
        checkout_of(tmp_path / "new", change=lambda source: source + "\n# changed\n"),
    ]
    task = TrialTask(spec=small_spec(), replicate=0, attempt=0, corpus_directory=None)
    records = []
    for folder in folders:
        with Worker(find_checkout(folder, where="x")) as worker:
            records.append(worker.run(task, timeout_s=600.0))
    assert [record.status for record in records] == ["ok", "ok"]
    assert len({record.environment["revision"] for record in records}) == 2


def test_the_command_measures_again_with_the_checkouts_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[RerunOptions] = []

    def measuring(
        sides: tuple[Side, Side], *, options: GateOptions, how: RerunOptions, console: Console
    ) -> tuple[Comparison, tuple[Side, Side]]:
        fakes = FakeCheckout(factors={}, seed=0), FakeCheckout(factors={SPECS[0]: 1.3}, seed=1)
        asked.append(how)
        replaced = dataclasses.replace(how, workers=cast(tuple[Worker, Worker], fakes))
        return rerun(sides, options=options, how=replaced, console=console)

    monkeypatch.setattr(rerun_command, "rerun", measuring)
    folders = [checkout_of(tmp_path / name) for name in ("old", "new")]
    paths = [tmp_path / "old.jsonl", tmp_path / "new.jsonl"]
    for path, seconds in zip(paths, (1.0, 1.01), strict=True):
        path.write_text("".join(f"{timed(spec, seconds).to_json()}\n" for spec in SPECS))
    options = ["--baseline-checkout", str(folders[0]), "--candidate-checkout", str(folders[1]), "--time-cap", "5m"]
    assert run(["gate", *map(str, paths), "--rerun", *options, "--json"]) == 1
    captured = capsys.readouterr()
    worse = {row["spec_id"] for row in json.loads(captured.out)["rows"] if row["verdict"] == "worse"}
    assert SPECS[0].spec_id in worse
    assert "in turn" in captured.err
    (how,) = asked
    assert [worker.home.folder for worker in how.workers] == folders
    assert (how.time_cap_s, how.out) == (300.0, tmp_path / "new.rerun")
    assert load_results(tmp_path / "new.rerun" / "candidate.jsonl").records


def test_a_checkout_that_cannot_be_used_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(timed(SPECS[0], 1.0).to_json() + "\n")
    gate = ["gate", str(path), str(path), "--rerun"]
    assert run(gate) == 2
    assert "--baseline-checkout" in capsys.readouterr().err
    assert run([*gate, "--baseline-checkout", str(tmp_path)]) == 2
    assert "there is no checkout of vnbench" in capsys.readouterr().err
    (tmp_path / "vnbench").mkdir()
    for name in ("__init__.py", "__main__.py"):  # a whole package, or one on PYTHONPATH would be run instead
        (tmp_path / "vnbench" / name).touch()
    assert run([*gate, "--baseline-checkout", str(tmp_path)]) == 2
    assert "no environment of its own" in capsys.readouterr().err


def test_a_sweep_that_met_a_slower_hour_is_measured_again_and_passes(tmp_path: Path) -> None:
    """Three processes a side say that the candidate is a fifth slower; in turn both are alike."""
    sides = tuple(
        side_of([timed(spec, factor * (1 + 0.001 * n), replicate=n) for spec in SPECS for n in range(3)])
        for factor in (1.0, 1.2)
    )
    checkouts = FakeCheckout(factors={}, seed=0), FakeCheckout(factors={}, seed=1)
    how = RerunOptions(
        workers=cast(tuple[Worker, Worker], checkouts),
        out=tmp_path,
        time_cap_s=3600.0,
        trial_timeout_s=600.0,
        corpus=None,
    )
    console = Console(file=io.StringIO())
    comparison, _ = rerun((sides[0], sides[1]), options=GateOptions(tolerances=Tolerances()), how=how, console=console)
    assert comparison.outcome == "pass"
    assert comparison.is_in_turn
    assert {task.spec for task in checkouts[0].tasks} == set(SPECS)
