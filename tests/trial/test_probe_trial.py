from __future__ import annotations

import itertools
import json
import math

import pytest
import torch
from record_factory import record_of

from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import ProbeSpec, TrialSpec
from vnbench.records.task import TrialTask
from vnbench.sweep.runner import run_trial
from vnbench.trial.kinds import probe as probe_trial
from vnbench.trial.step.optimizer_step import OptimizerStep

CANVASES = ((32, 64), (64, 96))


def probe_spec(**changes: object) -> ProbeSpec:
    values = {
        "device": "cpu",
        "model": "veernet-tiny",
        "task": "multiclass",
        "batch_size": 1,
        "micro_batch_size": 1,
        "precision": "fp32",
        "norm_precision": "fp32",
        "checkpointing": "none",
        "seed": 0,
        "canvas_sizes": CANVASES,
        "precisions": ("bf16", "fp32"),
        "max_measuring_s": 600.0,
        "sweep_id": "0" * 12,
    }
    return ProbeSpec(**(values | changes))  # type: ignore[arg-type]


def run(spec: TrialSpec) -> TrialRecord:
    task = TrialTask(spec=spec, replicate=0, attempt=0, corpus_directory=None)
    return run_trial(task, environment={"device_uuid": None}, timeout_s=300)


def test_a_probe_times_each_precision_and_the_fastest_on_every_canvas() -> None:
    record = run(probe_spec())
    assert record.status == "ok", record.cause
    assert record.probe is not None
    convolution_s = record.probe.convolution_s
    assert set(convolution_s) == {"bf16", "fp32"}
    assert all(seconds > 0 for seconds in convolution_s.values())
    fastest = min(convolution_s, key=lambda one: convolution_s[one])
    pixels = [step.padded_pixels for step in record.probe.steps if step.precision == fastest]
    assert list(dict.fromkeys(pixels)) == [height * width for height, width in CANVASES]


@pytest.mark.parametrize(("late", "expected_s"), [((0.1,), 0.001), ((0.1, 0.3, 0.2), 0.1)])
def test_a_precision_is_slow_only_if_its_second_and_third_convolution_are_slow_too(
    monkeypatch: pytest.MonkeyPatch, late: tuple[float, ...], expected_s: float
) -> None:
    times = {torch.float32: itertools.repeat(0.002), torch.bfloat16: itertools.chain(late, itertools.repeat(0.001))}
    monkeypatch.setattr(probe_trial, "_timed", lambda convolution, images: next(times[images.dtype]))
    answer = probe_trial.convolution_times(json.dumps({"device": "cpu", "precisions": ["bf16", "fp32"]}))
    assert json.loads(answer) == {"bf16": expected_s, "fp32": 0.002}


@pytest.mark.parametrize("bf16_s", [0.5, 2.0, math.inf])
def test_steps_of_a_slower_precision_go_through_the_smallest_canvas_unless_they_are_far_too_long(
    monkeypatch: pytest.MonkeyPatch, bf16_s: float
) -> None:
    convolution_s = {"fp32": 1.0, "bf16": bf16_s}
    monkeypatch.setattr(probe_trial, "_convolutions_s", lambda *_, **__: convolution_s)
    # However slow the machine is, all its steps are short.
    monkeypatch.setattr(probe_trial, "LONGEST_STEP_S", 1e9)
    monkeypatch.setattr(probe_trial, "LONG_STEP_S", 1e9)
    task = TrialTask(spec=probe_spec(), replicate=0, attempt=0, corpus_directory=None)
    (record,) = probe_trial.measure_probe(task, record_of(task.spec))
    assert record.probe is not None
    fastest, other = sorted(convolution_s, key=lambda one: convolution_s[one])
    small, large = (height * width for height, width in CANVASES)
    expected = [(fastest, pixels, is_first) for pixels in (small, large) for is_first in (True, False)]
    if bf16_s < math.inf:
        expected += [(other, small, is_first) for is_first in (True, False)]
    assert [(step.precision, step.padded_pixels, step.is_first) for step in record.probe.steps] == expected


def test_steps_of_a_probe_are_computed_in_their_own_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_trial, "LONGEST_STEP_S", math.inf)
    seen: list[str] = []
    build = probe_trial.build_step

    def built(spec: TrialSpec, *, device: torch.device) -> OptimizerStep:
        seen.append(torch.backends.cuda.matmul.fp32_precision)
        return build(spec, device=device)

    monkeypatch.setattr(probe_trial, "build_step", built)
    task = TrialTask(spec=probe_spec(precisions=("tf32", "bf16")), replicate=0, attempt=0, corpus_directory=None)
    (record,) = probe_trial.measure_probe(task, record_of(task.spec))
    assert record.probe is not None
    order = dict.fromkeys(step.precision for step in record.probe.steps)
    assert seen == [{"tf32": "tf32", "bf16": "ieee"}[precision] for precision in order]


def test_a_probe_whose_time_is_up_ends_after_two_canvases() -> None:
    record = run(probe_spec(max_measuring_s=1e-6, canvas_sizes=(*CANVASES, (96, 128)), precisions=("fp32",)))
    assert record.status == "ok", record.cause
    assert record.probe is not None
    small, large = (height * width for height, width in CANVASES)
    assert {step.padded_pixels for step in record.probe.steps} == {small, large}


def test_a_probe_record_is_read_as_it_was_written() -> None:
    record = run(probe_spec())
    assert TrialRecord.from_json(record.to_json()) == record
