"""What a trace tells of training steps on CUDA: operators, and the order in which they take and return memory.

Nothing ran on CUDA. The steps were followed on fake tensors, which have shapes and dtypes and no numbers, under CUDA's
rules. What is in here travels as JSON from the process that traces to one that knows nothing of torch.
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
"""``batch`` is the copy of a micro-batch to the device, and its conversion there. What checkpointing recomputes is part
of ``backward``. ``backward`` runs on a thread of autograd's, the others on that of Python, and each has a handle of
cuBLAS of its own."""

EventKind = Literal["s", "p", "(", ")", "a", "f"]
"""What an event is, and what its number says:

    s  a step begins; its number, from 1. What comes before builds the model
    p  a pass (forward and backward) of the step begins; its number, from 1
    (  an operator begins; its place in StepTrace.sequence
    )  the same operator ends
    a  a block is allocated; its place in Events.block_bytes
    f  a block is freed; the same

What an operator returns, and what it takes for itself meanwhile, is allocated between its two marks. A kernel's own
workspace, where a library decides on it, is not in here: a rule has to put it there.
"""

Capability = tuple[int, int]
"""Compute capability of a card, major and minor: (9, 0) for Hopper."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TraceOrder:
    """A step that is to be traced."""

    spec: MemorySpec
    """The step: its levers, and a micro-batch of so many examples of its worst case, all of one size."""
    capability: Capability
    """Card whose rules hold: they decide which kernel attention has."""

    def to_json(self) -> str:
        """Return the order as JSON."""
        return msgspec.json.encode({"spec": self.spec.flat(), "capability": self.capability}).decode()

    @classmethod
    def from_json(cls, text: str) -> TraceOrder:
        """Return the order that ``to_json`` wrote.

        Raises:
            ValueError: it is no order.
        """
        values = msgspec.json.decode(text)
        major, minor = values["capability"]
        return cls(spec=MemorySpec.from_dict(values["spec"]), capability=(major, minor))


@dataclass(frozen=True, kw_only=True, slots=True)
class Convolution:
    """What decides on the workspace of a convolution."""

    input_bytes: Bytes
    """Bytes of its input x, in the dtype of the operator."""
    weight_bytes: Bytes
    """Bytes of its weight."""
    output_bytes: Bytes
    """Bytes of its output y, and of the gradient on it."""
    kernel_size: tuple[Count, ...]
    """Extents of the kernel, one for each dimension of space."""
    stride: tuple[Count, ...]
    """Strides, as kernel_size."""
    dilation: tuple[Count, ...]
    """Dilations, as kernel_size."""
    in_channels: Count
    """Channels of its input."""
    out_channels: Count
    """Channels of its output."""
    groups: Count
    """Groups of channels."""
    is_transposed: bool
    """Whether it is a transposed one."""
    is_channels_last: bool
    """Whether the kernel runs on maps that are laid out channels-last."""
    gradients: tuple[Literal["input", "weight"], ...]
    """Gradients that it computes, each by a kernel of its own; none in the forward pass."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Operator:
    """An operator as it runs, once or often: equal ones are one object."""

    name: str
    """Its name with the overload: ``aten.convolution.default``."""
    phase: TracedPhase
    """When it runs."""
    dtype: str
    """Dtype that it computes in, the widest floating one of its tensors: ``bfloat16``; that of its result if none."""
    bytes_read: Bytes
    """Bytes of the tensors that it is given, each once. 0 for a copy from the host."""
    bytes_written: Bytes
    """Bytes of the tensors that it returns or changes; 0 for a view, which moves nothing."""
    flops: Count
    """Floating-point operations of convolutions, matrix products and attention; 0 for all others."""
    num_blocks: Count | None
    """Blocks of threads that its reduction is divided into, where their number limits it; None for all others."""
    is_gemm: bool
    """Whether it is a matrix product, for which cuBLAS is asked."""
    convolution: Convolution | None
    """What it is as a convolution; None for all others."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Events:
    """What happens to memory, in order: columns of one value per event, and one per block.

    Frees that follow one another are sorted by their block, so that two processes tell the same. A tensor of no bytes
    has no block, and views have that of their base.
    """

    kinds: str
    """A letter for each event: EventKind."""
    numbers: tuple[Count, ...]
    """Its number, as EventKind says."""
    block_bytes: tuple[Bytes, ...]
    """Bytes that were asked for, by block, in the order of their allocation: never 0, and not rounded."""

    def __iter__(self) -> Iterator[tuple[str, int]]:
        """Yield kind and number of each event."""
        return zip(self.kinds, self.numbers, strict=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class StepTrace:
    """Two training steps, so that in the second one the optimizer's state exists."""

    torch: str
    """Version of torch whose operators and rules these are."""
    capability: Capability
    """Card whose rules these are."""
    notes: tuple[str, ...]
    """What was traced otherwise than it would run, in words."""
    num_parameters: Count
    """Numbers in the parameters."""
    parameter_bytes: Bytes
    """Bytes of parameters and buffers, which are allocated before the first step."""
    batch_bytes: Bytes
    """Bytes of one micro-batch as it is copied to the device."""
    num_passes: Count
    """Passes of each step that were traced: one, or two where gradients are accumulated. In a pass after the first one
    the gradients exist; all later ones are as the second."""
    operators: tuple[Operator, ...]
    """The different operators, in the order in which they first ran."""
    sequence: tuple[Count, ...]
    """Which of ``operators`` ran, in order; views are left out."""
    events: Events
    """What happened to memory, in order, from an empty device on."""

    def to_json(self) -> str:
        """Return the trace as JSON."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> StepTrace:
        """Return the trace that ``to_json`` wrote.

        Raises:
            ValueError: it is no trace.
        """
        try:
            return msgspec.json.decode(text, type=cls)
        except msgspec.MsgspecError as error:
            raise ValueError(refusal(error, where="trace")) from error

    def peak_bytes(self, *, block: int = 1) -> dict[int, int]:
        """Return the most bytes that were live in each step, by its number; 0 is the time before the first one.

        Each block counts as a multiple of ``block`` bytes: torch's caching allocator hands out multiples of 512.
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
