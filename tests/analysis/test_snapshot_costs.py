from __future__ import annotations

from dataclasses import replace

import pytest
from record_factory import snapshot_record

from vnbench.analysis.planning.snapshot_costs import cheapest, gain_of_async, snapshot_costs
from vnbench.output.tables.drill import snapshot_table


def test_a_snapshot_costs_what_epochs_with_them_take_longer() -> None:
    (cost,) = snapshot_costs([snapshot_record(cost_s=0.05), snapshot_record(cost_s=0.07, replicate=1)])
    assert cost.num_processes == 2
    assert cost.cost.value == pytest.approx(0.06)
    assert cost.cost.se is not None
    assert cost.restart is not None
    assert cost.restart.total_s == pytest.approx(4.0)


def test_a_plan_takes_no_less_than_a_snapshot_holds_up() -> None:
    (noisy,) = snapshot_costs([snapshot_record(cost_s=-0.01)])
    assert noisy.cost.value == pytest.approx(-0.01)
    assert noisy.planned_s == pytest.approx(0.04)


def test_the_cheapest_mode_is_planned_with_where_its_restart_was_reached() -> None:
    sync = snapshot_record(cost_s=0.06)
    slow = snapshot_record(cost_s=0.08, snapshot_mode="async")
    assert slow.snapshot is not None
    unfinished = snapshot_record(cost_s=0.01, snapshot_mode="async", snapshot_target="/disk")
    assert unfinished.snapshot is not None
    unfinished = replace(unfinished, snapshot=replace(unfinished.snapshot, restart=None))
    found = cheapest(snapshot_costs([slow, unfinished, sync]))
    assert found is not None
    assert found.spec == sync.spec
    assert cheapest([]) is None


def test_records_that_did_not_end_well_cost_nothing() -> None:
    assert snapshot_costs([replace(snapshot_record(), status="crashed")]) == ()


def test_the_gain_of_async_has_an_interval_that_may_hold_none() -> None:
    costs = snapshot_costs(
        [snapshot_record(cost_s=0.06, noise_s=0.02), snapshot_record(cost_s=0.05, noise_s=0.02, snapshot_mode="async")]
    )
    gain = gain_of_async(costs, costs[1])
    assert gain is not None
    assert gain.value == pytest.approx(0.01)
    low, high = gain.interval() or (0.0, 0.0)
    assert low < 0 < high
    assert gain_of_async(costs, costs[0]) is None
    assert gain_of_async(costs[1:], costs[1]) is None


def test_the_table_tells_costs_parts_and_gain(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    table = snapshot_table(
        [snapshot_record(cost_s=0.06, noise_s=0.01), snapshot_record(cost_s=0.02, noise_s=0.01, snapshot_mode="async")]
    )
    assert table is not None
    Console(width=120).print(table)
    told = " ".join(capsys.readouterr().out.split())
    assert "Gain of async over sync: 40" in told
    assert "none was seen" not in told
    assert "Going on takes 4 s from the start of a process: 40 ms Python, 3.7 s imports" in told
    assert snapshot_table([]) is None
