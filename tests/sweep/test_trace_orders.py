from __future__ import annotations

import json
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

import pytest
from traces_by_hand import trace

from vnbench.errors import ChildError
from vnbench.processes.parent import ChildOutcome
from vnbench.records.spec.trial_spec import MemorySpec
from vnbench.records.step_trace import StepTrace, TraceOrder
from vnbench.sweep.forecasts.step_traces import ORDERS_AT_ONCE, canonical, run_step_traces

TRACE = trace([], "s1 p1 a0 f0", [512])


def order(**changes: object) -> TraceOrder:
    values = {
        "kind": "memory",
        "device": "cuda",
        "model": "veernet",
        "task": "multiclass",
        "batch_size": changes.get("micro_batch_size", 1),
        "micro_batch_size": 1,
        "precision": "fp32",
        "norm_precision": "fp32",
        "checkpointing": "none",
        "seed": 0,
        "worst_case_height": 640,
        "worst_case_width": 12_800,
    }
    return TraceOrder(spec=MemorySpec.from_dict(values | changes), capability=(9, 0))


def outcome(
    answer: bytes | None, *, exit_code: int | None = 1, is_timeout: bool = False, is_oom_killed: bool = False
) -> ChildOutcome:
    return ChildOutcome(
        answer=answer,
        num_answer_bytes=0,
        exit_code=exit_code,
        is_timeout=is_timeout,
        is_oom_killed=is_oom_killed,
        log_tail="no torch",
        elapsed_s=0.0,
    )


def answering(entry: str, payload: str, *, timeout_s: float, stop: Connection) -> ChildOutcome:
    """Trace every order but those of three examples."""
    told = []
    for text in json.loads(payload):
        is_good = TraceOrder.from_json(text).spec.micro_batch_size != 3
        told.append({"trace": TRACE.to_json() if is_good else None, "problem": None if is_good else "no"})
    return outcome(json.dumps(told).encode())


def test_every_order_gets_its_trace_or_why_there_is_none() -> None:
    orders = [order(micro_batch_size=size) for size in range(1, 3 * ORDERS_AT_ONCE)]
    found: dict[TraceOrder, StepTrace | str] = dict(run_step_traces(orders, run=answering))
    assert found.keys() == set(map(canonical, orders))
    for one, told in found.items():
        assert told == ("no" if one.spec.micro_batch_size == 3 else TRACE)


def test_orders_of_the_same_operators_are_traced_once() -> None:
    same = [
        order(),
        order(precision="tf32"),
        order(allocator="expandable-segments"),
        order(seed=3),
        order(worst_case_width=12_790),
        replace(order(), capability=(8, 9)),
    ]
    assert len(dict(run_step_traces(same, run=answering))) == 1
    others = [order(), order(precision="bf16"), order(checkpointing="stages"), replace(order(), capability=(7, 0))]
    assert len(dict(run_step_traces(others, run=answering))) == 4


def test_a_process_that_does_not_answer_is_told() -> None:
    with pytest.raises(ChildError, match="no torch"):
        list(run_step_traces([order()], run=lambda *_, **__: outcome(None)))


def test_a_network_that_ends_its_process_fails_alone() -> None:
    sizes: list[list[int]] = []

    def dies(entry: str, payload: str, *, timeout_s: float, stop: Connection) -> ChildOutcome:
        specs = [TraceOrder.from_json(text).spec for text in json.loads(payload)]
        sizes.append([spec.micro_batch_size for spec in specs])
        if specs[0].model_id is not None and specs[0].micro_batch_size > 1:
            return outcome(None)
        return answering(entry, payload, timeout_s=timeout_s, stop=stop)

    own = {"model": "net.py:build", "model_id": "0123456789ab"}
    orders = [order(micro_batch_size=size, **own) for size in (1, 2, 3)]
    found = {one.spec.micro_batch_size: told for one, told in run_step_traces(orders, run=dies)}
    died = "--model net.py:build: while it was traced, the process ended with exit code 1"
    assert found[1] == TRACE
    assert all(
        str(found[size]).startswith(died) and str(found[size]).endswith("; repair the network") for size in (2, 3)
    )
    assert sorted(sizes) == [[1], [2], [3]]


@pytest.mark.parametrize(
    ("ending", "told"),
    [
        (
            {"exit_code": -9, "is_oom_killed": True},
            "the operating system killed the process because memory ran out; free memory on this machine",
        ),
        ({"exit_code": -9}, "the process was ended by SIGKILL; forecast it again"),
        ({"exit_code": None, "is_timeout": True}, "still running after 2 min; ended by its time limit; forecast it"),
    ],
)
@pytest.mark.parametrize("own", [{}, {"model": "net.py:build", "model_id": "0123456789ab"}])
def test_a_step_whose_process_is_killed_fails_alone(ending: dict[str, Any], told: str, own: dict[str, str]) -> None:
    shares: list[int] = []

    def killed(entry: str, payload: str, *, timeout_s: float, stop: Connection) -> ChildOutcome:
        specs = [TraceOrder.from_json(text).spec for text in json.loads(payload)]
        shares.append(len(specs))
        if any(spec.micro_batch_size == 2 for spec in specs):
            return outcome(None, **ending)
        return answering(entry, payload, timeout_s=timeout_s, stop=stop)

    orders = [order(micro_batch_size=size, **own) for size in (1, 2, 4)]
    found = {one.spec.micro_batch_size: trace for one, trace in run_step_traces(orders, run=killed)}
    assert found[1] == found[4] == TRACE
    if own and not ending.get("is_oom_killed"):
        told = told.partition("; forecast it")[0] + "; repair the network"
    assert f"--model {own.get('model', 'veernet')}: while it was traced, {told}" in str(found[2])
    assert sorted(shares) == ([1, 1, 1] if own else [1, 1, 1, 3]), "each in a process of its own"


def test_processes_are_ended_where_nobody_asks_for_more() -> None:
    ended = []

    def waits(entry: str, payload: str, *, timeout_s: float, stop: Connection) -> ChildOutcome:
        if TraceOrder.from_json(json.loads(payload)[0]).spec.micro_batch_size > 1:
            ended.append(stop.poll(timeout_s))
            return outcome(None)
        return answering(entry, payload, timeout_s=timeout_s, stop=stop)

    orders = [order(micro_batch_size=size) for size in range(1, 5 * ORDERS_AT_ONCE)]
    traces = run_step_traces(orders, run=waits)
    next(traces)
    traces.close()  # type: ignore[attr-defined]  # a generator
    assert ended
    assert all(ended)
    assert len(ended) <= 2, "no further process was started"
