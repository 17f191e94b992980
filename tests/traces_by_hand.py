"""Traces of steps made by hand."""

from __future__ import annotations

from typing import Any

from vnbench.records.step_trace import Convolution, Events, Operator, StepTrace


def operator(name: str = "aten.add.Tensor", **changes: Any) -> Operator:
    """Return an operator that moves nothing unless it is told to."""
    values: dict[str, Any] = {
        "name": name,
        "phase": "forward",
        "dtype": "float32",
        "bytes_read": 0,
        "bytes_written": 0,
        "flops": 0,
        "num_blocks": None,
        "is_gemm": False,
        "convolution": None,
    }
    return Operator(**(values | changes))


def convolution(**changes: Any) -> Convolution:
    """Return a convolution of 3 x 3 on maps of 16 channels and 1000 bytes."""
    values: dict[str, Any] = {
        "input_bytes": 1000,
        "weight_bytes": 100,
        "output_bytes": 2000,
        "kernel_size": (3, 3),
        "stride": (1, 1),
        "dilation": (1, 1),
        "in_channels": 16,
        "out_channels": 16,
        "groups": 1,
        "is_transposed": False,
        "is_channels_last": False,
        "gradients": (),
    }
    return Convolution(**(values | changes))


def trace(operators: list[Operator], told: str, block_bytes: list[int], **changes: Any) -> StepTrace:
    """Return a trace; ``told`` lists events as ``s1 p1 (0 a0 )0 f0``, each operator once in its place."""
    events = [(word[0], int(word[1:])) for word in told.split()]
    values: dict[str, Any] = {
        "torch": "2.13.0",
        "capability": (9, 0),
        "notes": (),
        "num_parameters": 0,
        "parameter_bytes": 0,
        "batch_bytes": 0,
        "num_passes": 1,
        "operators": tuple(operators),
        "sequence": tuple(range(len(operators))),
        "events": Events(
            kinds="".join(kind for kind, _ in events),
            numbers=tuple(number for _, number in events),
            block_bytes=tuple(block_bytes),
        ),
    }
    return StepTrace(**(values | changes))
