"""The traces behind forecasts: each distinct step is traced once, and larger micro-batches are computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vnbench.batching.alignment import align
from vnbench.batching.canvases import Size
from vnbench.forecast.cards import Card
from vnbench.forecast.scaling import UnequalTracesError, at_micro_batch
from vnbench.forecast.settings import NATIVE
from vnbench.forecast.step import TracedCanvas
from vnbench.records.spec.trial_spec import ForecastSpec, MemorySpec
from vnbench.records.step_trace import Capability, StepTrace, TraceOrder
from vnbench.sweep.forecasts.step_traces import canonical, run_step_traces

GIVEN_SIZES = (1, 2, 3)
"""Micro-batches to trace. Larger ones follow from the last two; a single example may have another layout."""

USUAL_CAPABILITY: Capability = (8, 0)
"""Compute capability assumed for a card of which only the memory is known."""

UNCOMPUTABLE = "the trace of this micro-batch cannot be computed from those of others"

Observe = Callable[[int, int], None]
"""Called with the number of finished traces and the number of all traces."""


@dataclass(frozen=True, slots=True)
class Traces:
    """Traces by order, and the reasons for missing traces."""

    found: dict[TraceOrder, StepTrace] = field(default_factory=dict)
    failed: dict[TraceOrder, str] = field(default_factory=dict)

    def add(self, orders: Iterable[TraceOrder], *, observe: Observe) -> None:
        """Trace the orders that were not traced yet."""
        different = dict.fromkeys(map(canonical, orders))
        due = [order for order in different if order not in self.found and order not in self.failed]
        observe(0, len(due))
        for number, (order, trace) in enumerate(run_step_traces(due), start=1):
            if isinstance(trace, str):
                self.failed[order] = trace
            else:
                self.found[order] = trace
            observe(number, len(due))

    def of(self, order: TraceOrder) -> StepTrace | None:
        """Return the trace of an order, if necessary computed from other micro-batches; None if there is none."""
        if order in self.found:
            return self.found[order]
        size = order.spec.micro_batch_size
        lower, upper = ((one, self.found.get(_resized(order, one))) for one in GIVEN_SIZES[-2:])
        if size <= upper[0] or lower[1] is None or upper[1] is None:
            return None
        try:
            self.found[order] = at_micro_batch(size, first=(lower[0], lower[1]), second=(upper[0], upper[1]))
        except UnequalTracesError:
            return None
        return self.found[order]


def canvases_of(spec: ForecastSpec) -> tuple[Size, ...]:
    """Return the canvases of a forecast, the worst case last."""
    smallest = (int(align(spec.smallest_height)), int(align(spec.smallest_width)))
    worst_case = (int(align(spec.worst_case_height)), int(align(spec.worst_case_width)))
    return tuple(dict.fromkeys((smallest, worst_case)))


def trace_all(
    specs: Sequence[ForecastSpec], cards: Mapping[str, Card], *, has_largest: bool, observe: Observe
) -> Traces:
    """Return the traces that the forecasts need, each made once; ``cards`` maps the names in specs to cards.

    With ``has_largest`` the worst case of every micro-batch can be computed from them.
    """
    traces = Traces()
    orders = [order for spec in specs for order in _orders(spec, cards[spec.card])]
    worst_cases = [[*_orders(spec, cards[spec.card])][-1] for spec in specs] if has_largest else []
    of_all_sizes = [_resized(order, size) for order in worst_cases for size in GIVEN_SIZES]
    traces.add((*_given(orders), *of_all_sizes), observe=observe)
    # Trace the steps that cannot be computed from others.
    traces.add((order for order in orders if traces.of(order) is None), observe=observe)
    return traces


def traced_canvases(traces: Traces, spec: ForecastSpec, card: Card) -> list[TracedCanvas] | str:
    """Return the traces of a forecast's canvases, or why there are none."""
    orders = list(_orders(spec, card))
    missing = [order for order in orders if traces.of(order) is None]
    if missing:
        return traces.failed.get(missing[0], UNCOMPUTABLE)
    return [_canvas(traces, order) for order in orders]


def traced_worst_case(traces: Traces, spec: ForecastSpec, card: Card, *, micro_batch_size: int) -> TracedCanvas | None:
    """Return the trace of a forecast's worst case with another micro-batch; None if there is none."""
    order = _resized([*_orders(spec, card)][-1], micro_batch_size)
    return None if traces.of(order) is None else _canvas(traces, order)


def first_traced(traces: Traces, spec: ForecastSpec, card: Card) -> int | None:
    """Return the smallest of GIVEN_SIZES with which a forecast's worst case was traced; None if there is none."""
    sizes = (size for size in GIVEN_SIZES if traced_worst_case(traces, spec, card, micro_batch_size=size) is not None)
    return next(sizes, None)


def _canvas(traces: Traces, order: TraceOrder) -> TracedCanvas:
    trace = traces.of(order)
    assert trace is not None
    return TracedCanvas(height=order.spec.worst_case_height, width=order.spec.worst_case_width, trace=trace)


def _orders(spec: ForecastSpec, card: Card) -> Iterator[TraceOrder]:
    for height, width in canvases_of(spec):
        capability = card.compute_capability or USUAL_CAPABILITY
        yield canonical(TraceOrder(spec=_traced_spec(spec, height=height, width=width), capability=capability))


def _given(orders: Iterable[TraceOrder]) -> Iterator[TraceOrder]:
    """Yield the orders in GIVEN_SIZES from which the given orders can be computed."""
    for order in orders:
        if order.spec.micro_batch_size in GIVEN_SIZES[:-2]:
            yield order
        else:
            yield from (_resized(order, size) for size in GIVEN_SIZES[-2:])


def _resized(order: TraceOrder, micro_batch_size: int) -> TraceOrder:
    batch_size = micro_batch_size * order.spec.accumulation_steps
    return replace(order, spec=replace(order.spec, micro_batch_size=micro_batch_size, batch_size=batch_size))


def _traced_spec(spec: ForecastSpec, *, height: int, width: int) -> MemorySpec:
    """Return the step of a forecast on one canvas."""
    own: dict[str, Any] = dict.fromkeys(("card", "smallest_height", "smallest_width")) | {"allocator": NATIVE}
    size = {"worst_case_height": height, "worst_case_width": width}
    return MemorySpec.from_dict(spec.flat() | own | size | {"kind": "memory"})
