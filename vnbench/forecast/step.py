"""What a traced training step takes on a card: its memory and its time, each as a bracket."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from vnbench.forecast.allocator import CachingAllocator, OutOfMemory
from vnbench.forecast.blocks import Block
from vnbench.forecast.cards import Card
from vnbench.forecast.replay import Replayed, taken_by
from vnbench.forecast.roofline import step_times
from vnbench.forecast.settings import AllocatorSettings
from vnbench.forecast.workspaces import cublas_bytes, with_unseen, workspace_of
from vnbench.records.readings import ByteRange, CanvasForecast, CardForecast, CardVerdict
from vnbench.records.spec.precisions import PRECISIONS
from vnbench.records.spec.words import Precision
from vnbench.records.step_trace import Operator, StepTrace

USABLE = 0.95
"""Share of a card up to which a step is said to fit: the rest is left to what no forecast knows of."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TracedCanvas:
    """The trace of a step on one canvas."""

    height: int
    """Height of the canvas in pixels."""
    width: int
    """Width of the canvas in pixels."""
    trace: StepTrace
    """The step."""


def forecast_on_card(
    canvases: Sequence[TracedCanvas],
    card: Card,
    *,
    precision: Precision,
    settings: AllocatorSettings,
    accumulation_steps: int,
) -> CardForecast:
    """Return what the step of some traces takes on a card; the last canvas is the worst case."""
    found = [
        _on_canvas(one, card, precision=precision, settings=settings, accumulation_steps=accumulation_steps)
        for one in canvases
    ]
    reserved, trace = found[-1].reserved_bytes, canvases[-1].trace
    context = ByteRange(*card.context_bytes)
    device = ByteRange(reserved.low + context.low, reserved.high + context.high)
    verdict, num_retries = _verdict(trace, card, settings, device, is_tf32=PRECISIONS[precision].is_tf32)
    counted = operators_of_step(trace, accumulation_steps)
    names: Counter[str] = Counter()
    for operator, count in counted.items():
        names[operator.name] += count
    return CardForecast(
        canvases=tuple(found),
        device_bytes=device,
        card_bytes=card.total_bytes,
        verdict=verdict,
        num_retries=num_retries,
        operators=dict(sorted(names.items())),
        notes=trace.notes,
    )


def replayed(
    trace: StepTrace,
    card: Card,
    settings: AllocatorSettings,
    *,
    is_tf32: bool,
    is_full: bool,
    is_limited: bool = False,
) -> Replayed:
    """Return what the allocator takes for a trace, with the smallest workspaces or, ``is_full``, with the largest ones.

    The memory has no end unless ``is_limited`` to that of the card, of which the context takes its upper or lower end
    too. A convolution for whose workspace there is no room runs without: cuDNN goes on to its next plan.
    """
    allocator = CachingAllocator(settings)
    if is_limited:
        least, most = card.usable_bytes
        allocator = CachingAllocator(settings, capacity=least if is_full else most, total=card.total_bytes)
    try:
        _replay(trace, allocator, card, is_tf32=is_tf32, is_full=is_full)
    except OutOfMemory:
        fits = False
    else:
        fits = True
    return taken_by(allocator, fits=fits)


def operators_of_step(trace: StepTrace, accumulation_steps: int) -> Counter[Operator]:
    """Return how often each operator runs in one step of so many passes, in the long run.

    The last traced step is taken, in which the optimizer's state exists. Passes after the second are as the second.
    """
    counts: Counter[Operator] = Counter()
    number_of_pass = 0
    for kind, number in trace.events:
        if kind == "s":
            counts.clear()
            number_of_pass = 0
        elif kind == "p":
            number_of_pass = number
        elif kind == "(":
            operator = trace.operators[trace.sequence[number]]
            is_repeated = number_of_pass > 1 and operator.phase != "optimizer"
            counts[operator] += accumulation_steps - 1 if is_repeated else 1
    return counts


def _replay(trace: StepTrace, allocator: CachingAllocator, card: Card, *, is_tf32: bool, is_full: bool) -> None:
    blocks: dict[int, Block] = {}
    threads: set[bool] = set()
    for kind, number in trace.events:
        if kind == "a":
            blocks[number] = allocator.allocate(trace.events.block_bytes[number])
        elif kind == "f":
            allocator.free(blocks.pop(number))
        elif kind == "(":
            operator = trace.operators[trace.sequence[number]]
            is_of_autograd = operator.phase == "backward"
            if operator.is_gemm and is_of_autograd not in threads:
                threads.add(is_of_autograd)
                allocator.allocate(cublas_bytes(card.compute_capability or trace.capability))
        elif kind == ")":
            workspace = workspace_of(trace.operators[trace.sequence[number]], is_tf32=is_tf32)
            _take_meanwhile(allocator, workspace.high if is_full else workspace.low)


def _take_meanwhile(allocator: CachingAllocator, num_bytes: int) -> None:
    if not num_bytes:
        return
    try:
        block = allocator.allocate(num_bytes)
    except OutOfMemory:
        return
    allocator.free(block)


def _on_canvas(
    one: TracedCanvas, card: Card, *, precision: Precision, settings: AllocatorSettings, accumulation_steps: int
) -> CanvasForecast:
    low, high = (
        replayed(one.trace, card, settings, is_tf32=PRECISIONS[precision].is_tf32, is_full=is_full)
        for is_full in (False, True)
    )
    counted = operators_of_step(one.trace, accumulation_steps)
    times = step_times(counted, card, precision=precision)
    return CanvasForecast(
        height=one.height,
        width=one.width,
        # A block of a workspace may serve a larger request later on: neither end is always the larger one.
        allocated_bytes=with_unseen(low.peak_allocated_bytes, high.peak_allocated_bytes),
        reserved_bytes=with_unseen(low.peak_reserved_bytes, high.peak_reserved_bytes),
        step_time_s=None if times is None else times[0] + times[1],
        reducing_s=None if times is None else times[1],
        num_kernels=counted.total(),
        moved_bytes=sum(count * (one.bytes_read + one.bytes_written) for one, count in counted.items()),
        flop=sum(count * one.flops for one, count in counted.items()),
    )


def _verdict(
    trace: StepTrace, card: Card, settings: AllocatorSettings, device: ByteRange, *, is_tf32: bool
) -> tuple[CardVerdict, int]:
    """Return whether the step fits a card, and how often its allocator would give back its cache at the upper end.

    A cache that is too large is given back, and the request tried again: the replay on the card tells whether it helps.
    """
    limit = settings.limit_bytes(card.total_bytes)
    is_within = limit is None or device.high - card.context_bytes[1] <= limit
    if is_within and device.high <= USABLE * card.total_bytes:
        return "fits", 0
    low, high = (
        replayed(trace, card, settings, is_tf32=is_tf32, is_full=is_full, is_limited=True) for is_full in (False, True)
    )
    return ("tight" if low.fits else "does not fit"), high.num_retries
