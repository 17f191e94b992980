"""Compose every configuration of a run for which the records suffice."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vnbench.analysis.models.certification import Certificate, certify
from vnbench.analysis.models.fit import FamilyFit
from vnbench.analysis.models.run_time import EpochPasses, compose_run
from vnbench.analysis.planning.capacity import CHEAPEST_FIRST, Asked, Configuration, Evidence, Supply
from vnbench.analysis.planning.worst_case_memory import WorstCaseMemory, worst_case_memory
from vnbench.analysis.statistics.estimate import Estimate
from vnbench.analysis.statistics.means import mean
from vnbench.analysis.trials.loading import LoaderSummary
from vnbench.analysis.trials.process import mean_power_w
from vnbench.analysis.trials.steps import steps_of
from vnbench.batching.epoch import plan_epoch
from vnbench.batching.plan import PlanConfig
from vnbench.batching.sizes import SizeArray
from vnbench.records.record import TrialRecord, of_kind
from vnbench.records.spec.axes import FLAG_FIELDS, LOADER_FIELDS
from vnbench.records.spec.trial_spec import ComputeSpec, ForecastSpec, ImagesSpec, TrainingSpec
from vnbench.records.spec.words import SamplerName
from vnbench.records.values.once import once_per_object

PLANNED_SAMPLERS: tuple[SamplerName, ...] = ("random", "step-sorted", "bucketed")
"""Samplers whose passes have the same number of examples as the trials that timed them."""

PLAN_EPOCH = 1

MAX_OUTSIDE = 0.02
"""Share of passes outside the timed sizes above which a plan is called extrapolated."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """The measurements of one device from which runs are composed."""

    families: Sequence[FamilyFit]
    """Step times and memory."""
    supplies: Mapping[tuple[SamplerName, int], tuple[Supply, ...]]
    """Measured loaders by (sampler, micro-batch), the fewest workers first."""
    certificates: Sequence[Certificate]
    """Worst-case memory trials."""
    samplers: tuple[SamplerName, ...]
    """Samplers to plan with."""
    samplers_of_one: tuple[SamplerName, ...]
    """The sampler to plan with for passes of one example, for which all samplers are equal."""
    batch_sizes: frozenset[int]
    """Batch sizes of training trials and forecasts."""
    trained: frozenset[tuple[Any, ...]]
    """Levers, except the workers, of training trials that ended ok."""
    powers_w: Mapping[str, float]
    """Mean power of the device in watts, by family."""
    waits_s: Mapping[str, Estimate]
    """Seconds per example that training waited for its loader, by family, mean over processes."""

    @classmethod
    def of(
        cls, records: Sequence[TrialRecord], *, families: Sequence[FamilyFit], loading: Sequence[LoaderSummary]
    ) -> Measured:
        """Return the measurements from ``records``, which must hold only the last attempt at each trial."""
        samplers = _samplers(records)
        of_one = {record.spec.sampler for record in records if record.spec.micro_batch_size == 1}
        # Trials with another shape_visits than the default are a separate experiment, not a way to train.
        records = [record for record in records if record.spec.shape_visits == "auto"]
        training = of_kind(records, TrainingSpec)
        asked = {record.spec.batch_size for record in (*training, *of_kind(records, ForecastSpec))}
        return cls(
            families=families,
            supplies={
                (sampler, micro_batch_size): _supplies(loading, sampler=sampler, micro_batch_size=micro_batch_size)
                for sampler in samplers
                for micro_batch_size in {family.spec.micro_batch_size for family in families}
            },
            certificates=certify(records),
            samplers=samplers,
            samplers_of_one=tuple(sorted(samplers, key=lambda name: name not in of_one)[:1]),
            batch_sizes=frozenset(asked),
            trained=frozenset(_levers_of_training(record) for record in training if record.status == "ok"),
            powers_w=_powers_w(records),
            waits_s=_waits_s(training),
        )


@once_per_object
def _known_passes(sizes_N2: SizeArray) -> dict[PlanConfig, EpochPasses]:
    """Return where the passes of some examples are kept: a report plans those of its run again for its page."""
    return {}


def _passes(sizes_N2: SizeArray, config: PlanConfig) -> EpochPasses | None:
    """Return the passes of an epoch; None if there are fewer examples than a batch."""
    known = _known_passes(sizes_N2)
    if config not in known and len(sizes_N2) >= config.batch_size:
        known[config] = EpochPasses.of(plan_epoch(sizes_N2, config, epoch=PLAN_EPOCH))
    return known.get(config)


def compose_configurations(asked: Asked, measured: Measured) -> tuple[Configuration, ...]:
    """Return every configuration that can be composed, each with the fewest loader workers that are fastest."""
    found: list[Configuration] = []
    for family in measured.families:
        micro_batch_size = family.spec.micro_batch_size
        config = PlanConfig(
            sampler="sorted", batch_size=micro_batch_size, micro_batch_size=micro_batch_size, seed=asked.seed
        )
        memory = worst_case_memory(family, worst_case=asked.worst_case, certificates=measured.certificates)
        checked = None if asked.validation_sizes_N2 is None else _passes(asked.validation_sizes_N2, config)
        for batch_size in _batch_sizes(asked, family, measured):
            for sampler in measured.samplers if micro_batch_size > 1 else measured.samplers_of_one:
                passes = _passes(asked.train_sizes_N2, replace(config, sampler=sampler, batch_size=batch_size))
                one = (
                    None
                    if passes is None
                    else _composed(
                        asked, measured, family, passes, checked, memory, sampler=sampler, batch_size=batch_size
                    )
                )
                if one is not None:
                    found.append(one)
    return tuple(found)


def _composed(
    asked: Asked,
    measured: Measured,
    family: FamilyFit,
    passes: EpochPasses,
    validation: EpochPasses | None,
    worst_case: WorstCaseMemory,
    *,
    sampler: SamplerName,
    batch_size: int,
) -> Configuration | None:
    """Return a configuration; None if no allowed number of workers was measured for it."""
    spec = family.spec
    # The wait of training is the part of loading that was not hidden, so it adds to computing.
    wait = measured.waits_s.get(family.family) if family.source == "training" else None
    run = compose_run(
        family,
        training=passes,
        validation=validation,
        num_epochs=asked.num_epochs,
        loading_per_example=wait,
        num_workers=0,
        start_up_s=asked.start_up_s,
    )
    levers = {
        "precision": spec.precision,
        "norm_precision": spec.norm_precision,
        "checkpointing": spec.checkpointing,
        "micro_batch_size": spec.micro_batch_size,
        "batch_size": batch_size,
        "sampler": sampler,
        "num_workers": spec.num_workers,
        **{name: getattr(spec, name) for name in FLAG_FIELDS},
    }
    supplies = measured.supplies[sampler, spec.micro_batch_size]
    is_trained = tuple(levers[name] for name in CHEAPEST_FIRST if name != "num_workers") in measured.trained
    plain = Configuration(
        levers=levers,
        family=family,
        run=run,
        supplies=supplies,
        evidence=_evidence(family, run.extrapolated_ratio, is_trained=is_trained),
        worst_case=worst_case,
        power_w=measured.powers_w.get(family.family),
    )
    allowed = [one for one in supplies if asked.num_workers is None or one.num_workers in asked.num_workers]
    if not allowed:
        return plain if asked.num_workers is None else None

    def epoch_s(supply: Supply) -> float:
        return plain.epoch_with(supply, num_examples=passes.num_examples).total_s

    # All numbers of workers that keep up give the same time; min returns the first, which has the fewest.
    return plain.supplied_by(min(allowed, key=epoch_s), num_examples=passes.num_examples)


def _evidence(family: FamilyFit, extrapolated_ratio: float, *, is_trained: bool) -> Evidence:
    if family.forecast is not None:
        return "forecast"
    if family.is_rough or extrapolated_ratio > MAX_OUTSIDE:
        return "extrapolated"
    return "measured" if is_trained else "interpolated"


def _batch_sizes(asked: Asked, family: FamilyFit, measured: Measured) -> tuple[int, ...]:
    micro = family.spec.micro_batch_size
    wanted = measured.batch_sizes | {micro} if asked.batch_sizes is None else asked.batch_sizes
    return tuple(size for size in sorted(wanted) if size % micro == 0)


def _samplers(records: Iterable[TrialRecord]) -> tuple[SamplerName, ...]:
    seen = {record.spec.sampler for record in of_kind(records, ImagesSpec)}
    return tuple(name for name in PLANNED_SAMPLERS if name in seen) or ("random", "bucketed")


def _supplies(loading: Sequence[LoaderSummary], *, sampler: SamplerName, micro_batch_size: int) -> tuple[Supply, ...]:
    """Return the measured loaders with this micro-batch, preferably with default switches and with this sampler.

    The grouping of examples into steps hardly matters to a loader; the examples per pass and their padding do.
    """
    fitting = [row for row in loading if row.supply is not None and row.spec.micro_batch_size == micro_batch_size]
    fitting = [row for row in fitting if not any(name in row.spec.canonical() for name in LOADER_FIELDS)] or fitting
    found: dict[int, Supply] = {}
    for row in [row for row in fitting if row.spec.sampler == sampler] or fitting:
        assert row.supply is not None
        num_workers = row.spec.num_workers or 0
        found.setdefault(num_workers, Supply(num_workers=num_workers, time_per_example=row.supply.time_per_example))
    return tuple(found[number] for number in sorted(found))


def _waits_s(training: Iterable[TrialRecord]) -> dict[str, Estimate]:
    found: dict[str, list[float]] = {}
    for record in training:
        steps = steps_of(record).counted
        if record.status == "ok" and (waits := steps.known("data_wait_s")):
            found.setdefault(record.spec.family, []).append(sum(waits) / steps.total("num_examples"))
    return {family: mean(values) for family, values in found.items()}


def _powers_w(records: Iterable[TrialRecord]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for record in records:
        power_w = mean_power_w(record) if isinstance(record.spec, ComputeSpec | TrainingSpec) else None
        if power_w is not None:
            found.setdefault(record.spec.family, []).append(power_w)
    return {family: statistics.fmean(values) for family, values in found.items()}


def _levers_of_training(record: TrialRecord) -> tuple[Any, ...]:
    return tuple(getattr(record.spec, name) for name in CHEAPEST_FIRST if name != "num_workers")
