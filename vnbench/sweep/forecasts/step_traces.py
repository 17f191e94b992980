"""Traces of steps on CUDA, made in child processes that import torch."""

from __future__ import annotations

import contextlib
import json
import multiprocessing.connection
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection

from vnbench.batching.alignment import align
from vnbench.errors import ChildError
from vnbench.processes.parent import ChildOutcome, run_child
from vnbench.records.spec.precisions import REDUCED_PRECISIONS
from vnbench.records.step_trace import MAX_PASSES, Capability, StepTrace, TraceOrder
from vnbench.sweep.runner import failure_of

TRACING_ENTRY = "vnbench.trial.tracing.entry:run_all"

MAX_PROCESSES = 2
"""Maximum number of tracing processes. Each imports torch (0.4 GiB), and a trace takes one core."""

TIMEOUT_S = 120.0
"""Maximum seconds per trace. A trace takes a few seconds, but a user's network may be much larger than the presets."""

ORDERS_AT_ONCE = 3
"""Orders of presets per process: a process starts in tenths of a second, and progress is reported after each."""

AMPERE: Capability = (8, 0)

Run = Callable[..., ChildOutcome]
"""A function like ``run_child``."""


def run_step_traces(
    orders: Sequence[TraceOrder], *, num_processes: int = MAX_PROCESSES, run: Run = run_child
) -> Iterator[tuple[TraceOrder, StepTrace | str]]:
    """Yield the canonical order of all orders with the same steps, with its trace, as they are done.

    A text instead of a trace says why there is none. A step of a user's own network has a process to itself, for the
    network may end it; steps of presets get one each if a process that they share is killed. Where the caller stops
    asking, the processes are ended.

    Raises:
        ChildError: a process with steps of presets ended by itself, for example because torch cannot be imported.
    """
    different = list(dict.fromkeys(map(canonical, orders)))
    waiting: queue.SimpleQueue[list[TraceOrder]] = queue.SimpleQueue()
    done: queue.SimpleQueue[list[tuple[TraceOrder, StepTrace | str]] | Exception] = queue.SimpleQueue()
    presets = [order for order in different if order.spec.model_id is None]
    shares = [presets[start : start + ORDERS_AT_ONCE] for start in range(0, len(presets), ORDERS_AT_ONCE)]
    shares += [[order] for order in different if order.spec.model_id is not None]
    for share in shares:
        waiting.put(share)
    stop, stopper = multiprocessing.connection.Pipe(duplex=False)

    def work() -> None:
        with contextlib.suppress(queue.Empty):
            while not stop.poll():
                share = waiting.get_nowait()
                try:
                    done.put(list(zip(share, _traced(share, run=run, stop=stop), strict=True)))
                except Exception as error:  # raised again in the thread of the caller
                    done.put(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(num_processes, len(shares)))]
    for thread in threads:
        thread.start()
    try:
        for _ in shares:
            found = done.get()
            if isinstance(found, Exception):
                raise found
            yield from found
    finally:
        stopper.send(None)
        for thread in threads:
            thread.join()


def canonical(order: TraceOrder) -> TraceOrder:
    """Return the order that represents all orders with the same trace.

    Canvases are aligned, passes after MAX_PASSES repeat the last one, and TF32, the allocator and memory limits do not
    change the operators. All cards from Ampere on treat heads of the presets' size alike.
    """
    spec = order.spec
    stripped = replace(
        spec,
        batch_size=min(spec.accumulation_steps, MAX_PASSES) * spec.micro_batch_size,
        worst_case_height=int(align(spec.worst_case_height)),
        worst_case_width=int(align(spec.worst_case_width)),
        precision=spec.precision if spec.precision in REDUCED_PRECISIONS else "fp32",
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


def _traced(orders: Sequence[TraceOrder], *, run: Run, stop: Connection) -> list[StepTrace | str]:
    payload = json.dumps([order.to_json() for order in orders])
    timeout_s = TIMEOUT_S * len(orders)
    outcome = run(TRACING_ENTRY, payload, timeout_s=timeout_s, stop=stop)
    if outcome.answer is None:
        return _unanswered(orders, outcome, timeout_s=timeout_s, run=run, stop=stop)
    return [
        answer["problem"] if answer["trace"] is None else StepTrace.from_json(answer["trace"])
        for answer in json.loads(outcome.answer)
    ]


def _unanswered(
    orders: Sequence[TraceOrder], outcome: ChildOutcome, *, timeout_s: float, run: Run, stop: Connection
) -> list[StepTrace | str]:
    """Return why there are no traces; if several steps shared a process that was killed, trace each by itself."""
    status, cause = failure_of(outcome, timeout_s=timeout_s, has_memory_limit=False)
    model = orders[0].spec.model
    told = f"--model {model}: while it was traced, {cause.message}"
    if status == "oom":
        remedy = "free memory on this machine, and forecast it again"
    elif orders[0].spec.model_id is not None:
        remedy = "repair the network"
    elif stop.poll() or (status != "timeout" and cause.kind != "signal"):
        raise ChildError(f"the step could not be traced: {outcome.log_tail or f'exit code {outcome.exit_code}'}")
    else:
        remedy = "forecast it again"
    if len(orders) > 1:
        return [trace for order in orders for trace in _traced([order], run=run, stop=stop)]
    return [f"{told}; {remedy}"]
