"""Confirm forecasts of a factored design: train chosen cells, each in direct succession to the centre.

The forecast of a confirmation takes the epoch of the centre that ran just before it, so that drift of the machine
affects both alike.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from vnbench.analysis.trials.process import why_not_timed
from vnbench.batching.canvases import Size
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import TrainingSpec, TrialSpec
from vnbench.request.config import SweepConfig
from vnbench.sweep.design import memory_spec
from vnbench.sweep.factored import CellForecast, epoch_s
from vnbench.sweep.loop import DueTrial
from vnbench.sweep.order import PlannedTrial

NUM_BEST = 3
"""Number of cells to confirm because they are forecast to be the fastest."""

NUM_RANDOM = 2
"""Number of cells to confirm at random: the forecasts of the fastest cells tend to be too fast."""


def choose_confirmations(
    forecasts: Sequence[CellForecast], records: Sequence[TrialRecord], *, center: TrainingSpec, seed: int
) -> tuple[CellForecast, ...]:
    """Return the cells to confirm: the fastest that did not run out of memory, and some at random.

    The centre is not among them: it is trained beside each.
    """
    too_large = {(record.spec.lever_key, record.spec.micro_batch_size) for record in records if record.status == "oom"}

    def fits(one: CellForecast) -> bool:
        return not any(one.spec.lever_key == key and one.spec.micro_batch_size >= size for key, size in too_large)

    able = [one for one in forecasts if one.spec != center and fits(one)]
    best, rest = able[:NUM_BEST], able[NUM_BEST:]
    drawn = random.Random(seed).sample(rest, min(NUM_RANDOM, len(rest)))
    return (*best, *drawn)


def confirming_trials(
    chosen: Sequence[CellForecast], config: SweepConfig, *, worst_case: Size
) -> tuple[PlannedTrial, ...]:
    """Return the trials that confirm cells: first the worst case of each family, then rounds of training all cells."""
    memory = dict.fromkeys(memory_spec(one.cell, config, worst_case) for one in chosen)
    trials = [PlannedTrial(spec=spec, replicate=0) for spec in sorted(memory, key=_by_size)]
    for replicate in range(config.replicates):
        order = random.Random(f"{config.seed}/{replicate}").sample(chosen, len(chosen))
        trials += [PlannedTrial(spec=one.spec, replicate=replicate) for one in order]
    return tuple(trials)


def with_centers(
    due: Iterable[DueTrial], *, center: TrainingSpec, records: Iterable[TrialRecord]
) -> Iterator[DueTrial]:
    """Yield the trials that are due, each training behind a new process of the centre.

    ``records`` hold the earlier processes. Those of an interrupted sweep are too old to stand beside what it left.
    """
    replicate = max((record.replicate for record in records if record.spec == center), default=-1)
    for trial in due:
        if trial.planned.spec.kind == "training":
            replicate += 1
            yield DueTrial(planned=PlannedTrial(spec=center, replicate=replicate), attempt=0)
        yield trial


@dataclass(frozen=True, kw_only=True, slots=True)
class Confirmation:
    """A forecast and the later measurement."""

    record: TrialRecord
    """The training trial, with its forecast."""
    measured_s: float
    """Measured seconds per epoch of its subset."""

    @property
    def error(self) -> float:
        """Relative error: forecast / measured - 1."""
        assert self.record.forecast is not None
        return self.record.forecast.value_s / self.measured_s - 1

    @property
    def is_inside(self) -> bool | None:
        """Whether the measurement lies inside the forecast's interval; None without an interval."""
        forecast = self.record.forecast
        if forecast is None or forecast.low_s is None or forecast.high_s is None:
            return None
        return forecast.low_s <= self.measured_s <= forecast.high_s


def confirmations(records: Iterable[TrialRecord]) -> tuple[Confirmation, ...]:
    """Return the training trials with a forecast and a valid timing."""
    return tuple(
        Confirmation(record=record, measured_s=epoch_s(record, num_examples=record.forecast.num_examples))
        for record in records
        if record.forecast is not None and record.block is not None and why_not_timed(record) is None
    )


def _by_size(spec: TrialSpec) -> tuple[str, int]:
    return spec.lever_key, spec.micro_batch_size
