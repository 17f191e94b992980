"""The trace of a micro-batch from those of two others."""

from __future__ import annotations

from dataclasses import replace

import pytest
from traces_by_hand import convolution, operator, trace

from vnbench.forecast.scaling import UnequalTracesError, at_micro_batch
from vnbench.records.step_trace import StepTrace

TOLD = "s1 p1 (0 a0 )0 (1 a1 )1 f0 f1"


def of_examples(size: int) -> StepTrace:
    """Return a step of two operators on so many examples."""
    return trace(
        [
            operator(bytes_read=10 * size, bytes_written=7 + size, num_blocks=2 * size),
            operator("aten.convolution.default", flops=5 * size, convolution=convolution(input_bytes=100 * size)),
        ],
        TOLD,
        [1000 * size + 24, 512],
        batch_bytes=3 * size,
    )


@pytest.mark.parametrize("size", [2, 3, 5, 16, 1000])
def test_a_step_follows_from_those_of_two_and_three_examples(size: int) -> None:
    assert at_micro_batch(size, first=(2, of_examples(2)), second=(3, of_examples(3))) == of_examples(size)


def test_operators_that_become_equal_are_one() -> None:
    same = operator(bytes_read=8)
    first = trace([same], "(0 )0 (0 )0", [], sequence=(0, 0))
    assert at_micro_batch(9, first=(2, first), second=(3, first)) == first


def test_other_operators_or_another_order_are_refused() -> None:
    first, second = of_examples(2), of_examples(3)
    reordered = replace(second, events=replace(second.events, kinds=second.events.kinds.replace("f", "a", 1)))
    renamed = replace(second, operators=(replace(second.operators[0], name="aten.mul.Tensor"), second.operators[1]))
    for other in (reordered, renamed):
        with pytest.raises(UnequalTracesError):
            at_micro_batch(4, first=(2, first), second=(3, other))


def test_what_is_not_in_proportion_is_refused() -> None:
    first, second = of_examples(2), of_examples(4)
    odd = replace(second, batch_bytes=second.batch_bytes + 1)
    with pytest.raises(UnequalTracesError, match="proportion"):
        at_micro_batch(5, first=(2, first), second=(4, odd))
