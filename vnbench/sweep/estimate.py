"""Estimates of how long trials take, from a probe of the machine and from the trials that have ended.

Without a probe, for example after it failed, the pace is a rough guess from other machines.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from vnbench.batching.alignment import align
from vnbench.batching.canvases import Size
from vnbench.batching.sizes import SizeArray
from vnbench.batching.trial_epoch import plan_measured
from vnbench.records.probe_reading import ProbeReading
from vnbench.records.record import TrialRecord
from vnbench.records.spec.precisions import REDUCED_PRECISIONS
from vnbench.records.spec.trial_spec import (
    ComputeSpec,
    ImagesSpec,
    LoaderSpec,
    MemorySpec,
    SnapshotSpec,
    TrainingSpec,
    TrialSpec,
)
from vnbench.records.spec.words import (
    Checkpointing,
    DeviceType,
    ModelName,
    NormPrecision,
    Precision,
)
from vnbench.units import mpx

START_UP_S: Mapping[DeviceType, float] = {"cuda": 8.0, "cpu": 0.3}
"""Seconds before a trial's first step; on CUDA for the context and the libraries' kernels."""

ROUGH_S_PER_MPX: Mapping[tuple[DeviceType, ModelName], float] = {
    ("cpu", "veernet-tiny"): 0.75,
    ("cpu", "veernet"): 6.0,
    ("cuda", "veernet-tiny"): 0.005,
    ("cuda", "veernet"): 0.01,
}
"""Seconds of training per megapixel, for a first guess only: measured on two CPU cores, and derived from the published
multiclass run (550 min for 50 epochs of 15,000 images of 4.5 Mpx on an unnamed GPU)."""

ROUGH_S_PER_PASS = 0.05
"""Seconds of a pass that do not depend on its pixels, for a first guess."""

CHECK_S, CHECK_PASSES = 0.2, 6
"""Cost of comparing one step with fp32 before a trial is timed: seconds, and passes over very few pixels."""

LARGE_CANVAS_FACTOR: Mapping[DeviceType, float] = {"cuda": 1.0, "cpu": 1.3}
"""Cost of an image's pixel relative to the probe's small canvases, because large maps do not fit into caches."""

FIRST_STEP_FACTOR = 1.4
"""Factor by which the first steps of a process take longer: kernels are prepared and the heap grows."""

CHECKPOINTING_FACTOR: Mapping[Checkpointing, float] = {"none": 1.0, "stages": 1.3, "selective": 1.15}
"""Factor for recomputing activations; an extra forward pass costs a third of forward and backward."""

NORM_FACTOR: Mapping[NormPrecision, float] = {"fp32": 1.0, "input": 0.9}
"""Factor for a step under autocast, by the precision of its norms."""

NEW_CANVAS_S = 0.25
"""Seconds that the first pass over a canvas adds on CUDA for cuDNN's plans."""

TRACED = "traced"
"""Sort of trials that compute nothing."""

TRACE_S = 1.5
"""Seconds to trace a step of any size, for a first guess."""

LOADING_S_PER_MPX = 0.01
"""Seconds for a core to decode and pad a megapixel of image and mask, for a first guess."""

MIN_EPOCH_PAIRS, MAX_EPOCH_PAIRS = 3, 20
"""Fewest and most pairs of epochs of a snapshot trial, with snapshots and without."""

NUM_LOADER_STAGES = 3
"""Average number of stages in a loader trial that decode."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedEpoch:
    """Amount of work in an epoch of a trial."""

    pixels: int
    """Padded pixels."""
    num_passes: int
    """Forward and backward passes."""
    largest_step_pixels: int
    """Padded pixels of the largest optimizer step."""
    num_canvases: int
    """Number of distinct canvases."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """The images of a sweep as work to do."""

    train_sizes_N2: SizeArray
    """Height and width in pixels of each training example."""
    worst_case: Size
    """Height and width in pixels of the worst-case example."""
    _planned: dict[str, PlannedEpoch] = field(default_factory=dict)

    @property
    def worst_case_pixels(self) -> int:
        """Pixels of the worst-case example after alignment."""
        height, width = self.worst_case
        return align(height) * align(width)

    def of_epoch(self, spec: ImagesSpec) -> PlannedEpoch:
        """Return the amount of work in an epoch of a trial."""
        if spec.spec_id not in self._planned:
            plan = plan_measured(spec, self.train_sizes_N2)
            self._planned[spec.spec_id] = PlannedEpoch(
                pixels=int(plan.padded_pixels_M.sum()),
                num_passes=len(plan.padded_pixels_M),
                largest_step_pixels=max(sum(one.padded_pixels for one in step) for step in plan.steps),
                num_canvases=len({(len(one.examples), *one.canvas) for step in plan.steps for one in step}),
            )
        return self._planned[spec.spec_id]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """Speed of training on a machine."""

    s_per_mpx: Mapping[Precision, float]
    """Seconds of forward, backward and update per megapixel of a warm canvas, by precision."""
    s_per_pass: float
    """Seconds of a pass that do not depend on its pixels: launching its operators."""
    is_probed: bool
    """Whether the pace comes from a probe of this machine."""

    @classmethod
    def rough(cls, spec: TrialSpec) -> Pace:
        """Return a first guess at the pace of a spec's network; for a user's own network, that of ``veernet``."""
        guess = next(
            (guess for known, guess in ROUGH_S_PER_MPX.items() if known == (spec.device, spec.model)),
            ROUGH_S_PER_MPX[spec.device, "veernet"],
        )
        return cls(s_per_mpx={spec.precision: guess}, s_per_pass=ROUGH_S_PER_PASS, is_probed=False)

    @classmethod
    def of(cls, probe: ProbeReading) -> Pace:
        """Return the pace from a probe: a line through the last steps on the smallest and on the largest canvas.

        Only the fastest precision ran on both canvases. For the others, the slope is scaled by the ratio of their step
        time to the fastest one's on the smallest canvas or, if they were too slow for a step, by the ratio of
        convolution times. Without a warm step, the first step counts.
        """
        last_s = {(step.precision, step.padded_pixels): step.seconds for step in probe.steps}
        base = probe.steps[0].precision
        sizes = sorted({pixels for precision, pixels in last_s if precision == base})
        small, large = sizes[0], sizes[-1]
        small_s, large_s = last_s[base, small], last_s[base, large]
        slope = (large_s - small_s) / mpx(large - small) if large > small else 0.0
        if slope <= 0:
            slope = large_s / mpx(large)
        ratios = {one: seconds / probe.convolution_s[base] for one, seconds in probe.convolution_s.items()}
        ratios |= {precision: seconds / small_s for (precision, pixels), seconds in last_s.items() if pixels == small}
        return cls(
            s_per_mpx={precision: slope * ratio for precision, ratio in ratios.items()},
            s_per_pass=max(0.0, small_s - slope * mpx(small)),
            is_probed=True,
        )

    @property
    def check_s(self) -> float:
        """Seconds to compare one step with fp32."""
        return CHECK_S + CHECK_PASSES * self.s_per_pass

    def training_s(self, spec: TrialSpec, pixels: float, *, num_passes: int) -> float:
        """Return the seconds to train ``num_passes`` passes over ``pixels`` pixels in all with the spec's settings."""
        known = self.s_per_mpx.get(spec.precision, statistics.fmean(self.s_per_mpx.values()))
        norm = NORM_FACTOR[spec.norm_precision] if spec.precision in REDUCED_PRECISIONS else 1.0
        large = LARGE_CANVAS_FACTOR[spec.device] if self.is_probed else 1.0
        per_pixel = mpx(pixels) * known * large * norm
        return (num_passes * self.s_per_pass + per_pixel) * CHECKPOINTING_FACTOR[spec.checkpointing]


def trial_s(spec: TrialSpec, workload: Workload, pace: Pace) -> float:
    """Return the estimated seconds of a trial, including its process."""
    return START_UP_S[spec.device] + _measuring_s(spec, workload, pace)


def _measuring_s(spec: TrialSpec, workload: Workload, pace: Pace) -> float:
    match spec:
        case MemorySpec():
            return _memory_s(spec, workload, pace)
        case ComputeSpec():
            return _compute_s(spec, pace)
        case LoaderSpec():
            return _loader_s(spec, workload)
        case SnapshotSpec():
            return _snapshot_s(spec, workload, pace)
        case TrainingSpec():
            return _training_s(spec, workload, pace)
        case _:
            raise ValueError(f"the time of a {spec.kind} is not estimated")


def _memory_s(spec: MemorySpec, workload: Workload, pace: Pace) -> float:
    if spec.is_traced:
        return TRACE_S
    pixels = spec.micro_batch_size * workload.worst_case_pixels
    num_steps = 2 if spec.device == "cuda" else 1
    # Two passes over very few pixels come first.
    return FIRST_STEP_FACTOR * (num_steps * pace.training_s(spec, pixels, num_passes=1) + 2 * pace.s_per_pass)


def _compute_s(spec: ComputeSpec, pace: Pace) -> float:
    area = spec.batch_size * sum(align(height) * align(width) for height, width in spec.canvas_sizes)
    once_s = pace.training_s(spec, area, num_passes=len(spec.canvas_sizes))
    num_steps = spec.min_steps
    if spec.loop != "own":
        # Each pair of the own loop and the framework's takes two steps, and there are as many as time allows.
        num_steps += 2 * min(spec.max_steps, int(len(spec.canvas_sizes) * spec.max_measuring_s / once_s) + 1)
    return pace.check_s + (FIRST_STEP_FACTOR * spec.num_warm_up_steps + num_steps) * once_s


def _loader_s(spec: LoaderSpec, workload: Workload) -> float:
    once_s = mpx(workload.of_epoch(spec).pixels) * LOADING_S_PER_MPX
    # Each stage ends when its time is known well enough or its limit is reached.
    return once_s + NUM_LOADER_STAGES * max(once_s, spec.max_measuring_s / 2)


def _training_s(spec: TrainingSpec, workload: Workload, pace: Pace) -> float:
    epoch = workload.of_epoch(spec)
    warm_up_step_s = pace.training_s(spec, epoch.largest_step_pixels, num_passes=spec.accumulation_steps)
    epoch_s = pace.training_s(spec, epoch.pixels, num_passes=epoch.num_passes)
    new_canvases_s = epoch.num_canvases * NEW_CANVAS_S if spec.device == "cuda" else 0.0
    visits_s = new_canvases_s + (epoch_s if spec.visits_shapes else 0.0)
    num_epochs = spec.max_epochs or 1
    if spec.max_measuring_s is not None:
        # The epoch in which the time runs out is finished.
        num_epochs = min(num_epochs, int(spec.max_measuring_s // epoch_s) + 1)
    warm_up_s = FIRST_STEP_FACTOR * spec.num_warm_up_steps * warm_up_step_s
    return pace.check_s + warm_up_s + visits_s + num_epochs * epoch_s


def _snapshot_s(spec: SnapshotSpec, workload: Workload, pace: Pace) -> float:
    """Return the seconds of an epoch of new shapes, of pairs of epochs, and of an epoch in a fresh process."""
    epoch = workload.of_epoch(spec)
    epoch_s = pace.training_s(spec, epoch.pixels, num_passes=epoch.num_passes)
    num_pairs = min(MAX_EPOCH_PAIRS, MIN_EPOCH_PAIRS + int((spec.max_measuring_s or 0.0) // (2 * epoch_s)))
    return 2 * FIRST_STEP_FACTOR * epoch_s + 2 * num_pairs * epoch_s + START_UP_S[spec.device]


class TrialTimes:
    """Estimates of trial times that learn from finished trials."""

    def __init__(self, *, workload: Workload, pace: Pace, finished: Iterable[TrialRecord] = ()) -> None:
        """``finished`` holds earlier trials of the same images on the same machine."""
        self.pace = pace
        """The pace that estimates start from."""
        self._workload = workload
        self._took: dict[str, list[tuple[float, float]]] = {}
        self._own: dict[str, list[float]] = {}
        for record in finished:
            self.learn(record)

    def learn(self, record: TrialRecord) -> None:
        """Learn from a trial's time; a skipped trial has none."""
        if record.status != "skipped":
            guess_s = trial_s(record.spec, self._workload, self.pace)
            self._took.setdefault(_sort(record.spec), []).append((record.elapsed_s, guess_s))
            self._own.setdefault(record.spec_id, []).append(record.elapsed_s)

    def of(self, spec: TrialSpec) -> float:
        """Return the estimated seconds of a trial: the mean of earlier runs if its spec has run.

        Otherwise the first estimate is scaled by the ratio of actual to estimated time of finished trials of its kind
        or, if there are none, of all other kinds. Traces compute nothing, so they are scaled by traces alone.
        """
        if spec.spec_id in self._own:
            return statistics.fmean(self._own[spec.spec_id])
        return self._factor(_sort(spec)) * trial_s(spec, self._workload, self.pace)

    def _factor(self, sort: str) -> float:
        computed = [pair for other, pairs in self._took.items() for pair in pairs if other != TRACED]
        pairs = self._took.get(sort) or ([] if sort == TRACED else computed)
        return sum(took_s for took_s, _ in pairs) / sum(guess_s for _, guess_s in pairs) if pairs else 1.0

    def total(self, specs: Iterable[TrialSpec]) -> float:
        """Return the estimated seconds of some trials together."""
        return sum(map(self.of, specs))


def _sort(spec: TrialSpec) -> str:
    """Return the group of trials whose times predict each other; traced steps, never computed, are one group."""
    return TRACED if spec.is_traced else spec.kind
