"""The factored design: measure one lever at a time, forecast every cell from these parts, and confirm a few cells.

The forecast for a cell is the centre's time multiplied by one ratio for each lever in which the cell differs. Each
ratio is measured with the other levers at the centre, so the number of trials grows with the sum of the axes, not with
their product. If the effects of levers do not multiply, the forecast errs, and the confirmations show by how much.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from vnbench.analysis.models.epoch_time import EpochTime
from vnbench.analysis.models.fit import FamilyFit, fit_families
from vnbench.analysis.models.step_fit import CONFIDENCE
from vnbench.analysis.statistics.estimate import Estimate
from vnbench.analysis.trials.loading import LoaderSummary, summarize_loading
from vnbench.analysis.trials.process import why_not_timed
from vnbench.batching.canvases import Size
from vnbench.batching.sizes import SizeArray
from vnbench.batching.subset import choose_subset
from vnbench.batching.trial_epoch import plan_measured
from vnbench.records.readings import ForecastReading
from vnbench.records.record import TrialRecord
from vnbench.records.spec.axes import COMPUTING_LEVERS, LOADER_FIELDS, LOADING_LEVERS
from vnbench.records.spec.precisions import REDUCED_PRECISIONS
from vnbench.records.spec.trial_spec import TrainingSpec, TrialSpec
from vnbench.request.config import SweepConfig
from vnbench.sweep.cells import Cell, axis_base, center_of, full_cells, reason_to_leave_out
from vnbench.sweep.design import loader_spec, memory_spec, training_spec
from vnbench.sweep.order import PlannedTrial

NUM_BEST = 3
"""Number of cells to confirm because they are forecast to be the fastest."""

NUM_RANDOM = 2
"""Number of cells to confirm at random: the forecasts of the fastest cells tend to be too fast."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CellForecast:
    """Forecast for one cell from trials of its parts."""

    cell: Cell
    """The cell."""
    spec: TrainingSpec
    """The training trial that would confirm it."""
    epoch: ForecastReading
    """Seconds for one epoch of the subset that such a trial measures."""
    valid_px_per_s: float
    """Valid pixels per second in that epoch."""
    time: EpochTime[float]
    """The epoch's time split into computing and loading."""
    is_extrapolated: bool
    """Whether some of its passes are smaller or larger than all timed passes."""


class Parts:
    """Measured parts of a sweep, from which the time of any cell can be forecast."""

    def __init__(
        self,
        config: SweepConfig,
        records: Sequence[TrialRecord],
        *,
        corpus_id: str,
        worst_case: Size,
        sizes_N2: SizeArray,
    ) -> None:
        """``sizes_N2`` holds height and width of the training examples in pixels."""
        self._config = config
        self._corpus_id = corpus_id
        self._worst_case = worst_case
        self._sizes_N2 = sizes_N2
        self._subset_N2 = sizes_N2[choose_subset(sizes_N2, subset_size=config.subset_size)]
        self._center = center_of(config)
        families, _ = fit_families(record for record in records if record.kind != "training")
        self._families = {family.family: family for family in families}
        rows = [row for row in summarize_loading(records) if row.supply is not None]
        self._loaders = {row.spec: row for row in rows}
        self._loaders_by_micro_batch = {row.spec.micro_batch_size: row for row in reversed(rows)}

    def forecast(self, cell: Cell) -> CellForecast | None:
        """Return the forecast for a cell; None if a part of it was not measured or failed."""
        base = self._family(replace(self._center, batch_size=cell.examples_per_pass, micro_batch_size=None))
        example_s = self._loading_s_per_example(cell)
        if base is None or example_s is None:
            return None
        spec = training_spec(cell, self._config, self._corpus_id, self._worst_case)
        plan = plan_measured(spec, self._sizes_N2)
        passes: list[float] = plan.padded_pixels_M.tolist()
        ratio = self._computing_ratio(cell, pixels_per_example=sum(passes) / len(plan.order_N))
        if ratio is None:
            return None
        saved_s = base.saved_s(num_passes=len(passes), num_steps=len(plan.passes_S))
        computing = base.fit.forecast(passes, less_s=saved_s)
        shapes = set(zip(plan.lengths_M.tolist(), map(tuple, plan.canvases_M2.tolist()), strict=True))
        new_shapes_s = len(shapes) * base.s_per_new_shape
        computing_s = ratio * (sum(map(base.fit.model.time_s, passes)) + new_shapes_s - saved_s)
        time = EpochTime(
            computing_s=computing_s, loading_s=len(plan.order_N) * example_s, has_workers=bool(cell.num_workers)
        )
        return CellForecast(
            cell=cell,
            spec=spec,
            epoch=_reading(time, computing, num_examples=len(plan.order_N)),
            time=time,
            valid_px_per_s=int(self._subset_N2.prod(axis=1).sum()) / time.total_s,
            is_extrapolated=any(map(base.fit.model.is_extrapolated, passes)),
        )

    def _family(self, cell: Cell) -> FamilyFit | None:
        spec = training_spec(cell, self._config, self._corpus_id, self._worst_case)
        return self._families.get(spec.family)

    def _computing_ratio(self, cell: Cell, *, pixels_per_example: float) -> float | None:
        """Return the factor of a cell's levers on computing time, one lever at a time, at the plan's mean size."""

        def time_s(other: Cell) -> float | None:
            family = self._family(other)
            return None if family is None else family.fit.model.time_s(other.examples_per_pass * pixels_per_example)

        if cell.precision not in REDUCED_PRECISIONS:
            # Without a reduced precision, norm_precision has no effect.
            cell = replace(cell, norm_precision=self._center.norm_precision)
        return self._ratio(cell, COMPUTING_LEVERS, time_s)

    def _loading_s_per_example(self, cell: Cell) -> float | None:
        def time_s(other: Cell) -> float | None:
            row = self._loaders.get(loader_spec(other, self._config, self._corpus_id, self._worst_case))
            return None if row is None else _supply_s(row)

        same_batch = replace(self._center, batch_size=cell.batch_size, micro_batch_size=cell.micro_batch_size)
        base_s = time_s(same_batch)
        if base_s is None:
            # The number of examples per pass matters to a loader; their grouping into steps hardly does.
            row = self._loaders_by_micro_batch.get(cell.examples_per_pass)
            base_s = None if row is None else _supply_s(row)
        if cell.num_workers == 0:
            cell = replace(cell, **{name: getattr(self._center, name) for name in LOADER_FIELDS if name != "cache"})
        ratio = self._ratio(cell, LOADING_LEVERS, time_s)
        return None if base_s is None or ratio is None else base_s * ratio

    def _ratio(self, cell: Cell, names: Iterable[str], time_s: Callable[[Cell], float | None]) -> float | None:
        product = 1.0
        for name in names:
            value = getattr(cell, name)
            if value == getattr(self._center, name):
                continue
            base = axis_base(name, self._center, self._config)
            changed_s, base_s = time_s(replace(base, **{name: value})), time_s(base)
            if changed_s is None or base_s is None:
                return None
            product *= changed_s / base_s
        return product


def forecast_cells(
    config: SweepConfig, records: Sequence[TrialRecord], *, corpus_id: str, worst_case: Size, sizes_N2: SizeArray
) -> tuple[CellForecast, ...]:
    """Return the forecasts of all meaningful cells in the product of the axes, the fastest first."""
    parts = Parts(config, records, corpus_id=corpus_id, worst_case=worst_case, sizes_N2=sizes_N2)
    num_measured = min(config.subset_size, len(sizes_N2))
    wanted = replace(config, kinds=("training",))
    cells = [
        cell for cell in full_cells(config) if reason_to_leave_out(cell, wanted, num_measured=num_measured) is None
    ]
    found = {forecast.spec: forecast for cell in cells if (forecast := parts.forecast(cell)) is not None}
    return tuple(sorted(found.values(), key=lambda one: one.valid_px_per_s, reverse=True))


def choose_confirmations(
    forecasts: Sequence[CellForecast], records: Sequence[TrialRecord], *, seed: int
) -> tuple[CellForecast, ...]:
    """Return the cells to confirm: the fastest that did not run out of memory, and some at random."""
    too_large = {(record.spec.lever_key, record.spec.micro_batch_size) for record in records if record.status == "oom"}

    def fits(one: CellForecast) -> bool:
        return not any(one.spec.lever_key == key and one.spec.micro_batch_size >= size for key, size in too_large)

    able = [one for one in forecasts if fits(one)]
    best, rest = able[:NUM_BEST], able[NUM_BEST:]
    drawn = random.Random(seed).sample(rest, min(NUM_RANDOM, len(rest)))
    return (*best, *drawn)


def confirming_trials(
    chosen: Iterable[CellForecast], config: SweepConfig, *, worst_case: Size
) -> tuple[PlannedTrial, ...]:
    """Return the trials that confirm cells: first the worst case of each family, then training."""
    chosen = tuple(chosen)
    memory = dict.fromkeys(memory_spec(one.cell, config, worst_case) for one in chosen)
    return tuple(
        PlannedTrial(spec=spec, replicate=0) for spec in (*sorted(memory, key=_by_size), *(one.spec for one in chosen))
    )


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


def confirmations(records: Iterable[TrialRecord]) -> tuple[Confirmation, ...]:
    """Return the training trials with a forecast and a valid timing."""
    found = []
    for record in records:
        if record.forecast is None or record.block is None or why_not_timed(record) is not None:
            continue
        num_epochs = record.block.num_examples / record.forecast.num_examples
        found.append(Confirmation(record=record, measured_s=record.block.wall_time_s / num_epochs))
    return tuple(found)


def _reading(time: EpochTime[float], computing: Estimate, *, num_examples: int) -> ForecastReading:
    """Return the time with an interval that has the relative width of the computing estimate's interval."""
    margin_s = computing.margin(CONFIDENCE)
    share = None if margin_s is None else margin_s / computing.value
    return ForecastReading(
        value_s=time.total_s,
        low_s=None if share is None else time.total_s - share * time.computing_s,
        high_s=None if share is None else time.total_s + share * time.computing_s,
        num_examples=num_examples,
    )


def _supply_s(row: LoaderSummary) -> float:
    assert row.supply is not None
    return row.supply.time_per_example.value


def _by_size(spec: TrialSpec) -> tuple[str, int]:
    return spec.lever_key, spec.micro_batch_size
