"""Plausible trial records for tests, without a measurement: step times follow a small cost model with seeded noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from vnbench.batching.alignment import align
from vnbench.records.readings import (
    BatchingAccount,
    Block,
    ByteRange,
    CanvasForecast,
    CanvasReading,
    CardForecast,
    LoaderStage,
    LoaderStageName,
    MemoryReading,
    ObservedReading,
    RestartReading,
    SnapshotReading,
    Stop,
    TimeRange,
)
from vnbench.records.record import Cause, Status, TrialRecord
from vnbench.records.spec.axes import FLAG_FIELDS
from vnbench.records.spec.precisions import PRECISIONS
from vnbench.records.spec.trial_spec import (
    ComputeSpec,
    ForecastSpec,
    LoaderSpec,
    MemorySpec,
    ObservedSpec,
    SnapshotSpec,
    TrainingSpec,
    TrialSpec,
)
from vnbench.sweep.estimate import Pace, Workload

GIB = 2**30
CPU_ENVIRONMENT = {"device_name": "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz", "torch_version": "2.13.0+cpu"}
CUDA_ENVIRONMENT = {"device_name": "NVIDIA H200", "torch_version": "2.13.0+cu130"}
CAPACITY_BYTES = {"cpu": 24 * GIB, "cuda": 139 * GIB}
SECONDS_PER_PIXEL = {"cpu": 0.9e-6, "cuda": 6e-9}
SPEED = {"fp32": 1.0, "tf32": 1.9, "bf16": 2.4, "fp16": 2.5}
BYTES_PER_PIXEL = {"cpu": 420, "cuda": 2400}
POWER_W = 580.0
BETWEEN_PROCESSES = 0.03
"""Relative standard deviation of a figure between processes of one spec."""
CANVAS_SIZES = (
    (640, 12_800),
    (608, 11_904),
    (640, 10_000),
    (512, 11_000),
    (480, 10_048),
    (608, 6_560),
    (640, 4_992),
    (480, 4_896),
    (480, 3_200),
)
MEMORY_FACTOR = {"fp32": 1.0, "tf32": 1.0, "bf16": 0.62, "fp16": 0.62}


def training_spec(**changes: Any) -> TrainingSpec:
    """Return a CPU training spec at the centre of a sweep; a change of batch_size moves the micro-batch with it."""
    values: dict[str, Any] = {
        "device": "cpu",
        "model": "veernet-tiny",
        "task": "multiclass",
        "batch_size": 1,
        "micro_batch_size": changes.get("batch_size", 1),
        "precision": "fp32",
        "norm_precision": "fp32",
        "checkpointing": "none",
        "seed": 0,
        "sampler": "random",
        "num_workers": 0,
        "corpus_id": "0123456789ab",
        "subset_size": 32,
        "num_warm_up_steps": 2,
    }
    return TrainingSpec(**(values | changes))


def loader_spec(**changes: Any) -> LoaderSpec:
    """Return a CPU loader spec; a change of batch_size moves the micro-batch with it."""
    values: dict[str, Any] = {
        "device": "cpu",
        "model": "veernet-tiny",
        "task": "multiclass",
        "batch_size": 1,
        "micro_batch_size": changes.get("batch_size", 1),
        "precision": "fp32",
        "norm_precision": "fp32",
        "checkpointing": "none",
        "seed": 0,
        "sampler": "random",
        "num_workers": 0,
        "corpus_id": "0123456789ab",
        "subset_size": 32,
        "max_epochs": 4,
        "max_measuring_s": 60.0,
    }
    return LoaderSpec(**(values | changes))


def memory_spec(training: TrialSpec, *, height: int = 640, width: int = 12_800) -> MemorySpec:
    """Return the spec of the memory trial that covers the family of ``training``."""
    return MemorySpec(
        device=training.device,
        model=training.model,
        model_id=training.model_id,
        task=training.task,
        batch_size=training.micro_batch_size,
        micro_batch_size=training.micro_batch_size,
        precision=training.precision,
        norm_precision=training.norm_precision,
        checkpointing=training.checkpointing,
        seed=training.seed,
        worst_case_height=height,
        worst_case_width=width,
        **{name: getattr(training, name) for name in FLAG_FIELDS},
    )


def compute_spec(**changes: Any) -> ComputeSpec:
    """Return a CPU compute spec of nine canvases; a change of micro_batch_size moves the batch with it."""
    values: dict[str, Any] = {
        "device": "cpu",
        "model": "veernet-tiny",
        "task": "multiclass",
        "batch_size": changes.get("micro_batch_size", 1),
        "micro_batch_size": 1,
        "precision": "fp32",
        "norm_precision": "fp32",
        "checkpointing": "none",
        "seed": 0,
        "canvas_sizes": CANVAS_SIZES,
        "num_warm_up_steps": 2,
        "noise_target": 0.01,
        "min_steps": 5,
        "max_steps": 30,
        "max_measuring_s": 10.0,
    }
    return ComputeSpec(**(values | changes))


def steps_of(
    step_times_s: Sequence[float],
    *,
    valid_pixels: Sequence[int] | None = None,
    padded_pixels: Sequence[int] | None = None,
    data_wait_s: Sequence[float] | None = None,
    num_warm_up: int = 0,
    skipped: Sequence[int] = (),
    num_examples: int = 1,
) -> dict[str, tuple[Any, ...]]:
    """Return step columns; the first ``num_warm_up`` are warm-up, the indices in ``skipped`` skipped by the scaler."""
    n = len(step_times_s)
    valid = tuple(valid_pixels or [900] * n)
    return {
        "is_warm_up": tuple(i < num_warm_up for i in range(n)),
        "block": tuple(int(i >= num_warm_up > 0) for i in range(n)),
        "num_examples": (num_examples,) * n,
        "num_micro_batches": (1,) * n,
        "valid_pixels": valid,
        "padded_pixels": tuple(padded_pixels or [1000] * n),
        "canvas_height": (640,) * n,
        "canvas_width": (12_800,) * n,
        "step_time_s": tuple(step_times_s),
        "data_wait_s": tuple(data_wait_s or [0.0] * n),
        "h2d_s": (0.001,) * n,
        "forward_s": tuple(0.3 * t for t in step_times_s),
        "backward_s": tuple(0.6 * t for t in step_times_s),
        "optimizer_s": (0.002,) * n,
        "loss": (0.9,) * n,
        "is_skipped_by_scaler": tuple(i in skipped for i in range(n)),
        "is_outlier": (False,) * n,
    }


def block_of(steps: Mapping[str, tuple[Any, ...]]) -> Block:
    """Return the totals of the measured steps."""
    rows = [i for i, is_warm_up in enumerate(steps["is_warm_up"]) if not is_warm_up]
    return Block(
        wall_time_s=sum(steps["step_time_s"][i] for i in rows),
        num_steps=len(rows),
        num_examples=sum(steps["num_examples"][i] for i in rows),
        valid_pixels=sum(steps["valid_pixels"][i] for i in rows),
        padded_pixels=sum(steps["padded_pixels"][i] for i in rows),
    )


def account(*, valid_pixels: int, padded_pixels: int, lower_bound: float = 0.0, **changes: Any) -> BatchingAccount:
    """Return padding accounts of one epoch."""
    values: dict[str, Any] = {
        "num_examples": 100,
        "num_batches": 100,
        "num_steps": 100,
        "distinct_shapes": 40,
        "repeated_pair_ratio": None,
    }
    return BatchingAccount(
        valid_pixels=valid_pixels,
        padded_pixels=padded_pixels,
        padding_ratio=1 - valid_pixels / padded_pixels,
        lower_bound_padding_ratio=lower_bound,
        **(values | changes),
    )


def record_of(spec: TrialSpec, *, status: Status = "ok", **changes: Any) -> TrialRecord:
    """Return a record with nothing but its spec, status, environment and times, and what ``changes`` says."""
    cause = None if status == "ok" else Cause(kind="exception", message=f"made to end {status}")
    values: dict[str, Any] = {
        "replicate": 0,
        "attempt": 0,
        "cause": cause,
        "environment": CPU_ENVIRONMENT if spec.device == "cpu" else CUDA_ENVIRONMENT,
        "started_at": "2026-01-05T10:00:00+00:00",
        "elapsed_s": 30.0,
    }
    return TrialRecord(spec=spec, status=status, **(values | changes))


def reading_of(spec: TrialSpec, *, peak_bytes: int | None, **changes: Any) -> MemoryReading:
    """Return a memory reading as the instrument of the spec's device gives it."""
    is_cuda = spec.device == "cuda"
    values: dict[str, Any] = {
        "instrument": "cuda-caching-allocator" if is_cuda else "live-tensors",
        "peak_allocated_bytes": int(peak_bytes * 0.93) if is_cuda and peak_bytes is not None else peak_bytes,
        "peak_reserved_bytes": peak_bytes if is_cuda else None,
        "num_alloc_retries": 0 if is_cuda else None,
        "process_peak_rss_bytes": 2 * GIB,
        "capacity_bytes": CAPACITY_BYTES[spec.device],
    }
    return MemoryReading(**(values | changes))


def started_at(minute: float) -> str:
    """Return the start of a trial, so many minutes into a sweep."""
    return (datetime(2026, 1, 5, 10, tzinfo=UTC) + timedelta(minutes=minute)).isoformat(timespec="seconds")


def telemetry_of(spec: TrialSpec) -> dict[str, Any]:
    """Return what is seen from outside: the power of a GPU, nothing of a CPU's."""
    return {"device": {"power_w": {"mean": POWER_W}} if spec.device == "cuda" else None}


def measured_training_record(spec: TrainingSpec, *, replicate: int = 0, **changes: Any) -> TrialRecord:
    """Return a training record with the step times, padding and waiting that its levers would plausibly give."""
    random, process_factor = _draws(spec, replicate=replicate)
    num_warm_up = spec.num_warm_up_steps
    num_steps = num_warm_up + max(2, spec.subset_size // spec.batch_size)
    waste = 0.04 if spec.micro_batch_size == 1 else 0.38 * (1 - 1 / spec.micro_batch_size) + 0.04
    waste = 0.05 if spec.sampler == "bucketed" else waste
    valid = random.integers(2_000_000, 7_000_000, size=(num_steps, spec.batch_size)).sum(axis=1)
    padded = (valid / (1 - waste)).astype(int)
    compute_s = padded * _seconds_per_pixel(spec) * process_factor * random.normal(1, 0.02, size=num_steps)
    wait_s = compute_s * {0: 0.35, 1: 0.12, 2: 0.03, 4: 0.01, 8: 0.01}[spec.num_workers]
    steps = steps_of(
        (compute_s + wait_s).tolist(),
        valid_pixels=valid.tolist(),
        padded_pixels=padded.tolist(),
        data_wait_s=wait_s.tolist(),
        num_warm_up=num_warm_up,
        num_examples=spec.batch_size,
    )
    num_examples = 200 if spec.device == "cpu" else 15_000
    epoch_valid = 4_480_000 * num_examples
    plan = account(
        valid_pixels=epoch_valid,
        padded_pixels=int(epoch_valid / (1 - waste)),
        lower_bound=min(waste, 0.035),
        num_examples=num_examples,
        repeated_pair_ratio=None if spec.batch_size == 1 else 0.1 if spec.sampler == "bucketed" else 0.001,
    )
    measured: dict[str, Any] = {
        "steps": steps,
        "block": block_of(steps),
        "batching": plan,
        "telemetry": telemetry_of(spec),
    }
    return record_of(spec, replicate=replicate, **(measured | changes))


def observed_run(*, num_epochs: int = 2, replicate: int = 0, **changes: Any) -> list[TrialRecord]:
    """Return the records of the epochs of a run that was observed; changes are those of its spec."""
    values = {
        "model": "train.py:Net",
        "model_id": "0123456789ab",
        "loop": "lightning-automatic",
        "num_warm_up_steps": 0,
    }
    training = training_spec(**(values | changes))
    spec = ObservedSpec(**{one.name: getattr(training, one.name) for one in fields(training)})
    observed = ObservedReading(
        epoch=0,
        framework="lightning 2.6.6",
        sampler="RandomSampler",
        num_passes=spec.accumulation_steps,
        num_short_steps=0,
        largest_canvas=(640, 12_800),
        num_snapshots=0,
        validation_s=None,
        observing_s=0.01,
    )
    epochs = []
    for number in range(num_epochs):
        one = measured_training_record(training, replicate=replicate)
        assert one.steps is not None
        num_steps = len(one.steps["loss"])
        marks = {"is_snapshot": (False,) * num_steps, "is_after_validation": (False,) * num_steps}
        steps = {**one.steps, "block": (number,) * num_steps, **marks}
        reading = replace(observed, epoch=number)
        epochs.append(replace(one, spec=spec, attempt=number, steps=steps, observed=reading))
    return epochs


def snapshot_spec(**changes: Any) -> SnapshotSpec:
    """Return the snapshot trial of the centre of a CPU sweep."""
    training = training_spec()
    shared = {one.name: getattr(training, one.name) for one in fields(training) if one.name != "num_warm_up_steps"}
    return SnapshotSpec(**(shared | {"max_epochs": 20, "max_measuring_s": 5.0} | changes))


def snapshot_record(
    *, cost_s: float = 0.05, noise_s: float = 0.0, restart_s: float = 4.0, replicate: int = 0, **changes: Any
) -> TrialRecord:
    """Return a snapshot record whose pairs of epochs differ by what four snapshots cost, and by noise in turn."""
    pairs = tuple((1.0, 1.0 + 4 * (cost_s + noise_s * (-1) ** number)) for number in range(6))
    parts = {"interpreter_s": 0.04, "set_up_s": 0.03, "load_s": 0.08, "loader_s": 0.05, "first_steps_s": 0.1}
    reading = SnapshotReading(
        num_bytes=4_500_000,
        file_system="ext4",
        num_steps=16,
        num_saves=4,
        held_up_s=(0.04,) * 24,
        written_s=(0.045,) * 4,
        read_s=(0.07,) * 4,
        epoch_pairs_s=pairs,
        restart=RestartReading(imports_s=restart_s - sum(parts.values()), **parts),
    )
    return record_of(snapshot_spec(**changes), replicate=replicate, snapshot=reading)


def measured_compute_record(spec: ComputeSpec, *, replicate: int = 0, **changes: Any) -> TrialRecord:
    """Return a compute record with the step times that its levers would plausibly give, canvas by canvas."""
    random, process_factor = _draws(spec, replicate=replicate)
    is_cuda = spec.device == "cuda"
    sizes = spec.canvas_sizes
    num_warm_up, num_steps = spec.num_warm_up_steps, 12
    parts, canvases = [], []
    for height, width in sizes:
        valid = spec.batch_size * height * width
        padded = spec.batch_size * align(height) * align(width)
        step_s = (0.02 if is_cuda else 0.1) + padded * _seconds_per_pixel(spec)
        times_s = step_s * process_factor * random.normal(1, 0.01, size=num_warm_up + num_steps)
        times_s[0] += 0.3 if is_cuda else 0.6
        part = steps_of(
            times_s.tolist(),
            valid_pixels=[valid] * len(times_s),
            padded_pixels=[padded] * len(times_s),
            num_warm_up=num_warm_up,
            num_examples=spec.batch_size,
        )
        parts.append(
            part | {"canvas_height": (align(height),) * len(times_s), "canvas_width": (align(width),) * len(times_s)}
        )
        canvases.append(
            CanvasReading(
                height=align(height),
                width=align(width),
                first_seen_s=float(times_s[0]),
                peak_allocated_bytes=int(0.9 * padded * BYTES_PER_PIXEL["cuda" if is_cuda else "cpu"]),
                peak_reserved_bytes=padded * BYTES_PER_PIXEL["cuda"] if is_cuda else None,
                host_growth_bytes=padded // 3,
                flop_per_step=padded * 26_000,
                stop=Stop(
                    rule="noise-target",
                    noise_target=spec.noise_target,
                    relative_half_width=0.008,
                    num_steps=num_steps,
                    num_observations=num_steps,
                    measuring_s=float(times_s[num_warm_up:].sum()),
                ),
            )
        )
    steps = {name: tuple(value for part in parts for value in part[name]) for name in parts[0]}
    measured: dict[str, Any] = {
        "steps": steps,
        "block": block_of(steps),
        "canvases": tuple(canvases),
        "telemetry": telemetry_of(spec),
    }
    return record_of(spec, replicate=replicate, **(measured | changes))


def loader_stage(
    name: LoaderStageName, seconds_per_example: float, *, spec: TrialSpec, is_cold: bool = False, num_batches: int = 8
) -> LoaderStage:
    """Return a stage of equal batches of 4 Mpx examples, padded by a tenth."""
    num_examples = num_batches * spec.micro_batch_size
    padded = 4_400_000 * num_examples
    has_workers = bool(spec.num_workers) and name not in ("plan", "decode", "collate")
    is_from_processes = has_workers and spec.worker_kind == "processes" and name != "empty-workers"
    return LoaderStage(
        name=name,
        waits_s=(seconds_per_example * spec.micro_batch_size,) * num_batches,
        num_examples=num_examples,
        valid_pixels=4_000_000 * num_examples,
        padded_pixels=padded,
        payload_bytes=2 * padded if is_from_processes else 0,
        start_up_s=0.2 if has_workers else None,
        host_bytes=GIB,
        stop=Stop(
            rule="max-epochs",
            noise_target=0.01,
            relative_half_width=0.02,
            num_steps=num_batches,
            num_observations=num_batches,
            measuring_s=seconds_per_example * num_examples,
        ),
        is_cold=is_cold,
        cached_ratio=0.0 if is_cold else None,
    )


def measured_loader_record(spec: TrialSpec, *, decode_s: float = 0.05, **changes: Any) -> TrialRecord:
    """Return a loader record whose workers share the work evenly; an example takes 10 ms beyond ``decode_s``."""
    whole_s = (decode_s + 0.01) / max(1, spec.num_workers or 0)
    first: tuple[tuple[LoaderStageName, float], ...] = (("decode", decode_s), ("collate", whole_s))
    if spec.num_workers:
        first = (("empty-workers", 0.001), ("workers", whole_s))
    stages = (
        loader_stage("plan", 1e-4, spec=spec),
        loader_stage(first[1][0], 2 * whole_s, spec=spec, is_cold=True),
        *(loader_stage(name, seconds, spec=spec) for name, seconds in first),
        loader_stage("device", whole_s + 0.004, spec=spec),
    )
    plan = account(
        valid_pixels=4_000_000 * 32,
        padded_pixels=4_400_000 * 32,
        lower_bound=0.05,
        num_examples=32,
        num_batches=32 // spec.micro_batch_size,
    )
    measured: dict[str, Any] = {"stages": stages, "batching": plan}
    return record_of(spec, **(measured | changes))


def some_workload() -> Workload:
    """Return 48 training images of 640 x 3,200 to 12,800 px."""
    widths = np.linspace(3200, 12_800, 48).astype(np.int64)
    return Workload(train_sizes_N2=np.stack([np.full(48, 640), widths], axis=1), worst_case=(640, 12_800))


def some_pace(**s_per_mpx: float) -> Pace:
    """Return the pace of a machine that was probed: by precision, or a second per megapixel in all."""
    paces: dict[str, float] = s_per_mpx or dict.fromkeys(PRECISIONS, 1.0)
    return Pace(s_per_mpx=paces, s_per_pass=0.1, is_probed=True)  # type: ignore[arg-type]


def _draws(spec: TrialSpec, *, replicate: int) -> tuple[np.random.Generator, float]:
    """Return the noise of one process and the factor by which it differs from the others of its spec."""
    random = np.random.Generator(np.random.Philox(key=[replicate, int(spec.spec_id[:8], 16)]))
    return random, float(random.normal(1, BETWEEN_PROCESSES))


def _seconds_per_pixel(spec: TrialSpec) -> float:
    return SECONDS_PER_PIXEL[spec.device] / SPEED[spec.precision] / (0.75 if spec.checkpointing == "stages" else 1.0)


def measured_memory_record(training: TrialSpec, **changes: Any) -> TrialRecord:
    """Return the memory record of a family, out of memory where the cost model passes the device's capacity."""
    spec = memory_spec(training)
    pixels = 640 * 12_800 * spec.micro_batch_size
    factor = MEMORY_FACTOR[spec.precision] * (0.45 if spec.checkpointing == "stages" else 1.0)
    factor *= 1.25 if spec.precision in ("bf16", "fp16") and spec.norm_precision == "fp32" else 1.0
    peak_bytes = int(pixels * BYTES_PER_PIXEL[spec.device] * factor)
    if peak_bytes > CAPACITY_BYTES[spec.device]:
        message = "CUDA out of memory. Tried to allocate 12.50 GiB. [2.31 GiB free of 139.00 GiB]"
        cause = Cause(kind="torch-out-of-memory", message=message)
        return record_of(spec, status="oom", cause=cause, **changes)
    return record_of(spec, memory=reading_of(spec, peak_bytes=peak_bytes), **changes)


def forecast_spec(**changes: Any) -> ForecastSpec:
    """Return the spec of a forecast for an H200; a change of micro_batch_size moves the batch with it."""
    values: dict[str, Any] = {
        "device": "cuda",
        "model": "veernet",
        "task": "multiclass",
        "batch_size": changes.get("micro_batch_size", 1),
        "micro_batch_size": 1,
        "precision": "bf16",
        "norm_precision": "input",
        "checkpointing": "none",
        "seed": 0,
        "card": "H200",
        "smallest_height": 480,
        "smallest_width": 3_200,
        "worst_case_height": 640,
        "worst_case_width": 12_800,
    }
    return ForecastSpec(**(values | changes))


def forecast_record(spec: ForecastSpec | None = None, *, card_bytes: int = 139 * GIB, **changes: Any) -> TrialRecord:
    """Return a forecast whose figures grow with the padded pixels: a step of 5 ns per pixel, 0.8 to 3 times that.

    The worst case takes 600 to 720 bytes per pixel, and the context 0.5 GiB. Changes are those of the card's forecast.
    """
    spec = spec or forecast_spec()
    sizes = ((spec.smallest_height, spec.smallest_width), (spec.worst_case_height, spec.worst_case_width))
    pixels = [spec.micro_batch_size * height * width for height, width in sizes]
    canvases = tuple(
        CanvasForecast(
            height=height,
            width=width,
            allocated_bytes=ByteRange(500 * area, 550 * area),
            reserved_bytes=ByteRange(600 * area, 720 * area),
            step_time_s=TimeRange(4e-9 * area, 5e-9 * area, 15e-9 * area),
            reducing_s=TimeRange(1e-9 * area, 2e-9 * area, 9e-9 * area),
            num_kernels=600,
            moved_bytes=5_000 * area,
            flop=300_000 * area,
        )
        for (height, width), area in zip(sizes, pixels, strict=True)
    )
    device = ByteRange(600 * pixels[-1] + GIB // 2, 720 * pixels[-1] + GIB // 2)
    values: dict[str, Any] = {
        "canvases": canvases,
        "device_bytes": device,
        "card_bytes": card_bytes,
        "verdict": "fits" if device.high < card_bytes else "tight" if device.low < card_bytes else "does not fit",
        "num_retries": 0,
        "operators": {"aten.convolution.default": 40, "aten.native_group_norm.default": 20},
    }
    environment = {"device_type": "cuda", "device_name": "forecast", "torch_version": "2.13.0+cpu", "revision": "1"}
    return record_of(spec, environment=environment, card=CardForecast(**(values | changes)))


def cpu_sweep() -> tuple[TrialRecord, ...]:
    """Return seven training trials, one at a time around batch 2, and the memory trials of their families.

    One process each, as in the first records.
    """
    centre: dict[str, Any] = {"batch_size": 2}
    specs = [
        training_spec(**(centre | changes))
        for changes in (
            {},
            {"batch_size": 1},
            {"batch_size": 4},
            {"precision": "bf16"},
            {"checkpointing": "stages"},
            {"sampler": "bucketed"},
            {"num_workers": 2},
        )
    ]
    return _sweep(specs)


def cuda_sweep() -> tuple[TrialRecord, ...]:
    """Return batches 1 to 16 in fp32 and bf16 with single levers around batch 4; large families run out of memory.

    The reference trial, batch 4 in fp32, runs at the start, in the middle and at the end.
    """
    common: dict[str, Any] = {"device": "cuda", "model": "veernet", "num_workers": 4, "subset_size": 256}
    specs = [training_spec(**common, batch_size=n, precision=p) for p in ("fp32", "bf16") for n in (1, 2, 4, 8, 16)]
    specs += [
        training_spec(**(common | {"batch_size": 4} | changes))
        for changes in (
            {"checkpointing": "stages"},
            {"sampler": "bucketed"},
            {"num_workers": 0},
            {"num_workers": 2},
            {"num_workers": 8},
            {"precision": "bf16", "norm_precision": "input"},
            {"batch_size": 16, "micro_batch_size": 4},
        )
    ]
    memory_and_training = _sweep(specs)
    reference = training_spec(**common, batch_size=4)
    others = [record for record in memory_and_training if record.spec != reference]
    runs = [measured_training_record(reference, replicate=n) for n in range(3)]
    middle = (len(others) + sum(record.kind == "memory" for record in others)) // 2
    first = next(index for index, record in enumerate(others) if record.kind == "training")
    ordered = [*others[:first], runs[0], *others[first:middle], runs[1], *others[middle:], runs[2]]
    return tuple(replace(record, started_at=started_at(index)) for index, record in enumerate(ordered))


def compute_sweep(*, device: str = "cuda", replicates: int = 1) -> tuple[TrialRecord, ...]:
    """Return compute trials of micro-batches 1 and 4 in fp32 and bf16, the first one in three processes or more."""
    model = "veernet" if device == "cuda" else "veernet-tiny"
    specs = [
        compute_spec(device=device, model=model, micro_batch_size=n, precision=precision)
        for n in (1, 4)
        for precision in ("fp32", "bf16")
    ]
    trials = [(spec, n) for n in range(max(replicates, 3)) for spec in (specs if n < replicates else specs[:1])]
    return tuple(
        measured_compute_record(spec, replicate=n, started_at=started_at(2 * minute))
        for minute, (spec, n) in enumerate(trials)
    )


def _sweep(specs: Sequence[TrainingSpec]) -> tuple[TrialRecord, ...]:
    families = {spec.family: spec for spec in specs}
    memory = {family: measured_memory_record(spec) for family, spec in families.items()}
    failed_at: dict[str, int] = {}
    for record in sorted(memory.values(), key=lambda record: record.spec.micro_batch_size):
        spec = record.spec
        if spec.lever_key in failed_at:
            memory[spec.family] = _skipped(spec, smaller=failed_at[spec.lever_key])
        elif record.status == "oom":
            failed_at[spec.lever_key] = spec.micro_batch_size
    training = [
        measured_training_record(spec)
        if memory[spec.family].status == "ok"
        else _skipped(spec, smaller=failed_at[spec.lever_key])
        for spec in specs
    ]
    return (*memory.values(), *training)


def _skipped(spec: TrialSpec, *, smaller: int) -> TrialRecord:
    message = f"the worst case of micro-batch {smaller} ran out of memory"
    return record_of(spec, status="skipped", cause=Cause(kind="larger-than-out-of-memory", message=message))


def gpu_campaign(**environment: Any) -> list[TrialRecord]:
    """Return compute trials of a GPU in three processes, the worst case of each family, and what loads."""
    gpu: dict[str, Any] = {"device": "cuda", "model": "veernet"}
    changed: dict[str, Any] = {"environment": CUDA_ENVIRONMENT | environment}
    records: list[TrialRecord] = []
    for micro in (1, 4):
        for levers in ({"precision": "fp32"}, {"precision": "bf16"}, {"precision": "bf16", "checkpointing": "stages"}):
            spec = compute_spec(**gpu, micro_batch_size=micro, **levers)
            records += [measured_compute_record(spec, replicate=number, **changed) for number in range(3)]
            records.append(measured_memory_record(training_spec(**gpu, batch_size=micro, **levers), **changed))
        for workers in (1, 4):
            loader = loader_spec(**gpu, batch_size=micro, num_workers=workers, sampler="bucketed")
            records.append(measured_loader_record(loader, **changed))
    return records
