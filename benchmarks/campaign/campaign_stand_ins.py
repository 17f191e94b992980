"""Stand-ins for trials on a GPU: their assumed time and memory, and a clock that they advance.

The time of a pass is the time for its pixels, by precision, plus the time for its norms' statistics. CUDA's kernel
reduces each group of each example in one block, and the examples of a pass in parallel, so that this part grows with
the canvas and not with the batch, as long as there are more multiprocessors than groups.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from vnbench.batching.alignment import align
from vnbench.records.machine_keys import Environment
from vnbench.records.readings import MemoryReading
from vnbench.records.record import Cause, Status, TrialRecord
from vnbench.records.spec.precisions import REDUCED_PRECISIONS
from vnbench.records.spec.trial_spec import ComputeSpec, LoaderSpec, MemorySpec, TrainingSpec, TrialSpec
from vnbench.records.task import TrialTask
from vnbench.sweep.estimate import Pace, Workload, trial_s
from vnbench.units import mpx

WORST_CASE_MPX = mpx(640 * 12_800)
"""Canvas to which the durations apply, in megapixels."""

GIB = 2**30

LARGE_TENSOR = 2**31
"""Elements from which a pass is compared with smaller ones before it is timed."""

CHANNELS = 32
"""Channels of the largest map, at full resolution: the upsampled map concatenated with the skip."""

USUAL_GROUPS = 2
"""Maximum number of groups of a norm with the rule half-or-16."""

SPLIT_BLOCKS = 132
"""Multiprocessors of an H200, all of which the split norm uses."""


class Clock:
    """A clock that stands still until it is advanced."""

    def __init__(self) -> None:
        self._now_s = 0.0

    def __call__(self) -> float:
        """Return the seconds so far."""
        return self._now_s

    def pass_s(self, seconds: float) -> None:
        """Advance the clock by ``seconds``."""
        self._now_s += seconds


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """Assumptions about a machine, from the table [assumed] of a definition."""

    source: str
    """Origin of the figures."""
    cores: int
    """CPU cores, which draw images."""
    card_gib: float
    """Memory of the GPU that trials can use."""
    sweep_s: float
    """Seconds until a sweep knows the machine: its process, imports, and the process that examines the machine."""
    probe_s: float
    """Seconds of a sweep's probe with a few small steps."""
    end_s: float
    """Seconds from the last trial of a sweep to the end of its process."""
    trial_s: float
    """Seconds of a trial before its first step: the process, the CUDA context, the libraries' kernels."""
    check_s: float
    """Seconds to compare a step with fp32 before it is timed."""
    compile_s: float
    """Seconds for torch.compile to make the kernels of one shape."""
    drawing_core_s_per_mpx: float
    """Seconds for one core to draw and encode a megapixel."""
    worst_case_ms: Mapping[str, float]
    """Milliseconds of a step on one worst-case image without its norms' statistics, by precision."""
    norm_ms: float
    """Milliseconds of the norms' statistics in that step, at one or two groups, for any number of images in the
    pass."""
    checkpointing_factor: float
    """Factor on the time of a step with recomputation."""
    worst_case_gib: Mapping[str, float]
    """Memory of that step by precision and norm precision: fp32, bf16/fp32, bf16/input."""
    checkpointed_share: float
    """Share of that memory with checkpointing of the stages."""

    def lines(self) -> Iterator[str]:
        """Yield the figures, one per line."""
        for one in fields(self):
            if one.name != "source":
                value = getattr(self, one.name)
                told = ", ".join(f"{k} {v:g}" for k, v in value.items()) if isinstance(value, dict) else f"{value:g}"
                yield f"{one.name} {told}"

    def environment(self) -> Environment:
        """Return the environment that a sweep sees."""
        return {"device_type": "cuda", "num_cpus": self.cores, "native_precisions": list(self.worst_case_ms)}

    def drawing_s(self, pixels: int) -> float:
        """Return the seconds for all cores to draw ``pixels`` pixels of images."""
        return mpx(pixels) * self.drawing_core_s_per_mpx / self.cores


def read_assumptions(campaign: Path) -> Assumptions:
    """Return the assumptions of a definition.

    Raises:
        ValueError: the table [assumed] is missing or does not have the right figures.
    """
    table = tomllib.loads(campaign.read_text(encoding="utf-8")).get("assumed")
    if table is None:
        raise ValueError("a rehearsal needs the table [assumed]")
    try:
        return Assumptions(**table)
    except TypeError as error:
        raise ValueError(f"[assumed]: {error}") from error


class Machine:
    """Time and memory of one sweep's trials on the assumed machine."""

    def __init__(self, assumed: Assumptions, workload: Workload) -> None:
        self._assumed = assumed
        self._workload = workload

    def pace(self) -> Pace:
        """Return the pace that a sweep's probe would find, on canvases of up to half a worst-case image."""
        norm_ms = self._assumed.norm_ms
        rates = {one: (ms + norm_ms) / 1000 / WORST_CASE_MPX for one, ms in self._assumed.worst_case_ms.items()}
        return Pace(s_per_mpx=dict(rates), s_per_pass=0.02, is_probed=True)  # type: ignore[arg-type]

    def record(self, task: TrialTask) -> TrialRecord:
        """Return the record of a trial with its status, memory and duration."""
        spec = task.spec
        need_gib = self._memory_gib(spec)
        fits = need_gib <= self._assumed.card_gib
        status: Status = "ok" if fits else "oom"
        return TrialRecord(
            spec=spec,
            replicate=task.replicate,
            attempt=task.attempt,
            status=status,
            cause=None if fits else Cause(kind="torch-out-of-memory", message="assumed"),
            environment={},
            started_at=datetime.now(UTC).isoformat(timespec="seconds"),
            elapsed_s=self._assumed.trial_s + (self._measuring_s(spec) if fits else 2.0),
            memory=self._reading(need_gib) if fits and isinstance(spec, MemorySpec) else None,
        )

    def _reading(self, need_gib: float) -> MemoryReading:
        peak = round(need_gib * GIB)
        return MemoryReading(
            instrument="cuda-caching-allocator",
            peak_allocated_bytes=peak,
            peak_reserved_bytes=peak,
            num_alloc_retries=0,
            process_peak_rss_bytes=None,
            capacity_bytes=round(self._assumed.card_gib * GIB),
            outside_allocator_bytes=0,
        )

    def _memory_gib(self, spec: TrialSpec) -> float:
        if isinstance(spec, LoaderSpec):
            return 0.0
        key = f"bf16/{spec.norm_precision}" if spec.precision in REDUCED_PRECISIONS else "fp32"
        share = 1.0 if spec.checkpointing == "none" else self._assumed.checkpointed_share
        largest = self._workload.worst_case
        if isinstance(spec, ComputeSpec):
            largest = max(spec.canvas_sizes, key=math.prod)
        images = spec.micro_batch_size * mpx(align(largest[0]) * align(largest[1])) / WORST_CASE_MPX
        return images * share * self._assumed.worst_case_gib[key]

    def _step_s(self, spec: TrialSpec, *, example_mpx: float, num_examples: int) -> float:
        groups = USUAL_GROUPS if spec.norm_groups == "half-or-16" else int(spec.norm_groups)
        blocks = SPLIT_BLOCKS if spec.norm_kernel == "split" else groups
        norm_ms = self._assumed.norm_ms * min(1.0, USUAL_GROUPS / blocks)
        ms = (num_examples * self._assumed.worst_case_ms[spec.precision] + norm_ms) * example_mpx / WORST_CASE_MPX
        return ms / 1000 * (1.0 if spec.checkpointing == "none" else self._assumed.checkpointing_factor)

    def _measuring_s(self, spec: TrialSpec) -> float:
        if isinstance(spec, MemorySpec):
            passes_s = sum(
                self._step_s(spec, example_mpx=mpx(height * width), num_examples=count)
                for count, height, width in spec.soak_passes or ()
            )
            return passes_s + 2 * self._worst_step_s(spec)
        if isinstance(spec, ComputeSpec):
            return self._compute_s(spec)
        if isinstance(spec, TrainingSpec):
            return self._training_s(spec)
        # The sweep's own estimate is used for loaders; a trial's start is already counted.
        return max(0.0, trial_s(spec, self._workload, self.pace()) - self._assumed.trial_s)

    def _worst_step_s(self, spec: TrialSpec) -> float:
        height, width = self._workload.worst_case
        area = mpx(align(height) * align(width))
        return self._step_s(spec, example_mpx=area, num_examples=spec.micro_batch_size)

    def _compute_s(self, spec: ComputeSpec) -> float:
        seconds = self._checks_s(spec)
        for height, width in spec.canvas_sizes:
            area = mpx(align(height) * align(width))
            step_s = self._step_s(spec, example_mpx=area, num_examples=spec.batch_size)
            # Measure as long as allowed: do not assume that the mean is known earlier.
            blocks = math.ceil(spec.max_measuring_s / (spec.min_steps * step_s))
            num_steps = min(spec.max_steps, spec.min_steps * max(1, blocks))
            seconds += (spec.num_warm_up_steps + num_steps) * step_s
            seconds += 0.0 if spec.compile == "none" else self._assumed.compile_s
        return seconds

    def _checks_s(self, spec: TrialSpec) -> float:
        """Return the seconds of the checks before timing; a large pass also runs as smaller passes."""
        largest = max(
            spec.canvas_sizes if isinstance(spec, ComputeSpec) else [self._workload.worst_case], key=math.prod
        )
        area = align(largest[0]) * align(largest[1])
        is_large = spec.micro_batch_size * area * CHANNELS >= LARGE_TENSOR
        step_s = self._step_s(spec, example_mpx=mpx(area), num_examples=spec.micro_batch_size)
        one_s = self._step_s(spec, example_mpx=mpx(area), num_examples=1)
        return self._assumed.check_s + (step_s + spec.micro_batch_size * one_s if is_large else 0.0)

    def _training_s(self, spec: TrainingSpec) -> float:
        epoch = self._workload.of_epoch(spec)
        example_mpx = mpx(epoch.pixels) / epoch.num_passes / spec.micro_batch_size
        epoch_s = epoch.num_passes * self._step_s(spec, example_mpx=example_mpx, num_examples=spec.micro_batch_size)
        # Every canvas is visited first; then come whole epochs, as long as allowed.
        num_epochs = min(spec.max_epochs or 1, 1 + int((spec.max_measuring_s or 0.0) // epoch_s))
        warm_up_s = spec.num_warm_up_steps * spec.accumulation_steps * self._worst_step_s(spec)
        return self._checks_s(spec) + warm_up_s + epoch_s + num_epochs * epoch_s
