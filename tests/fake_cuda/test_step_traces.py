"""Traces made without CUDA against the same steps on fake CUDA tensors, under torch's own rules for CUDA."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest
from fake_cuda.cases import orders
from fake_cuda.runner import Group

from vnbench.records.step_trace import StepTrace, TraceOrder
from vnbench.trial.tracing import attention_rules, autocast_rules
from vnbench.trial.tracing.step_tracing import trace_step

ORDERS = orders()

PLANTED = "bf16, exact"
"""Configuration on which a wrong rule is planted: it has a mask, and a norm in fp32."""


def recorded(group: Group, name: str) -> dict[str, Any]:
    """Return what was recorded of a step on fake CUDA tensors."""
    found = next(one for one in group("traced").answers if one.name == name)
    assert found.returned is not None, found.raised
    told: dict[str, Any] = json.loads(found.returned)
    return told


def as_recorded(trace: StepTrace) -> dict[str, Any]:
    ran = [asdict(trace.operators[place]) for place in trace.sequence]
    told: dict[str, Any] = json.loads(json.dumps({"operators": ran, "events": asdict(trace.events)}))
    return told


@pytest.mark.parametrize("name", ORDERS)
def test_a_trace_has_the_operators_and_the_memory_of_the_step_on_cuda(name: str, group: Group) -> None:
    of_cuda, of_trace = recorded(group, name), as_recorded(trace_step(ORDERS[name]))
    assert len(of_trace["operators"]) > 500
    assert of_trace["operators"] == of_cuda["operators"]
    assert of_trace["events"] == of_cuda["events"]


def _wrong_trace(monkeypatch: pytest.MonkeyPatch, module: Any, attribute: str, value: Any) -> dict[str, Any]:
    monkeypatch.setattr(module, attribute, value)
    order: TraceOrder = ORDERS["many_layers.py, bf16"] if module is autocast_rules else ORDERS[PLANTED]
    return as_recorded(trace_step(order))


@pytest.mark.parametrize("operator", ["upsample_bilinear2d", "layer_norm", "cumsum", "addcmul", "exp"])
def test_a_wrong_rule_of_autocast_makes_another_trace(
    operator: str, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = {**autocast_rules.RULES, operator: "lower"}
    wrong = _wrong_trace(monkeypatch, autocast_rules, "RULES", rules)
    assert wrong["operators"] != recorded(group, "many_layers.py, bf16")["operators"]


def test_a_wrong_kernel_of_attention_makes_another_trace(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = _wrong_trace(monkeypatch, attention_rules, "MASK_ALIGNMENT", 16)
    assert wrong["operators"] != recorded(group, PLANTED)["operators"]
