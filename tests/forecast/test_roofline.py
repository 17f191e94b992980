"""Seconds of a step on a card, from what its operators move and compute."""

from __future__ import annotations

from dataclasses import replace

import pytest
from traces_by_hand import convolution, operator

from vnbench.forecast.cards import Card, parse_card
from vnbench.forecast.roofline import (
    CENTRAL_FACTOR,
    DEPTHWISE,
    EVEN_GROUPS,
    HIGHEST_FACTOR,
    LAUNCH_S,
    OTHER_GROUPS,
    step_times,
)
from vnbench.records.readings import TimeRange
from vnbench.records.spec.words import Precision
from vnbench.records.step_trace import Operator

CARD = Card(
    name="a card",
    total_bytes=2**30,
    bandwidth=1e12,
    rates={"fp32": 1e13, "tf32": 1e14, "bf16": 2e14, "fp16": 4e14},
    multiprocessors=50,
    compute_capability=(8, 0),
    context_bytes=(0, 0),
)


def times_of(
    one: Operator, *, count: int = 1, precision: Precision = "fp32", card: Card = CARD
) -> tuple[TimeRange, TimeRange]:
    found = step_times({one: count}, card, precision=precision)
    assert found is not None
    return found


def test_an_operator_takes_at_least_what_its_bytes_take() -> None:
    moving, reducing = times_of(operator(bytes_read=6 * 10**11, bytes_written=4 * 10**11), count=2)
    assert moving == TimeRange(2.0, pytest.approx(2 * CENTRAL_FACTOR), pytest.approx(2 * HIGHEST_FACTOR))
    assert reducing == TimeRange(0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("dtype", "precision", "seconds"),
    [
        ("float32", "fp32", 10.0),
        ("float32", "tf32", 1.0),
        ("float32", "bf16", 10.0),
        ("bfloat16", "bf16", 0.5),
        ("float16", "fp16", 0.25),
    ],
)
def test_an_operator_takes_at_least_what_its_operations_take(dtype: str, precision: Precision, seconds: float) -> None:
    moving, _ = times_of(operator(dtype=dtype, flops=10**14, bytes_read=1), precision=precision)
    assert moving.low == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("groups", "in_channels", "factors"),
    [
        (64, 64, DEPTHWISE),
        (32, 128, EVEN_GROUPS),
        (64, 256, EVEN_GROUPS),
        (18, 288, OTHER_GROUPS),
        (2, 64, OTHER_GROUPS),
    ],
)
def test_how_far_a_convolution_in_groups_lies_from_its_roofline_depends_on_their_number(
    groups: int, in_channels: int, factors: tuple[float, float]
) -> None:
    one = operator(bytes_read=936 * 10**9, convolution=convolution(groups=groups, in_channels=in_channels))
    moving, _ = times_of(one, card=parse_card("RTX 3090", "--card"))
    assert moving == TimeRange(1.0, *map(pytest.approx, factors))


@pytest.mark.parametrize(
    ("name", "cycles"),
    [("A100 80GB", 1.095), ("V100 16GB", 0.882), ("T4", 0.455), ("H200", 1.882), ("RTX 4090", 2.320)],
)
def test_a_convolution_in_groups_is_as_much_faster_on_a_card_as_that_has_more_cycles(name: str, cycles: float) -> None:
    """Cycles of all multiprocessors in a second, over those of the RTX 3090: 82 at 1.695 GHz."""
    one = operator(bytes_read=10**12, convolution=convolution(groups=64, in_channels=64))
    here, there = parse_card("RTX 3090", "--card"), parse_card(name, "--card")
    assert there.bandwidth is not None
    assert times_of(one, card=here)[0].central / times_of(one, card=there)[0].central == pytest.approx(cycles, rel=1e-3)
    # The roofline itself is that of the bandwidth, and neither other end lies below what it leaves.
    moving, _ = times_of(one, card=there)
    assert moving.low == pytest.approx(1e12 / there.bandwidth)
    assert moving.high == pytest.approx(DEPTHWISE[1] * max(moving.low, 1e12 / 936e9 / cycles), rel=1e-3)
    # Nothing else depends on cycles.
    usual, _ = times_of(operator(bytes_read=10**12, convolution=convolution(groups=1)), card=there)
    assert usual.central == pytest.approx(CENTRAL_FACTOR * 1e12 / there.bandwidth)


def test_a_card_of_unknown_cycles_is_faster_at_groups_as_its_roofline_is() -> None:
    one = operator(bytes_read=10**12, convolution=convolution(groups=64, in_channels=64))
    moving, _ = times_of(one, card=replace(CARD, compute_capability=None))
    assert moving == TimeRange(1.0, *map(pytest.approx, DEPTHWISE))


@pytest.mark.parametrize(
    ("changes", "precision", "copied_bytes"),
    [
        ({}, "bf16", 2 * 3000),
        ({"gradients": ("input", "weight")}, "bf16", 2 * 2 * 3000),
        ({"is_channels_last": True}, "bf16", 0),
        ({"groups": 2}, "bf16", 0),
        ({}, "tf32", 2 * 3000),
        ({}, "fp32", 0),
    ],
)
def test_maps_that_are_not_channels_last_are_copied_for_tensor_cores(
    changes: dict[str, object], precision: Precision, copied_bytes: int
) -> None:
    dtype = "bfloat16" if precision == "bf16" else "float32"
    one = operator(dtype=dtype, bytes_read=10**9, convolution=convolution(**changes))
    moving, _ = times_of(one, count=10**6, precision=precision, card=replace(CARD, compute_capability=None))
    central, highest = OTHER_GROUPS if "groups" in changes else (CENTRAL_FACTOR, HIGHEST_FACTOR)
    usual_s = 10**6 * (10**9 + copied_bytes) / 10**12
    assert moving == TimeRange(
        1000.0, pytest.approx(central * usual_s, rel=1e-9), pytest.approx(highest * usual_s, rel=1e-9)
    )


def test_a_small_operator_takes_its_launch_but_for_the_lower_end() -> None:
    moving, _ = times_of(operator(bytes_read=10), count=1000)
    assert moving.low == pytest.approx(1e-8)
    assert moving.central == pytest.approx(1000 * LAUNCH_S, rel=1e-3)
    assert moving.high == pytest.approx(2000 * LAUNCH_S, rel=1e-3)


def test_a_reduction_of_few_blocks_has_as_many_multiprocessors() -> None:
    """Of 50 with a bandwidth of 20 GB/s each; one reads 10 to 100 GB/s, and 30 in the middle."""
    _, reducing = times_of(operator(bytes_read=6 * 10**11, num_blocks=2))
    assert reducing == TimeRange(pytest.approx(3.0), pytest.approx(10.0), pytest.approx(30.0))


def test_a_reduction_of_many_blocks_has_the_whole_bandwidth_at_best() -> None:
    _, reducing = times_of(operator(bytes_read=10**12, num_blocks=1000))
    assert reducing == TimeRange(pytest.approx(1.0), pytest.approx(1.0), pytest.approx(2.0))


def test_a_card_of_which_only_the_memory_is_known_has_no_times() -> None:
    assert step_times({operator(): 1}, replace(CARD, bandwidth=None), precision="fp32") is None


def test_a_precision_without_units_is_computed_as_fp32() -> None:
    old = replace(CARD, rates={"fp32": 1e13})
    found = step_times({operator(dtype="bfloat16", flops=10**14): 1}, old, precision="bf16")
    assert found is not None
    assert found[0].low == pytest.approx(10.0)
