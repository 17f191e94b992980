"""The entry point of a tracing process: orders in, traces out."""

from __future__ import annotations

import json

from vnbench.errors import VnbenchError
from vnbench.records.failures import summary_line
from vnbench.records.step_trace import TraceOrder
from vnbench.trial.tracing.step_tracing import trace_step


def run_all(payload: str) -> str:
    """Trace the steps of TraceOrders and return ``{"trace": text or null, "problem": text or null}`` for each.

    Both are JSON lists that hold the JSON of orders and traces as texts. If one trace fails, the others are still made.
    """
    return json.dumps([_answer(text) for text in json.loads(payload)])


def _answer(text: str) -> dict[str, str | None]:
    trace, problem = None, None
    try:
        trace = trace_step(TraceOrder.from_json(text)).to_json()
    except VnbenchError as error:
        problem = str(error)
    except Exception as error:  # one failure must not stop the other traces
        problem = summary_line(error)
    return {"trace": trace, "problem": problem}
