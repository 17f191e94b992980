"""What a run takes with every configuration that measured records let one compose."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from vnbench.analysis.capacity import LEVERS, Asked, Evidence, PlannedRun
from vnbench.analysis.certification import Certificate, certify
from vnbench.analysis.fit import FamilyFit
from vnbench.analysis.interruptions import best_interval_of_count_s, best_interval_s, rounded_interval_s
from vnbench.analysis.loading import LoaderSummary
from vnbench.analysis.process import mean_power_w
from vnbench.analysis.room import worst_case_memory
from vnbench.analysis.run_time import RunTime, compose_run
from vnbench.analysis.spread import Degrees, Finish, Interruptions, finish_of
from vnbench.data.batching import plan_epoch
from vnbench.data.plan import BatchPlan, PlanConfig
from vnbench.data.sizes import SizeArray
from vnbench.record import TrialRecord
from vnbench.spec import FLAG_FIELDS, LOADER_FIELDS, SamplerName

PLANNED_SAMPLERS: tuple[SamplerName, ...] = ("random", "step-sorted", "bucketed")
"""Samplers whose passes all hold as many examples as the trials that timed them."""

PLAN_EPOCH = 1

MAX_OUTSIDE = 0.02
"""Share of passes outside of the sizes that were timed from which a plan is called extrapolated."""


def plan_runs(
    asked: Asked,
    *,
    families: Sequence[FamilyFit],
    loading: Sequence[LoaderSummary],
    records: Sequence[TrialRecord],
) -> tuple[PlannedRun, ...]:
    """Return what the run takes with every configuration that the records let one compose, the fastest first."""
    certificates = certify(records)
    trained = {_levers_of_training(record) for record in records if record.kind == "training" and record.status == "ok"}
    samplers = _samplers(records)
    of_one = {record.spec.sampler for record in records if record.spec.micro_batch_size == 1}
    samplers_of_one = sorted(samplers, key=lambda name: name not in of_one)[:1]
    powers = _powers_w(records)
    waits = _waits_s(records)
    plans: dict[tuple[SamplerName, int, int], BatchPlan | None] = {}
    found: list[PlannedRun] = []
    for family in families:
        micro_batch_size = family.spec.micro_batch_size
        for batch_size in _batch_sizes(asked, family, records):
            # A pass of one example is the same whoever chose it, so one sampler stands for all.
            for sampler in samplers if micro_batch_size > 1 else samplers_of_one:
                key = (sampler, batch_size, micro_batch_size)
                if key not in plans:
                    plans[key] = _plan(asked, asked.train_sizes_N2, *key)
                training = plans[key]
                if training is None:
                    continue
                validation = (
                    None
                    if asked.validation_sizes_N2 is None
                    else _plan(asked, asked.validation_sizes_N2, "sorted", micro_batch_size, micro_batch_size)
                )
                found.append(
                    _planned(
                        asked,
                        family,
                        training,
                        validation,
                        sampler=sampler,
                        batch_size=batch_size,
                        loading=loading,
                        certificates=certificates,
                        trained=trained,
                        power_w=powers.get(family.family),
                        wait_s=waits.get(family.family) if family.source == "training" else None,
                    )
                )
    return tuple(sorted(found, key=lambda one: one.finish.p50))


def worker_changes(
    asked: Asked, one: PlannedRun, *, loading: Sequence[LoaderSummary]
) -> tuple[tuple[str, PlannedRun], ...]:
    """Return a configuration with every other number of loader workers that was measured for its passes."""
    levers = one.levers
    rows = _loader_rows(loading, sampler=levers["sampler"], micro_batch_size=levers["micro_batch_size"])
    found = []
    for row in sorted(rows, key=lambda row: row.spec.num_workers or 0):
        assert row.supply is not None
        if row.spec.num_workers == levers["num_workers"]:
            continue
        run = replace(
            one.run,
            loading_s=len(asked.train_sizes_N2) * row.supply.time_per_example.value,
            has_workers=bool(row.spec.num_workers),
        )
        finish = _finish(asked, run, one.degrees, one.interval_s)
        changed = replace(
            one,
            levers=dict(levers) | {"num_workers": row.spec.num_workers},
            run=run,
            finish=finish,
            finish_without_snapshots=_finish(asked, run, one.degrees, None),
            finish_per_epoch=_finish(asked, run, one.degrees, run.epoch_s),
        )
        found.append(("num_workers", changed))
    return tuple(found)


def _planned(
    asked: Asked,
    family: FamilyFit,
    training: BatchPlan,
    validation: BatchPlan | None,
    *,
    sampler: SamplerName,
    batch_size: int,
    loading: Sequence[LoaderSummary],
    certificates: Sequence[Certificate],
    trained: set[tuple[Any, ...]],
    power_w: float | None,
    wait_s: float | None,
) -> PlannedRun:
    def composed(chosen: LoaderSummary | None) -> RunTime:
        supply = None if chosen is None else chosen.supply
        return compose_run(
            family,
            training=training,
            validation=validation,
            num_epochs=asked.num_epochs,
            # What training waited for is what its loader did not hide, so it adds to computing.
            loading_s_per_example=wait_s if supply is None else supply.time_per_example.value,
            num_workers=0 if chosen is None else chosen.spec.num_workers or 0,
            start_up_s=asked.start_up_s,
        )

    chosen = _best_loader(
        _loader_rows(loading, sampler=sampler, micro_batch_size=family.spec.micro_batch_size),
        computing_s=composed(None).computing_s / len(training.order_N),
    )
    run = composed(chosen)
    spec = family.spec
    levers = {
        "precision": spec.precision,
        "norm_precision": spec.norm_precision,
        "checkpointing": spec.checkpointing,
        "micro_batch_size": spec.micro_batch_size,
        "batch_size": batch_size,
        "sampler": sampler,
        "num_workers": spec.num_workers if chosen is None else chosen.spec.num_workers,
        **{name: getattr(spec, name) for name in FLAG_FIELDS},
    }
    half_width = chosen.supply.time_per_example.relative_half_width if chosen and chosen.supply else None
    degrees = Degrees(
        measured=float(family.fit.degrees_of_freedom) if family.fit.degrees_of_freedom else math.inf,
        processes=family.fit.between_degrees_of_freedom or math.inf,
        loading=(half_width or 0.0) / 1.96,
    )
    need_bytes, verdict = worst_case_memory(asked, family, certificates)
    interval_s: float | None = _interval_s(asked.interruptions, run)
    finish = _finish(asked, run, degrees, interval_s)
    without = finish if asked.interruptions.is_none else _finish(asked, run, degrees, None)
    if without.mean < finish.mean:
        interval_s, finish = None, without
    is_trained = tuple(levers[name] for name in LEVERS if name != "num_workers") in trained
    return PlannedRun(
        levers=levers,
        family=family,
        run=run,
        degrees=degrees,
        evidence="extrapolated" if family.is_rough else _evidence(run.extrapolated_ratio, is_trained=is_trained),
        need_bytes=need_bytes,
        verdict=verdict,
        interval_s=interval_s,
        finish=finish,
        finish_without_snapshots=without,
        finish_per_epoch=finish if asked.interruptions.is_none else _finish(asked, run, degrees, run.epoch_s),
        power_w=power_w,
    )


def _evidence(extrapolated_ratio: float, *, is_trained: bool) -> Evidence:
    if extrapolated_ratio > MAX_OUTSIDE:
        return "extrapolated"
    return "measured" if is_trained else "interpolated"


def _finish(asked: Asked, run: RunTime, degrees: Degrees, interval_s: float | None) -> Finish:
    return finish_of(run, degrees, asked.interruptions, interval_s=interval_s, window_s=asked.window_s, seed=asked.seed)


def _interval_s(interruptions: Interruptions, run: RunTime) -> float:
    """Return the best time between snapshots as whole steps; an epoch where nothing interrupts the run."""
    work_s = run.num_epochs * run.epoch_s
    if interruptions.is_none:
        return run.epoch_s
    if interruptions.mtbi_s is not None:
        best_s = best_interval_s(snapshot_s=interruptions.snapshot_s, mtbi_s=interruptions.mtbi_s)
    else:
        best_s = best_interval_of_count_s(
            work_s=work_s,
            snapshot_s=interruptions.snapshot_s,
            num_interruptions=interruptions.count or 0,
            is_worst=False,
        )
    return rounded_interval_s(best_s, step_s=run.step_s, work_s=work_s)


def _plan(
    asked: Asked, sizes_N2: SizeArray, sampler: SamplerName, batch_size: int, micro_batch_size: int
) -> BatchPlan | None:
    if len(sizes_N2) < batch_size:
        return None
    config = PlanConfig(sampler=sampler, batch_size=batch_size, micro_batch_size=micro_batch_size, seed=asked.seed)
    return plan_epoch(sizes_N2, config, epoch=PLAN_EPOCH)


def _batch_sizes(asked: Asked, family: FamilyFit, records: Sequence[TrialRecord]) -> tuple[int, ...]:
    micro = family.spec.micro_batch_size
    if asked.batch_sizes is not None:
        return tuple(size for size in asked.batch_sizes if size % micro == 0)
    trained = {record.spec.batch_size for record in records if record.kind == "training"}
    return tuple(sorted(size for size in trained | {micro} if size % micro == 0))


def _samplers(records: Iterable[TrialRecord]) -> tuple[SamplerName, ...]:
    seen = {record.spec.sampler for record in records if record.kind in ("training", "loader")}
    return tuple(name for name in PLANNED_SAMPLERS if name in seen) or ("random", "bucketed")


def _loader_rows(
    loading: Sequence[LoaderSummary], *, sampler: SamplerName, micro_batch_size: int
) -> list[LoaderSummary]:
    """Return the loaders of such passes that were measured with plain switches, those of the sampler if there are any.

    Of each number of workers there is one, the first.
    """
    rows: dict[int | None, LoaderSummary] = {}
    fitting = [row for row in loading if row.supply is not None and row.spec.micro_batch_size == micro_batch_size]
    fitting = [row for row in fitting if not any(name in row.spec.canonical() for name in LOADER_FIELDS)] or fitting
    for row in [row for row in fitting if row.spec.sampler == sampler] or fitting:
        rows.setdefault(row.spec.num_workers, row)
    return list(rows.values())


def _best_loader(rows: Sequence[LoaderSummary], *, computing_s: float) -> LoaderSummary | None:
    """Return the loader with the fewest workers that feeds computing, or the fastest; None where none was measured.

    How examples are grouped into steps hardly matters to a loader; what a pass holds does, and its sampler's padding.
    """

    def seconds(row: LoaderSummary) -> float:
        assert row.supply is not None
        return row.supply.time_per_example.value

    feeding = [row for row in rows if row.spec.num_workers and seconds(row) <= computing_s]
    if feeding:
        return min(feeding, key=lambda row: row.spec.num_workers or 0)
    return min(rows, key=lambda row: seconds(row) + (0.0 if row.spec.num_workers else computing_s), default=None)


def _waits_s(records: Iterable[TrialRecord]) -> dict[str, float]:
    """Return the seconds per example that training waited for its loader, by family."""
    found: dict[str, list[float]] = {}
    for record in records:
        if record.kind != "training" or record.status != "ok" or record.steps is None:
            continue
        rows = [row for row, is_warm_up in enumerate(record.steps["is_warm_up"]) if not is_warm_up]
        waits = [record.steps["data_wait_s"][row] for row in rows]
        if rows and None not in waits:
            found.setdefault(record.spec.family, []).append(
                sum(waits) / sum(record.steps["num_examples"][row] for row in rows)
            )
    return {family: statistics.fmean(values) for family, values in found.items()}


def _powers_w(records: Iterable[TrialRecord]) -> dict[str, float]:
    """Return the mean power of the device over the trials of each family that told it."""
    found: dict[str, list[float]] = {}
    for record in records:
        power_w = mean_power_w(record) if record.kind in ("compute", "training") else None
        if power_w is not None:
            found.setdefault(record.spec.family, []).append(power_w)
    return {family: statistics.fmean(values) for family, values in found.items()}


def _levers_of_training(record: TrialRecord) -> tuple[Any, ...]:
    return tuple(getattr(record.spec, name) for name in LEVERS if name != "num_workers")
