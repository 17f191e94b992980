from __future__ import annotations

import statistics
from dataclasses import replace

import pytest

from vnbench.analysis.planning.drills import (
    PLACES,
    DrillReport,
    Hit,
    Kill,
    Measured,
    best_interval,
    draw_kills,
    planned_s,
    with_snapshots,
)

MEASURED = Measured(
    start_up_s=2.0,
    step_times_s=(0.1,) * 1000,
    spread=0.0,
    held_up_s=0.05,
    snapshot_s=0.05,
    read_s=0.03,
    num_bytes=4_000_000,
    restart_s=3.0,
)


def test_the_best_interval_is_that_of_the_plan() -> None:
    # sqrt(2 x 100 s x 0.05 s / 10) = 1 s of work, ten steps.
    assert best_interval(MEASURED, num_kills=10) == 10
    assert best_interval(replace(MEASURED, snapshot_s=1e-9), num_kills=10) == 1
    assert best_interval(replace(MEASURED, snapshot_s=1e9), num_kills=10) == 1000


def test_kills_come_in_the_order_in_which_a_run_meets_them_and_hit_each_place() -> None:
    kills = draw_kills(50, num_steps=100, interval=10, seed=0)
    assert [kill.step for kill in kills] == sorted(kill.step for kill in kills)
    assert {place: sum(kill.place == place for kill in kills) for place in set(PLACES)} == {
        "step": 30,
        "write": 10,
        "loader": 10,
    }
    assert all(kill.step in range(10, 100, 10) for kill in kills if kill.place == "write")
    assert (
        kills
        == draw_kills(50, num_steps=100, interval=10, seed=0)
        != draw_kills(50, num_steps=100, interval=10, seed=1)
    )


def test_a_run_without_snapshots_is_not_killed_in_one() -> None:
    assert all(kill.place != "write" for kill in draw_kills(20, num_steps=10, interval=10, seed=0))


def test_the_planned_time_holds_what_kills_lose() -> None:
    kills = draw_kills(10, num_steps=1000, interval=10, seed=0)
    # 2 s, 100 s of work, 10 restarts of 3 s, 8 halves and 2 wholes of an interval of 1 s, 100 snapshots and two halves.
    planned = planned_s(MEASURED, kills, interval=10)
    assert planned["p50"] == pytest.approx(2 + 100 + 30 + 4 + 2 + 5.05, rel=0.002)
    assert planned["p10"] < planned["p50"] < planned["p90"]
    without = planned_s(MEASURED, [], interval=1000)
    assert without["p50"] == pytest.approx(102.05, rel=0.001)
    assert without["p90"] / without["p50"] == pytest.approx(1 + 1.2816 * 0.03, abs=0.002)
    wider = planned_s(replace(MEASURED, spread=0.1), [], interval=1000)
    assert wider["p90"] / wider["p50"] == pytest.approx(statistics.NormalDist().inv_cdf(0.9) * 0.1 + 1, abs=0.01)


def report(**changes: object) -> DrillReport:
    hit = Hit(
        kill=Kill(place="step", step=3, share=0.5), last_word="loading", done=3, redone=1, is_lost=False, was_torn=False
    )
    return replace(
        DrillReport(
            measured=MEASURED,
            hits=(hit, replace(hit, redone=4)),
            interval=10,
            planned_s={"p10": 1.0, "p50": 2.0, "p90": 3.0},
            measured_s=2.1,
            is_bitwise_equal=True,
            is_full_told=None,
        ),
        **changes,  # type: ignore[arg-type]
    )


def test_a_drill_fails_where_a_snapshot_is_lost_or_the_end_differs() -> None:
    good = report()
    assert (good.exit_code, good.lost_snapshots, good.redone_steps_max) == (0, 0, 4)
    assert report(is_full_told=True).exit_code == 0
    lost = replace(good.hits[0], is_lost=True)
    for bad in (report(is_bitwise_equal=False), report(is_full_told=False), report(hits=(lost,))):
        assert bad.exit_code == 1


def test_snapshots_cost_what_the_same_steps_take_longer_with_them() -> None:
    found = with_snapshots(MEASURED, times_s=MEASURED.work_s + 20 * 0.08, num_saves=20)
    assert found.snapshot_s == pytest.approx(0.08)
    assert found.held_up_s == MEASURED.held_up_s
    lucky = with_snapshots(MEASURED, times_s=MEASURED.work_s - 1, num_saves=20)
    assert lucky.snapshot_s == MEASURED.held_up_s
    assert with_snapshots(MEASURED, times_s=1.0, num_saves=0) == MEASURED
