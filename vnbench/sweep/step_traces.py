"""Traces of steps on CUDA, asked of processes that import torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from vnbench.batching.alignment import align
from vnbench.errors import ChildError
from vnbench.processes.parent import run_child
from vnbench.records.step_trace import MAX_PASSES, Capability, StepTrace, TraceOrder

TRACING_ENTRY = "vnbench.trial.tracing.entry:run_all"

MAX_PROCESSES = 2
"""Processes that trace at once. Each has torch to itself, 0.4 GiB, and a trace takes one core."""

TIMEOUT_S = 120.0
"""Seconds that a trace may take, which takes a few: a network may be much larger than those here."""

AMPERE: Capability = (8, 0)

StepTraces = tuple[StepTrace | str, ...]
"""Traces in the order in which they were asked for; a text instead of one says why there is none."""


def run_step_traces(orders: Sequence[TraceOrder], *, num_processes: int = MAX_PROCESSES) -> StepTraces:
    """Return the trace of each order; of orders that come to the same steps, one is traced.

    Raises:
        ChildError: a process did not answer, as when torch does not import.
    """
    wanted = [canonical(order) for order in orders]
    different = list(dict.fromkeys(order.to_json() for order in wanted))
    # By turns, as neighbours take about as long as one another.
    shares = [different[start::num_processes] for start in range(min(num_processes, len(different)))]
    with ThreadPoolExecutor(max_workers=num_processes) as pool:
        told = list(pool.map(_traced, shares))
    found = {
        order: trace
        for share, traces in zip(shares, told, strict=True)
        for order, trace in zip(share, traces, strict=True)
    }
    return tuple(found[order.to_json()] for order in wanted)


def canonical(order: TraceOrder) -> TraceOrder:
    """Return the one order that stands for all that come to the same trace.

    Canvases are aligned, passes after the second one are as that, and no operator sees the allocator or a limit of
    memory. Every card from Ampere on treats heads of the presets' size alike.
    """
    spec = order.spec
    stripped = replace(
        spec,
        batch_size=min(spec.accumulation_steps, MAX_PASSES) * spec.micro_batch_size,
        worst_case_height=int(align(spec.worst_case_height)),
        worst_case_width=int(align(spec.worst_case_width)),
        allocator="native",
        cudnn_benchmark="off",
        memory_limit_bytes=None,
        memory_by="step",
        sampler=None,
        soak=None,
        soak_passes=None,
        seed=0,
    )
    is_alike = spec.model_id is None and order.capability >= AMPERE
    return TraceOrder(spec=stripped, capability=AMPERE if is_alike else order.capability)


def _traced(orders: Sequence[str]) -> list[StepTrace | str]:
    outcome = run_child(TRACING_ENTRY, json.dumps(orders), timeout_s=TIMEOUT_S * len(orders))
    if outcome.answer is None:
        raise ChildError(f"the step could not be traced: {outcome.log_tail or f'exit code {outcome.exit_code}'}")
    answers = json.loads(outcome.answer)
    return [
        answer["problem"] if answer["trace"] is None else StepTrace.from_json(answer["trace"]) for answer in answers
    ]
