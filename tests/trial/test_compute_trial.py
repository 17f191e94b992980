from __future__ import annotations

from typing import Any

import pytest
import torch
from record_factory import training_spec
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vnbench.model.veernet import build_model
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import ComputeSpec, TrialSpec
from vnbench.records.step_columns import TRIAL_COLUMNS
from vnbench.records.task import TrialTask
from vnbench.sweep.runner import run_trial
from vnbench.trial.measuring.flops import FlopModel

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
SIZES = ((96, 256), (64, 160), (50, 100))


def compute_spec(**changes: Any) -> TrialSpec:
    training = training_spec()
    values: dict[str, Any] = {
        "device": "cpu",
        "model": training.model,
        "task": training.task,
        "batch_size": 1,
        "micro_batch_size": changes.get("batch_size", 1),
        "precision": "fp32",
        "norm_precision": "fp32",
        "checkpointing": "none",
        "seed": 0,
        "canvas_sizes": SIZES,
        "num_warm_up_steps": 2,
        "noise_target": 1e-9,
        "min_steps": 3,
        "max_steps": 5,
        "max_measuring_s": 60.0,
    }
    return ComputeSpec(**(values | changes))


def run(spec: TrialSpec) -> TrialRecord:
    task = TrialTask(spec=spec, replicate=0, attempt=0, corpus_directory=None)
    record = run_trial(task, environment={"device_uuid": None}, timeout_s=600)
    assert record.status == "ok", record.cause
    return record


@pytest.mark.parametrize("device", DEVICES)
def test_each_canvas_is_warmed_up_and_measured_in_the_order_given(device: str) -> None:
    record = run(compute_spec(device=device, batch_size=2))
    assert [(canvas.height, canvas.width) for canvas in record.canvases] == [(96, 256), (64, 160), (64, 128)]
    assert record.steps is not None
    assert set(record.steps) == set(TRIAL_COLUMNS)
    assert record.steps["canvas_height"] == (96,) * 7 + (64,) * 14
    assert record.steps["is_warm_up"] == ((True,) * 2 + (False,) * 5) * 3
    assert record.steps["padded_pixels"][-1] == 2 * 64 * 128
    assert record.steps["valid_pixels"][-1] == 2 * 50 * 100
    assert [canvas.stop.rule for canvas in record.canvases] == ["max-steps"] * 3
    assert [canvas.stop.num_steps for canvas in record.canvases] == [5] * 3
    assert record.block is not None
    assert record.block.num_steps == 15
    assert record.measured_span_s is not None
    start, end = record.measured_span_s
    assert end - start >= 0.9 * record.block.wall_time_s
    for canvas in record.canvases:
        assert canvas.first_seen_s > 0
        assert canvas.host_growth_bytes is not None
        assert canvas.peak_allocated_bytes is not None
        assert (canvas.peak_reserved_bytes is not None) == (device == "cuda")
    peaks = [canvas.peak_allocated_bytes for canvas in record.canvases]
    assert peaks == sorted(peaks, reverse=True)
    assert record.memory is not None
    assert record.memory.peak_allocated_bytes == peaks[0]


def test_a_canvas_that_is_known_well_enough_stops_and_says_so() -> None:
    record = run(compute_spec(noise_target=0.99, canvas_sizes=((64, 160),), max_steps=200))
    (canvas,) = record.canvases
    assert canvas.stop.rule == "noise-target"
    assert 3 <= canvas.stop.num_steps < 200
    assert canvas.stop.relative_half_width is not None
    assert canvas.stop.relative_half_width <= 0.99


def test_time_ends_a_canvas_at_the_next_block() -> None:
    (canvas,) = run(compute_spec(max_measuring_s=1e-6, canvas_sizes=((64, 160),))).canvases
    assert canvas.stop.rule == "max-measuring-time"
    assert canvas.stop.num_steps == 3


def test_a_record_of_canvases_survives_a_round_trip() -> None:
    record = run(compute_spec(canvas_sizes=((64, 160),)))
    assert TrialRecord.from_json(record.to_json()) == record
    assert record.spec.canvas_sizes == ((64, 160),)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (96, 256)])
@pytest.mark.parametrize("checkpointing", ["none", "stages"])
def test_operations_are_those_that_torch_counts_on_the_canvas_itself(
    height: int, width: int, checkpointing: str
) -> None:
    spec = compute_spec(checkpointing=checkpointing)
    model = build_model(
        spec.model,
        num_classes=spec.num_classes,
        norm_groups=spec.norm_groups,
        norm_precision="fp32",
        checkpointing="none",
    )
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(torch.zeros(1, 1, height, width)).sum().backward()
    assert FlopModel(spec).per_example(height=height, width=width) == counter.get_total_flops()


def test_the_operations_of_a_step_are_those_of_its_examples() -> None:
    one, two = (run(compute_spec(batch_size=size, canvas_sizes=((64, 160),))).canvases[0] for size in (1, 2))
    assert one.flop_per_step is not None
    assert two.flop_per_step == 2 * one.flop_per_step
