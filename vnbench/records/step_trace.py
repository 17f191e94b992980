"""Define the trace of training steps on CUDA: operators, and the order in which they allocate and free memory.

Nothing ran on CUDA. The steps were traced on fake tensors, which have shapes and dtypes but no numbers, under CUDA's
rules. The tracing process sends the trace as JSON to a process without torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import msgspec

from vnbench.records.spec.trial_spec import MemorySpec
from vnbench.records.values.strict import Bytes, Count, refusal

TracedPhase = Literal["batch", "forward", "backward", "optimizer"]
"""``batch`` is the copy of a micro-batch to the device, and its conversion there. ``backward`` includes recomputation
by checkpointing. It runs on a thread of autograd, the other phases on the Python thread, and each thread has its own
cuBLAS handle."""

EventKind = Literal["s", "p", "(", ")", "a", "f"]
"""Kinds of events, and the meaning of their numbers:

    s  a step begins; number of the step, from 1. Events before the first step build the model
    p  a pass (forward and backward) of the step begins; number of the pass, from 1
    (  an operator begins; index in StepTrace.sequence
    )  the same operator ends; the same index
    a  a block is allocated; index in Events.block_bytes
    f  a block is freed; index in Events.block_bytes

The results and temporary blocks of an operator are allocated between its two events. Workspaces that a library chooses
for a kernel are not included: a rule must add them.
"""

Capability = tuple[int, int]
"""Compute capability of a card, major and minor: (9, 0) for Hopper."""


MAX_PASSES = 2
"""Passes of a step that are traced: in the first one there are no gradients, and all later ones are alike."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TraceOrder:
    """A request to trace a step."""

    spec: MemorySpec
    """The step: its levers and its micro-batch of worst-case examples, all of one size."""
    capability: Capability
    """Compute capability whose rules apply; it decides the kernel of attention."""

    def to_json(self) -> str:
        """Return the order as JSON."""
        return msgspec.json.encode({"spec": self.spec.flat(), "capability": self.capability}).decode()

    @classmethod
    def from_json(cls, text: str) -> TraceOrder:
        """Return the order that ``to_json`` wrote.

        Raises:
            ValueError: the text is not an order.
        """
        values = msgspec.json.decode(text)
        major, minor = values["capability"]
        return cls(spec=MemorySpec.from_dict(values["spec"]), capability=(major, minor))


@dataclass(frozen=True, kw_only=True, slots=True)
class Convolution:
    """The properties of a convolution that determine its workspace."""

    input_bytes: Bytes
    """Bytes of its input x, in the dtype of the operator."""
    weight_bytes: Bytes
    """Bytes of its weight."""
    output_bytes: Bytes
    """Bytes of its output y, and of the gradient on it."""
    kernel_size: tuple[Count, ...]
    """Kernel size in each spatial dimension."""
    stride: tuple[Count, ...]
    """Stride in each spatial dimension."""
    dilation: tuple[Count, ...]
    """Dilation in each spatial dimension."""
    in_channels: Count
    """Channels of its input."""
    out_channels: Count
    """Channels of its output."""
    groups: Count
    """Groups of channels."""
    is_transposed: bool
    """Whether it is a transposed convolution."""
    is_channels_last: bool
    """Whether the kernel runs on feature maps in channels-last layout."""
    gradients: tuple[Literal["input", "weight"], ...]
    """Gradients that it computes, each in a separate kernel; empty in the forward pass."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Operator:
    """An operator of a trace. Equal operators are one object, even if they run often."""

    name: str
    """Name with the overload, such as ``aten.convolution.default``."""
    phase: TracedPhase
    """Phase in which it runs."""
    dtype: str
    """Widest floating-point dtype of its tensors, such as ``bfloat16``; without one, the dtype of its result."""
    bytes_read: Bytes
    """Bytes of its input tensors, each counted once; 0 for a copy from the host."""
    bytes_written: Bytes
    """Bytes of the tensors that it returns or changes; 0 for a view, which moves nothing."""
    flops: Count
    """Floating-point operations of convolutions, matrix products and attention; 0 for all others."""
    num_blocks: Count | None
    """Number of thread blocks of its reduction, if that number limits its speed; None for all others."""
    is_gemm: bool
    """Whether it is a matrix product, which cuBLAS computes."""
    convolution: Convolution | None
    """Properties of a convolution; None for all other operators."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Events:
    """The memory events in order, as columns with one value per event, and the sizes of the blocks.

    Consecutive frees are sorted by block, so that two processes give the same trace. A tensor of 0 bytes has no block;
    a view shares the block of its base.
    """

    kinds: str
    """One letter per event (EventKind)."""
    numbers: tuple[Count, ...]
    """One number per event (see EventKind)."""
    block_bytes: tuple[Bytes, ...]
    """Requested bytes of each block, in the order of allocation; never 0, and not rounded."""

    def __iter__(self) -> Iterator[tuple[str, int]]:
        """Yield kind and number of each event."""
        return zip(self.kinds, self.numbers, strict=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class StepTrace:
    """The trace of two training steps; in the second step the state of the optimizer exists."""

    torch: str
    """Version of torch, which determines operators and rules."""
    capability: Capability
    """Compute capability whose rules apply."""
    notes: tuple[str, ...]
    """Differences between the trace and a real run, for people."""
    num_parameters: Count
    """Number of parameters."""
    parameter_bytes: Bytes
    """Bytes of parameters and buffers, which are allocated before the first step."""
    batch_bytes: Bytes
    """Bytes of one micro-batch as copied to the device."""
    num_passes: Count
    """Traced passes per step: one, or two with accumulation. From the second pass on the gradients exist, and all later
    passes equal the second."""
    operators: tuple[Operator, ...]
    """Distinct operators, in the order of their first run."""
    sequence: tuple[Count, ...]
    """Indices in ``operators`` of the operators that ran, in order, without views."""
    events: Events
    """Memory events, from an empty device on."""

    def to_json(self) -> str:
        """Return the trace as JSON."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> StepTrace:
        """Return the trace that ``to_json`` wrote.

        Raises:
            ValueError: the text is not a trace.
        """
        try:
            return msgspec.json.decode(text, type=cls)
        except msgspec.MsgspecError as error:
            raise ValueError(refusal(error, where="trace")) from error

    def peak_bytes(self, *, block: int = 1) -> dict[int, int]:
        """Return the peak of live bytes in each step, by number of the step; 0 stands for the time before step 1.

        The size of each block is rounded up to a multiple of ``block`` bytes; torch's caching allocator uses 512.
        """
        live_bytes, step = 0, 0
        peaks: Counter[int] = Counter()
        for kind, number in self.events:
            if kind == "s":
                step = number
            elif kind == "a":
                live_bytes += -(-self.events.block_bytes[number] // block) * block
            elif kind == "f":
                live_bytes -= -(-self.events.block_bytes[number] // block) * block
            peaks[step] = max(peaks[step], live_bytes)
        return dict(peaks)
