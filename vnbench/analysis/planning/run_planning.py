"""Plan a run with every configuration that can be composed from records."""

from __future__ import annotations

from dataclasses import fields

from vnbench.analysis.models.run_time import RunTime
from vnbench.analysis.planning.capacity import Asked, Configuration, PlannedRun
from vnbench.analysis.planning.configurations import Measured, compose_configurations
from vnbench.analysis.planning.interruptions import best_interval_of_count_s, best_interval_s, rounded_interval_s
from vnbench.analysis.planning.spread import Finish, finish_of


def plan_runs(asked: Asked, measured: Measured) -> tuple[PlannedRun, ...]:
    """Return the run planned with every configuration, the fastest first."""
    runs = [_planned(asked, one) for one in compose_configurations(asked, measured)]
    return tuple(sorted(runs, key=lambda one: one.finish.p50))


def worker_changes(asked: Asked, one: PlannedRun) -> tuple[tuple[str, PlannedRun], ...]:
    """Return (``num_workers``, run) for every other measured number of loader workers."""
    num_examples = len(asked.train_sizes_N2)
    others = [supply for supply in one.supplies if supply.num_workers != one.levers["num_workers"]]
    return tuple(
        ("num_workers", _planned(asked, one.supplied_by(supply, num_examples=num_examples))) for supply in others
    )


def _planned(asked: Asked, one: Configuration) -> PlannedRun:
    run = one.run

    def finish_with(interval_s: float | None) -> Finish:
        return finish_of(
            run,
            asked.interruptions,
            interval_s=interval_s,
            window_s=asked.window_s,
            seed=asked.seed,
        )

    interval_s = snapshot_interval_s(asked, run)
    finish = finish_with(interval_s)
    is_calm = asked.interruptions.is_none
    without = finish if is_calm else finish_with(None)
    if asked.snapshots == "best" and without.mean < finish.mean:
        interval_s, finish = None, without
    return PlannedRun(
        **{item.name: getattr(one, item.name) for item in fields(Configuration)},
        verdict=one.worst_case.verdict(asked.memory_bytes),
        interval_s=interval_s,
        finish=finish,
        finish_without_snapshots=without,
        finish_per_epoch=finish if is_calm else finish_with(run.epoch.total_s),
    )


def snapshot_interval_s(asked: Asked, run: RunTime) -> float | None:
    """Return the seconds of work between snapshots, rounded to whole steps; None without snapshots.

    For the rule ``best``, this is the interval with the least mean time, or an epoch if nothing interrupts the run.
    """
    if asked.snapshots == "none":
        return None
    work_s = run.work_s
    inside = asked.interruptions
    if not isinstance(asked.snapshots, str):
        if asked.snapshots >= work_s:
            # An interval as long as the run means no snapshots.
            return None
        wanted_s = asked.snapshots
    elif asked.snapshots == "epoch" or inside.is_none:
        return run.epoch.total_s
    elif inside.mtbi_s is not None:
        wanted_s = best_interval_s(snapshot_s=inside.snapshot_s, mtbi_s=inside.mtbi_s)
    else:
        wanted_s = best_interval_of_count_s(
            work_s=work_s, snapshot_s=inside.snapshot_s, num_interruptions=inside.count or 0, is_worst=False
        )
    return rounded_interval_s(wanted_s, step_s=run.step_s, work_s=work_s)
