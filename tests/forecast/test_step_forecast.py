"""What a traced step takes on a card."""

from __future__ import annotations

from dataclasses import replace

import pytest
from traces_by_hand import convolution, operator, trace

from vnbench.forecast.cards import Card
from vnbench.forecast.settings import NAMED, AllocatorSettings
from vnbench.forecast.step import TracedCanvas, forecast_on_card, operators_of_step, replayed
from vnbench.forecast.workspaces import OLDER_CUBLAS_BYTES
from vnbench.records.readings import ByteRange, CardForecast
from vnbench.records.step_trace import StepTrace

MIB = 2**20

CARD = Card(
    name="a card",
    total_bytes=1000 * MIB,
    bandwidth=1e12,
    rates={"fp32": 1e13, "bf16": 2e14},
    multiprocessors=50,
    compute_capability=(8, 0),
    context_bytes=(100 * MIB, 200 * MIB),
)


def step_of(*sizes_mib: int, workspace_mib: int = 0) -> StepTrace:
    """Return a step that allocates blocks of so many MiB one after the other, within a convolution each."""
    one = operator(
        "aten.convolution.default",
        dtype="bfloat16",
        convolution=convolution(input_bytes=workspace_mib * MIB, output_bytes=0),
    )
    told = " ".join(f"({number} a{number} ){number}" for number in range(len(sizes_mib)))
    ended = " ".join(f"f{number}" for number in range(len(sizes_mib)))
    return trace(
        [one],
        f"s1 p1 {told} {ended}",
        [size * MIB for size in sizes_mib],
        sequence=(0,) * len(sizes_mib),
        capability=(8, 0),
    )


def forecast(step: StepTrace, card: Card = CARD) -> CardForecast:
    canvases = [TracedCanvas(height=64, width=128, trace=step)]
    return forecast_on_card(canvases, card, precision="bf16", settings=NAMED["native"], accumulation_steps=1)


def test_memory_lies_between_no_workspaces_and_the_largest_ones() -> None:
    found = forecast(step_of(100, 200, workspace_mib=64))
    assert found.worst_case.allocated_bytes == ByteRange(294 * MIB, 564 * MIB)
    assert found.worst_case.reserved_bytes == ByteRange(294 * MIB, 564 * MIB)
    assert found.device_bytes == ByteRange(394 * MIB, 764 * MIB)


@pytest.mark.parametrize(
    ("size_mib", "verdict"), [(540, "fits"), (560, "tight"), (890, "tight"), (910, "does not fit")]
)
def test_a_step_fits_by_its_upper_end_and_does_not_fit_by_its_lower_one(size_mib: int, verdict: str) -> None:
    """Of 1,000 MiB the context takes 100 to 200, and 200 are left for what no rule tells; up to 950 MiB fit."""
    assert forecast(step_of(size_mib)).verdict == verdict


@pytest.mark.parametrize(("fraction", "verdict"), [(1.0, "fits"), (0.6, "tight"), (0.3, "does not fit")])
def test_a_step_fits_only_within_what_the_process_may_take(fraction: float, verdict: str) -> None:
    """The step takes 410 MiB, at most 610 with what no rule tells; of 1,000 MiB it may have 600 or 300."""
    settings = AllocatorSettings(per_process_memory_fraction=fraction)
    canvases = [TracedCanvas(height=64, width=128, trace=step_of(410))]
    found = forecast_on_card(canvases, CARD, precision="bf16", settings=settings, accumulation_steps=1)
    assert found.verdict == verdict


def test_a_cache_that_is_given_back_in_time_lets_a_step_fit_tightly() -> None:
    """Blocks of 300 and 500 MiB that are never alive together reserve 800 MiB where there is room, and fit 600."""
    step = trace([], "s1 p1 a0 f0 a1 f1", [300 * MIB, 500 * MIB], capability=(8, 0))
    found = forecast(step, replace(CARD, total_bytes=700 * MIB))
    assert found.worst_case.reserved_bytes.low == 784 * MIB
    assert (found.verdict, found.num_retries) == ("tight", 1)


def test_a_convolution_without_room_for_its_workspace_runs_without() -> None:
    small = replace(CARD, total_bytes=800 * MIB)
    step = step_of(500, workspace_mib=400)
    peaks = replayed(step, small, NAMED["native"], is_tf32=False, is_full=True, is_limited=True)
    assert peaks.fits
    assert peaks.peak_reserved_bytes == 500 * MIB


def test_cublas_takes_a_workspace_in_each_of_two_threads_for_good() -> None:
    gemms = [operator("aten.mm.default", phase=phase, is_gemm=True) for phase in ("forward", "forward", "backward")]
    step = trace(gemms, "s1 p1 (0 )0 (1 )1 (2 )2", [], capability=(8, 0))
    assert (
        replayed(step, CARD, NAMED["native"], is_tf32=False, is_full=False).peak_allocated_bytes
        == 2 * OLDER_CUBLAS_BYTES
    )


def test_a_step_in_the_long_run_is_the_last_one_with_its_second_pass_repeated() -> None:
    batch, forward, update = (
        operator("aten.copy_.default", phase="batch"),
        operator("aten.mm.default"),
        operator("aten._fused_adamw_.default", phase="optimizer"),
    )
    told = "s1 p1 (0 )0 (1 )1 p2 (2 )2 (3 )3 (4 )4 s2 p1 (5 )5 p2 (6 )6 (7 )7 (8 )8"
    step = trace([batch, forward, update], told, [], sequence=(0, 1, 0, 1, 2, 1, 0, 1, 2), num_passes=2)
    assert operators_of_step(step, 2) == {forward: 2, batch: 1, update: 1}
    assert operators_of_step(step, 16) == {forward: 16, batch: 15, update: 1}


def test_names_bytes_and_operations_are_counted_for_the_gate() -> None:
    one = operator("aten.mm.default", bytes_read=10, bytes_written=5, flops=7)
    found = forecast(trace([one], "s1 p1 (0 )0 (1 )1", [], sequence=(0, 0)))
    assert found.operators == {"aten.mm.default": 2}
    worst_case = found.worst_case
    assert (worst_case.num_kernels, worst_case.moved_bytes, worst_case.flop) == (2, 30, 14)
