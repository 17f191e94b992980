from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import record_factory as factory

from vnbench.analysis.comparison.residuals import Residual, residuals
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import MemorySpec

PIXELS = 640 * 12_800
"""Of the worst case: one example is forecast to reserve 600 to 720 bytes for each of them."""


def forecast(**changes: Any) -> TrialRecord:
    return factory.forecast_record(factory.forecast_spec(norm_precision="fp32", **changes))


def memory(*, bytes_per_pixel: float = 660, environment: dict[str, Any] | None = None, **changes: Any) -> TrialRecord:
    """Return a worst-case trial of the forecast's configuration."""
    training = factory.training_spec(device="cuda", model="veernet", precision="bf16", batch_size=1)
    spec = dataclasses.replace(factory.memory_spec(training), **changes)
    reading = factory.reading_of(spec, peak_bytes=int(bytes_per_pixel * PIXELS), outside_allocator_bytes=factory.GIB)
    return factory.record_of(
        spec, memory=reading, environment={**factory.CUDA_ENVIRONMENT, **(environment or {})}, replicate=0
    )


def compute(*, replicate: int = 0) -> TrialRecord:
    spec = factory.compute_spec(device="cuda", model="veernet", precision="bf16")
    return factory.measured_compute_record(spec, replicate=replicate)


def by_quantity(*measured: TrialRecord) -> dict[str, Residual]:
    found = residuals([forecast()], measured)
    return {f"{one.quantity} at {one.canvas[1]}": one for one in found}


def test_memory_of_the_worst_case_stands_beside_its_bracket() -> None:
    found = by_quantity(memory())
    reserved = found["reserved_bytes at 12800"]
    assert (reserved.low, reserved.high) == (600 * PIXELS, 720 * PIXELS)
    assert reserved.central == 660 * PIXELS
    assert reserved.measured == 660 * PIXELS
    assert (reserved.ratio, reserved.is_inside, reserved.num_trials) == (1.0, True, 1)
    # The context was forecast to take 0.5 GiB, and took 1 GiB.
    device = found["device_bytes at 12800"]
    assert device.measured == 660 * PIXELS + factory.GIB
    assert not device.is_inside
    assert found.keys() == {f"{name}_bytes at 12800" for name in ("allocated", "reserved", "device")}


@pytest.mark.parametrize(("bytes_per_pixel", "ratio"), [(590, 590 / 660), (726, 1.1)])
def test_a_measured_figure_beyond_either_end_is_outside(bytes_per_pixel: float, ratio: float) -> None:
    reserved = by_quantity(memory(bytes_per_pixel=bytes_per_pixel))["reserved_bytes at 12800"]
    assert not reserved.is_inside
    assert reserved.ratio == pytest.approx(ratio)


def test_times_are_the_mean_over_trials_on_the_same_canvas() -> None:
    one, two = compute(), compute(replicate=1)
    first, second = (by_quantity(record)["step_time_s at 12800"] for record in (one, two))
    both = by_quantity(one, two)["step_time_s at 12800"]
    assert both.num_trials == 2
    assert both.measured == pytest.approx((first.measured + second.measured) / 2)
    assert both.central == pytest.approx(5e-9 * PIXELS)
    assert "step_time_s at 3200" in by_quantity(one)


@pytest.mark.parametrize(
    "other",
    [
        memory(precision="fp32"),
        memory(checkpointing="stages"),
        memory(allocator="expandable-segments"),
        memory(batch_size=2, micro_batch_size=2),
        memory(batch_size=2),
        memory(worst_case_width=6_400),
        memory(memory_limit_bytes=80 * factory.GIB),
        memory(sampler="random", soak="sampler-order", soak_passes=((1, 640, 3_200),)),
        memory(environment={"allocator_settings": "max_split_size_mb:64"}),
        dataclasses.replace(memory(), status="oom"),
    ],
    ids=lambda record: str(record.spec.spec_id) if isinstance(record.spec, MemorySpec) else "",
)
def test_what_ran_otherwise_is_not_compared(other: TrialRecord) -> None:
    assert residuals([forecast()], [other]) == ()


def test_a_residual_is_told_as_json_with_its_bracket() -> None:
    told = by_quantity(memory())["reserved_bytes at 12800"].to_json()
    assert told == {
        "quantity": "reserved_bytes",
        "height": 640,
        "width": 12_800,
        "low": 600 * PIXELS,
        "central": 660 * PIXELS,
        "high": 720 * PIXELS,
        "measured": 660 * PIXELS,
        "num_trials": 1,
        "ratio": 1.0,
        "is_inside": True,
    }
