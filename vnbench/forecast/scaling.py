"""The trace of any micro-batch from the traces of two others.

Every tensor of a step has so many bytes, and so many more for each example. Where two traces run the same operators in
the same order, the one of another micro-batch follows from them, byte by byte.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from vnbench.records.step_trace import Convolution, Operator, StepTrace

COUNTED = ("bytes_read", "bytes_written", "flops", "num_blocks")
"""Numbers of an operator that depend on the examples."""

COUNTED_OF_CONVOLUTIONS = ("input_bytes", "weight_bytes", "output_bytes")
"""The same of a convolution."""


class UnequalTracesError(ValueError):
    """Two traces differ by more than their sizes."""


def at_micro_batch(size: int, *, first: tuple[int, StepTrace], second: tuple[int, StepTrace]) -> StepTrace:
    """Return the trace of a micro-batch of ``size`` examples from two traces, each with its own number of examples.

    Raises:
        UnequalTracesError: they run other operators, or in another order, or what they count is not in proportion.
    """
    (size_1, one), (size_2, other) = first, second
    if size == size_1:
        return one
    if (one.events.kinds, one.events.numbers, len(one.sequence)) != (
        other.events.kinds,
        other.events.numbers,
        len(other.sequence),
    ):
        raise UnequalTracesError("the traces run other operators, or take memory in another order")

    def scaled(value_1: int, value_2: int) -> int:
        grown, rest = divmod((value_2 - value_1) * (size - size_1), size_2 - size_1)
        if rest:
            raise UnequalTracesError(f"{value_1} of {size_1} and {value_2} of {size_2} examples are not in proportion")
        return value_1 + grown

    operators: dict[Operator, int] = {}
    known: dict[tuple[int, int], int] = {}
    sequence = []
    for pair in zip(one.sequence, other.sequence, strict=True):
        if pair not in known:
            operator = _scaled_operator(one.operators[pair[0]], other.operators[pair[1]], scaled)
            known[pair] = operators.setdefault(operator, len(operators))
        sequence.append(known[pair])
    block_bytes = tuple(map(scaled, one.events.block_bytes, other.events.block_bytes))
    return replace(
        one,
        batch_bytes=scaled(one.batch_bytes, other.batch_bytes),
        operators=tuple(operators),
        sequence=tuple(sequence),
        events=replace(one.events, block_bytes=block_bytes),
    )


def _scaled_operator(one: Operator, other: Operator, scaled: Any) -> Operator:
    convolution = None
    if one.convolution is not None and other.convolution is not None:
        convolution = _scaled_fields(one.convolution, other.convolution, COUNTED_OF_CONVOLUTIONS, scaled)
    found: Operator = replace(_scaled_fields(one, other, COUNTED, scaled), convolution=convolution)
    return found


def _scaled_fields(one: Any, other: Any, counted: tuple[str, ...], scaled: Any) -> Any:
    """Return a copy of ``one`` with the numbers of some fields scaled; all others are to be the same in both.

    Raises:
        UnequalTracesError: they are not.
    """
    found = {}
    for field in fields(one):
        value_1, value_2 = getattr(one, field.name), getattr(other, field.name)
        if field.name in counted and value_1 is not None and value_2 is not None:
            found[field.name] = scaled(value_1, value_2)
        elif value_1 != value_2 and not (isinstance(value_1, Convolution) and isinstance(value_2, Convolution)):
            raise UnequalTracesError(f"{field.name} of an operator is {value_1} in one trace, {value_2} in the other")
    return replace(one, **found)
