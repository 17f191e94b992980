"""Which of several planned runs is recommended."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import record_factory as factory

from vnbench.analysis.findings import Findings
from vnbench.analysis.planning.capacity import PlannedRun, fastest
from vnbench.commands.plan.asked import plan_values
from vnbench.commands.plan.plan import plan_records


@pytest.fixture(name="one", scope="module")
def _one() -> PlannedRun:
    values = plan_values({"examples": "600", "epochs": "10"})
    return plan_records(Findings(factory.gpu_campaign()), values, sources=()).recommended


def changed(one: PlannedRun, *, times: float, evidence: Any = "forecast", **levers: Any) -> PlannedRun:
    finish = dataclasses.replace(one.finish, p50=times * one.finish.p50)
    return dataclasses.replace(one, levers={**one.levers, **levers}, finish=finish, evidence=evidence)


def test_of_forecasts_that_are_equally_fast_bf16_comes_before_fp16(one: PlannedRun) -> None:
    fp16, bf16 = changed(one, times=1.0, precision="fp16"), changed(one, times=1.03, precision="bf16", batch_size=64)
    assert fastest([fp16, bf16]) is bf16
    assert fastest([fp16, changed(one, times=1.3, precision="bf16")]) is fp16, "that is no tie"
    assert fastest([fp16, changed(one, times=1.0, precision="bf16", checkpointing="stages")]) is fp16


def test_of_measured_runs_the_fastest_is_taken_whatever_its_precision(one: PlannedRun) -> None:
    fp16 = changed(one, times=1.0, evidence="measured", precision="fp16")
    assert fastest([changed(one, times=1.03, evidence="measured", precision="bf16"), fp16]) is fp16
