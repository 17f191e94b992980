"""The factored design: measure one lever at a time, forecast every cell from these parts, and confirm a few cells.

The forecast for a cell is the centre's time multiplied by one ratio for each lever in which the cell differs. Each
ratio is measured with the other levers at the centre, so the number of trials grows with the sum of the axes, not with
their product. A lever may matter more in large passes than in small ones, so levers of computing are also measured at
the smallest and the largest batch (cells.varied_batches), and their ratios interpolated between. If the effects of
levers do not multiply otherwise, the forecast errs, and the confirmations show by how much.

A compute trial stands beside one of the centre and counts as a ratio to it, so that drift of the machine cancels. Once
the centre has been trained, its measured epoch takes the place of the one composed from its parts. What training
takes beyond its parts, and what the machine's speed has drifted by since they were timed, cancels too.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from vnbench.analysis.comparison.sweep_spread import ASSUMED_ROW_SPREAD
from vnbench.analysis.models.epoch_time import EpochTime
from vnbench.analysis.models.fit import NO_EXTRA, FamilyFit, NewShape, fit_families
from vnbench.analysis.models.run_time import EpochPasses
from vnbench.analysis.models.step_fit import ASSUMED_BETWEEN, CONFIDENCE
from vnbench.analysis.statistics.estimate import Estimate, student_t, sum_of_variances
from vnbench.analysis.statistics.process_spread import Spread, spread_of
from vnbench.analysis.trials.loading import LoaderSummary, summarize_loading
from vnbench.analysis.trials.noise import measure_noise, process_figure
from vnbench.analysis.trials.process import measured_at_s, why_not_timed
from vnbench.batching.canvases import Size
from vnbench.batching.plan import BatchPlan
from vnbench.batching.sizes import SizeArray
from vnbench.batching.subset import choose_subset
from vnbench.batching.trial_epoch import plan_measured
from vnbench.records.readings import ForecastReading
from vnbench.records.record import TrialRecord
from vnbench.records.spec.axes import COMPUTING_LEVERS, LOADER_FIELDS, LOADING_LEVERS
from vnbench.records.spec.precisions import REDUCED_PRECISIONS
from vnbench.records.spec.trial_spec import TrainingSpec
from vnbench.request.config import SweepConfig
from vnbench.sweep.cells import Cell, axis_base, center_of, full_cells, reason_to_leave_out, varied_batches
from vnbench.sweep.design import loader_spec, training_spec

Part = FamilyFit | LoaderSummary
"""A measured part: the computing of a family, or a loader."""

NUM_BESIDE = 2
"""Number of the centre's processes that a compute trial is compared with, the nearest in time. In simulated sweeps
whose processes differ by 3 %, on a machine that drifts by as much from one trial to the next, forecasts were off by
5.5 % in the median with two of them, and by 6.5 % with one."""

MIN_NEIGHBOURS = 4
"""Fewest processes of the centre's training whose differences tell how much a training differs from the next."""

Powers = Mapping[int, float]
"""The power with which each part enters a product, by the part's id."""


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
    """The epoch composed of its parts: computing and loading."""
    is_extrapolated: bool
    """Whether some of its passes are smaller or larger than all timed passes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Composed:
    """An epoch as its parts tell it."""

    time: EpochTime[float]
    powers: dict[int, float]
    """How many percent the epoch changes with one percent of each part, by the part's id."""
    plan: BatchPlan
    is_extrapolated: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class _Computing:
    """What the levers of a cell change of the centre's computing."""

    ratio: float
    """Factor on the time of a step."""
    new_shape: NewShape
    """What a step of a new shape takes longer than the centre's. It is added, not multiplied: a shape takes a CPU more
    time to prepare in bf16 than in fp32, whose steps take longer."""
    powers: Powers
    """The parts behind the factor."""


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
        self._noise = measure_noise(records)
        self._center_family = self._training(self._center).family
        parts = beside_center([record for record in records if record.kind != "training"], self._center_family)
        self._spread = _spread_of_pairs(record for record in parts if record.spec.family != self._center_family)
        families, _ = fit_families(parts, noise=self._noise)
        self._families = {family.family: family for family in families}
        rows = [row for row in summarize_loading(records) if row.supply is not None]
        self._loaders = {row.spec: row for row in rows}
        self._loaders_by_micro_batch = {row.spec.micro_batch_size: row for row in reversed(rows)}
        self._parts: dict[int, Part] = {id(family): family for family in families}
        self._parts.update((id(row), row) for row in rows)
        self._of_center = self._compose(self._center)

    @property
    def center(self) -> TrainingSpec:
        """The training trial of the centre."""
        return self._training(self._center)

    def forecast(
        self, cell: Cell, *, anchors: Sequence[TrialRecord] = (), trained: Sequence[TrialRecord] = ()
    ) -> CellForecast | None:
        """Return the forecast for a cell; None if a part of it was not measured or failed.

        ``anchors`` are timed training trials of the centre. Without any, the forecast is composed of the parts alone.
        ``trained`` are all of them so far, in order: how much one differs from the next tells how much trainings do.
        """
        composed = self._compose(cell)
        if composed is None:
            return None
        value_s, powers, num_trained = composed.time.total_s, composed.powers, 0
        if anchors and (of_center := self._of_center) is not None:
            num_trained = len(anchors)
            epochs_s = [epoch_s(record, num_examples=len(of_center.plan.order_N)) for record in anchors]
            value_s *= math.exp(fmean(map(math.log, epochs_s))) / of_center.time.total_s
            powers = _sum((powers, 1.0), (of_center.powers, -1.0))
        margin = self._margin(powers, composed.plan, num_trained=num_trained, trained=trained)
        return CellForecast(
            cell=cell,
            spec=self._training(cell),
            epoch=ForecastReading(
                value_s=value_s,
                low_s=value_s * math.exp(-margin),
                high_s=value_s * math.exp(margin),
                num_examples=len(composed.plan.order_N),
            ),
            time=composed.time,
            valid_px_per_s=int(self._subset_N2.prod(axis=1).sum()) / value_s,
            is_extrapolated=composed.is_extrapolated,
        )

    def forecast_all(self, records: Iterable[TrialRecord] = ()) -> tuple[CellForecast, ...]:
        """Return the forecasts of all meaningful cells in the product of the axes, the fastest first.

        The centre's trainings among ``records`` are their anchors.
        """
        anchors = timed_trainings(records, self.center)
        num_measured = min(self._config.subset_size, len(self._sizes_N2))
        wanted = replace(self._config, kinds=("training",))
        cells = [
            cell
            for cell in full_cells(self._config)
            if reason_to_leave_out(cell, wanted, num_measured=num_measured) is None
        ]
        forecasts = (self.forecast(cell, anchors=anchors, trained=anchors) for cell in cells)
        found = {forecast.spec: forecast for forecast in forecasts if forecast is not None}
        return tuple(sorted(found.values(), key=lambda one: one.valid_px_per_s, reverse=True))

    def _training(self, cell: Cell) -> TrainingSpec:
        return training_spec(cell, self._config, self._corpus_id, self._worst_case)

    def _compose(self, cell: Cell) -> _Composed | None:
        base = self._family(self._same_pass(cell))
        plan = plan_measured(self._training(cell), self._sizes_N2)
        passes: list[float] = plan.padded_pixels_M.tolist()
        computing = self._computing_levers(cell, pixels_per_example=sum(passes) / len(plan.order_N))
        loading = self._loading_per_example(cell)
        if base is None or computing is None or loading is None:
            return None
        saved_s = base.saved_s(num_passes=len(passes), num_steps=len(plan.passes_S))
        new_shape = base.new_shape_of_training.plus(computing.new_shape, weight=1.0)
        new_shapes_s = new_shape.total_s(EpochPasses.of(plan).shape_pixels_K)
        example_s, loading_powers = loading
        time = EpochTime(
            computing_s=computing.ratio * sum(map(base.fit.model.time_s, passes)) + new_shapes_s - saved_s,
            loading_s=len(plan.order_N) * example_s,
            has_workers=bool(cell.num_workers),
        )
        # With workers the total is the longer of the two.
        is_bound = time.has_workers and time.loading_s > time.computing_s
        share = (not is_bound) if time.has_workers else time.computing_s / time.total_s
        return _Composed(
            time=time,
            powers=_sum(({id(base): 1.0}, share), (computing.powers, share), (loading_powers, 1 - share)),
            plan=plan,
            is_extrapolated=any(map(base.fit.model.is_extrapolated, passes)),
        )

    def _same_pass(self, cell: Cell) -> Cell:
        """Return the centre with the passes of a cell."""
        return replace(self._center, batch_size=cell.examples_per_pass, micro_batch_size=None)

    def _family(self, cell: Cell) -> FamilyFit | None:
        return self._families.get(self._training(cell).family)

    def _computing_levers(self, cell: Cell, *, pixels_per_example: float) -> _Computing | None:
        """Return what a cell's levers change of computing, one lever at a time, at the plan's mean size."""
        if cell.precision not in REDUCED_PRECISIONS:
            # Without a reduced precision, norm_precision has no effect.
            cell = replace(cell, norm_precision=self._center.norm_precision)
        ratio, new_shape, powers = 1.0, NO_EXTRA, dict[int, float]()
        for name in COMPUTING_LEVERS:
            value = getattr(cell, name)
            if value == getattr(self._center, name):
                continue
            known: dict[int, tuple[FamilyFit, FamilyFit]] = {}
            for batch_size in varied_batches(self._config):
                base = replace(self._center, batch_size=batch_size, micro_batch_size=None)
                changed, unchanged = self._family(replace(base, **{name: value})), self._family(base)
                if changed is not None and unchanged is not None:
                    known[batch_size] = changed, unchanged
            if not known:
                return None
            for batch_size, weight in _weights(cell.examples_per_pass, sorted(known)):
                changed, unchanged = known[batch_size]
                pixels = batch_size * pixels_per_example
                ratio *= (changed.fit.model.time_s(pixels) / unchanged.fit.model.time_s(pixels)) ** weight
                new_shape = new_shape.plus(changed.new_shape_of_training, weight=weight)
                new_shape = new_shape.plus(unchanged.new_shape_of_training, weight=-weight)
                powers = _sum((powers, 1.0), ({id(changed): 1.0, id(unchanged): -1.0}, weight))
        return _Computing(ratio=ratio, new_shape=new_shape, powers=powers)

    def _loading_per_example(self, cell: Cell) -> tuple[float, Powers] | None:
        """Return the seconds of loading an example: those of the centre's loader times a ratio per lever."""
        same_batch = replace(self._center, batch_size=cell.batch_size, micro_batch_size=cell.micro_batch_size)
        # The number of examples per pass matters to a loader; their grouping into steps hardly does.
        base = self._loader(same_batch) or self._loaders_by_micro_batch.get(cell.examples_per_pass)
        if base is None:
            return None
        if cell.num_workers == 0:
            cell = replace(cell, **{name: getattr(self._center, name) for name in LOADER_FIELDS if name != "cache"})
        example_s, powers = _supply_s(base), {id(base): 1.0}
        for name in LOADING_LEVERS:
            value = getattr(cell, name)
            if value == getattr(self._center, name):
                continue
            at = axis_base(name, self._center, self._config)
            changed, unchanged = self._loader(replace(at, **{name: value})), self._loader(at)
            if changed is None or unchanged is None:
                return None
            example_s *= _supply_s(changed) / _supply_s(unchanged)
            powers = _sum((powers, 1.0), ({id(changed): 1.0}, 1.0), ({id(unchanged): 1.0}, -1.0))
        return example_s, powers

    def _loader(self, cell: Cell) -> LoaderSummary | None:
        return self._loaders.get(loader_spec(cell, self._config, self._corpus_id, self._worst_case))

    def _margin(self, powers: Powers, plan: BatchPlan, *, num_trained: int, trained: Sequence[TrialRecord]) -> float:
        """Return half the width of the interval of a forecast's logarithm for one new process.

        Its variances: of the fits, of the processes behind each part, of the training to come and those of the centre
        beside it, and of what a single configuration differs by from one sweep to another. What whole sweeps differ by
        is not among them: all that a forecast compares belongs to one sweep.
        """
        compute = self._process_variance()
        training = _variance_of_neighbours(trained) or compute
        variances = [(ASSUMED_ROW_SPREAD**2, math.inf), _times(training, 1 + (1 / num_trained if num_trained else 0))]
        num_processes = 0.0
        pixels_C, counts_C = np.unique(plan.padded_pixels_M / plan.lengths_M, return_counts=True)
        loader = self._noise.spread_for("loader")
        for key, power in powers.items():
            part = self._parts[key]
            if isinstance(part, FamilyFit):
                errors = part.fit.forecast_parts(pixels_C * part.spec.micro_batch_size, counts_C)
                variances.append((power**2 * (errors.coefficients**2 + errors.sizes**2), errors.dof))
                if part.family != self._center_family:
                    # A process of the part, and those of the centre beside it.
                    num_processes += (1 + 1 / NUM_BESIDE) * power**2 / part.fit.num_processes
            elif loader is not None:
                variances.append((power**2 * loader.relative**2 / part.num_processes, loader.degrees_of_freedom))
        variance, dof = sum_of_variances([*variances, _times(compute, num_processes)])
        return student_t(dof, CONFIDENCE) * math.sqrt(variance)

    def _process_variance(self) -> tuple[float, float]:
        """Return the variance of a process's time, without drift of the machine, and its degrees of freedom."""
        if self._spread is not None:
            return self._spread.relative**2 / (1 + 1 / NUM_BESIDE), self._spread.degrees_of_freedom
        spread = self._noise.spread_for("compute")
        return (ASSUMED_BETWEEN**2, math.inf) if spread is None else (spread.relative**2, spread.degrees_of_freedom)


def beside_center(records: Sequence[TrialRecord], family: str) -> tuple[TrialRecord, ...]:
    """Return the records with the times of compute trials as if the centre, of this family, took its mean time.

    Each is multiplied by the mean of the centre's processes over that of the NUM_BESIDE nearest in time, so that drift
    of the machine cancels, and so does what changed while a sweep was interrupted.
    """
    centers = {
        measured_at_s(record): math.log(figure.value)
        for record in records
        if record.kind == "compute" and record.spec.family == family and (figure := process_figure(record))
    }
    if not centers:
        return tuple(records)
    mean = fmean(centers.values())

    def beside(record: TrialRecord) -> TrialRecord:
        at_s = measured_at_s(record)
        nearest = sorted(centers, key=lambda one: abs(one - at_s))[:NUM_BESIDE]
        return _slowed(record, math.exp(mean - fmean(centers[one] for one in nearest)))

    return tuple(beside(record) if record.kind == "compute" else record for record in records)


def _slowed(record: TrialRecord, factor: float) -> TrialRecord:
    """Return a compute trial with all of its times multiplied."""
    steps = record.steps and {
        name: tuple(value if value is None else factor * value for value in column) if name.endswith("_s") else column
        for name, column in record.steps.items()
    }
    canvases = tuple(replace(one, first_seen_s=factor * one.first_seen_s) for one in record.canvases)
    return replace(record, steps=steps, canvases=canvases)


def _spread_of_pairs(records: Iterable[TrialRecord]) -> Spread | None:
    """Return the spread of compute trials over that of the centre beside them; None without repeats."""
    figures: dict[str, list[Estimate]] = {}
    for record in records:
        if record.kind == "compute" and (figure := process_figure(record)) is not None:
            figures.setdefault(record.spec_id, []).append(figure)
    return spread_of([[processes] for processes in figures.values()])


def timed_trainings(records: Iterable[TrialRecord], spec: TrainingSpec) -> tuple[TrialRecord, ...]:
    """Return the training trials of a spec with a valid timing."""
    return tuple(record for record in records if record.spec == spec and record.block and why_not_timed(record) is None)


def epoch_s(record: TrialRecord, *, num_examples: int) -> float:
    """Return the measured seconds of an epoch of so many examples in a timed training trial."""
    assert record.block is not None
    return record.block.wall_time_s * num_examples / record.block.num_examples


def _variance_of_neighbours(trained: Sequence[TrialRecord]) -> tuple[float, float] | None:
    """Return the variance of a training process's time, without drift, and its degrees of freedom; None below four.

    It is half the mean square of the differences between neighbours, whose drift is small (von Neumann and others, The
    mean square successive difference, Annals of Mathematical Statistics 12 (1941)); two of three are independent.
    """
    logs = [math.log(record.block.wall_time_s / record.block.num_examples) for record in trained if record.block]
    if len(logs) < MIN_NEIGHBOURS:
        return None
    squares = [(after - before) ** 2 for before, after in itertools.pairwise(logs)]
    return fmean(squares) / 2, 2 / 3 * len(squares)


def _times(variance: tuple[float, float], factor: float) -> tuple[float, float]:
    return factor * variance[0], variance[1]


def _supply_s(row: LoaderSummary) -> float:
    assert row.supply is not None
    return row.supply.time_per_example.value


def _sum(*terms: tuple[Powers, float]) -> dict[int, float]:
    """Return the sum of powers, each times a factor."""
    total: dict[int, float] = {}
    for powers, factor in terms:
        for key, power in powers.items():
            total[key] = total.get(key, 0.0) + factor * power
    return total


def _weights(size: int, known: Sequence[int]) -> tuple[tuple[int, float], ...]:
    """Return the weights of the known sizes, ascending, for a linear interpolation in the logarithm; ends are kept."""
    for low, high in itertools.pairwise(known):
        if low < size < high:
            share = math.log(size / low) / math.log(high / low)
            return (low, 1 - share), (high, share)
    return ((min(known, key=lambda one: abs(one - size)), 1.0),)
