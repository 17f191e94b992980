from __future__ import annotations

from dataclasses import replace

from record_factory import compute_spec

from vnbench.harness.runner import run_trial
from vnbench.harness.task import TrialTask
from vnbench.record import TrialRecord
from vnbench.spec import TrialSpec

CANVASES = ((32, 64), (64, 96))


def probe_spec(**changes: object) -> TrialSpec:
    values = {
        "kind": "probe",
        "canvas_sizes": CANVASES,
        "precisions": ("bf16", "fp32"),
        "max_measuring_s": 600.0,
        "sweep_id": "0" * 12,
        "num_warm_up_steps": None,
        "noise_target": None,
        "min_steps": None,
        "max_steps": None,
    }
    return replace(compute_spec(), **(values | changes))  # type: ignore[arg-type]


def run(spec: TrialSpec) -> TrialRecord:
    task = TrialTask(spec=spec, replicate=0, attempt=0, corpus_directory=None)
    return run_trial(task, environment={"device_uuid": None}, timeout_s=300)


def test_a_probe_times_each_precision_and_the_fastest_on_every_canvas() -> None:
    record = run(probe_spec())
    assert record.status == "ok", record.cause
    assert record.probe is not None
    assert set(record.probe.convolution_s) == {"bf16", "fp32"}
    assert all(seconds > 0 for seconds in record.probe.convolution_s.values())
    fastest = min(record.probe.convolution_s, key=lambda one: record.probe.convolution_s[one])  # type: ignore[union-attr]
    sizes = [(step.precision == fastest, step.padded_pixels, step.is_first) for step in record.probe.steps]
    small, large = (height * width for height, width in CANVASES)
    of_fastest = [(True, small, True), (True, small, False), (True, large, True), (True, large, False)]
    assert sizes == [*of_fastest, (False, small, True), (False, small, False)]


def test_a_probe_whose_time_is_up_ends_after_two_canvases() -> None:
    record = run(probe_spec(max_measuring_s=1e-6, canvas_sizes=(*CANVASES, (96, 128)), precisions=("fp32",)))
    assert record.status == "ok", record.cause
    assert record.probe is not None
    small, large = (height * width for height, width in CANVASES)
    assert {step.padded_pixels for step in record.probe.steps} == {small, large}


def test_a_probe_record_is_read_as_it_was_written() -> None:
    record = run(probe_spec())
    assert TrialRecord.from_json(record.to_json()) == record
