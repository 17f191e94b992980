from __future__ import annotations

import json

import pytest
import record_factory as factory

from vnbench.records.step_trace import Convolution, Events, Operator, StepTrace, TraceOrder

CONVOLUTION = Convolution(
    input_bytes=64,
    weight_bytes=36,
    output_bytes=64,
    kernel_size=(3, 3),
    stride=(1, 1),
    dilation=(1, 1),
    in_channels=1,
    out_channels=1,
    groups=1,
    is_transposed=False,
    is_channels_last=False,
    gradients=("weight",),
)
OPERATOR = Operator(
    name="aten.convolution_backward.default",
    phase="backward",
    dtype="bfloat16",
    bytes_read=164,
    bytes_written=36,
    flops=576,
    num_blocks=None,
    is_gemm=False,
    convolution=CONVOLUTION,
)
TRACE = StepTrace(
    torch="2.13.0",
    capability=(9, 0),
    notes=(),
    num_parameters=9,
    parameter_bytes=36,
    batch_bytes=64,
    num_passes=1,
    operators=(OPERATOR,),
    sequence=(0, 0),
    events=Events(kinds="asp(a)fsp(a)", numbers=(0, 1, 1, 0, 1, 0, 1, 2, 1, 1, 2, 1), block_bytes=(36, 100, 1000)),
)


def test_a_trace_comes_back_as_it_was_sent() -> None:
    assert StepTrace.from_json(TRACE.to_json()) == TRACE


def test_what_is_no_trace_is_refused_by_its_field() -> None:
    broken = json.loads(TRACE.to_json())
    broken["operators"][0]["phase"] = "sideways"
    with pytest.raises(ValueError, match=r"trace\.operators\[0\]\.phase: invalid enum value 'sideways'"):
        StepTrace.from_json(json.dumps(broken))


def test_an_order_comes_back_as_it_was_sent() -> None:
    training = factory.training_spec(device="cuda", precision="bf16")
    order = TraceOrder(spec=factory.memory_spec(training, height=64, width=96), capability=(8, 9))
    assert TraceOrder.from_json(order.to_json()) == order


@pytest.mark.parametrize(("block", "peaks"), [(1, {0: 36, 1: 136, 2: 1036}), (512, {0: 512, 1: 1024, 2: 1536})])
def test_peaks_are_of_each_step_in_blocks_of_the_allocator(block: int, peaks: dict[int, int]) -> None:
    assert TRACE.peak_bytes(block=block) == peaks
