"""Plausible trial records for tests, without a measurement: step times follow a small cost model with seeded noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vnbench.record import BatchingAccount, Block, Cause, MemoryReading, Status, TrialRecord
from vnbench.spec import TrialSpec

GIB = 2**30
CPU_ENVIRONMENT = {"device_name": "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz", "torch_version": "2.13.0+cpu"}
CUDA_ENVIRONMENT = {"device_name": "NVIDIA H200", "torch_version": "2.13.0+cu130"}
CAPACITY_BYTES = {"cpu": 24 * GIB, "cuda": 139 * GIB}
SECONDS_PER_PIXEL = {"cpu": 0.9e-6, "cuda": 6e-9}
SPEED = {"fp32": 1.0, "tf32": 1.9, "bf16": 2.4, "fp16": 2.5}
BYTES_PER_PIXEL = {"cpu": 420, "cuda": 2400}
MEMORY_FACTOR = {"fp32": 1.0, "tf32": 1.0, "bf16": 0.62, "fp16": 0.62}


def training_spec(**changes: Any) -> TrialSpec:
    """Return a CPU training spec at the centre of a sweep; a change of batch_size moves the micro-batch with it."""
    values: dict[str, Any] = {
        "kind": "training",
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
    return TrialSpec(**(values | changes))


def memory_spec(training: TrialSpec, *, height: int = 640, width: int = 12_800) -> TrialSpec:
    """Return the spec of the memory trial that covers the family of ``training``."""
    return TrialSpec(
        kind="memory",
        device=training.device,
        model=training.model,
        task=training.task,
        batch_size=training.micro_batch_size,
        micro_batch_size=training.micro_batch_size,
        precision=training.precision,
        norm_precision=training.norm_precision,
        checkpointing=training.checkpointing,
        seed=training.seed,
        worst_case_height=height,
        worst_case_width=width,
    )


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
        "instrument": "cuda-caching-allocator" if is_cuda else "live-tensor-tracker",
        "peak_allocated_bytes": int(peak_bytes * 0.93) if is_cuda and peak_bytes is not None else peak_bytes,
        "peak_reserved_bytes": peak_bytes if is_cuda else None,
        "num_alloc_retries": 0 if is_cuda else None,
        "process_peak_rss_bytes": 2 * GIB,
        "capacity_bytes": CAPACITY_BYTES[spec.device],
    }
    return MemoryReading(**(values | changes))


def measured_training_record(spec: TrialSpec, **changes: Any) -> TrialRecord:
    """Return a training record with the step times, padding and waiting that its levers would plausibly give."""
    random = np.random.Generator(np.random.Philox(key=[spec.seed, int(spec.spec_id[:8], 16)]))
    num_warm_up = spec.num_warm_up_steps or 0
    num_steps = num_warm_up + max(2, (spec.subset_size or 0) // spec.batch_size)
    waste = 0.04 if spec.micro_batch_size == 1 else 0.38 * (1 - 1 / spec.micro_batch_size) + 0.04
    waste = 0.05 if spec.sampler == "bucketed" else waste
    valid = random.integers(2_000_000, 7_000_000, size=(num_steps, spec.batch_size)).sum(axis=1)
    padded = (valid / (1 - waste)).astype(int)
    factor = SPEED[spec.precision] * (0.75 if spec.checkpointing == "stages" else 1.0)
    compute_s = padded * SECONDS_PER_PIXEL[spec.device] / factor * random.normal(1, 0.02, size=num_steps)
    wait_s = compute_s * {0: 0.35, 1: 0.12, 2: 0.03, 4: 0.01, 8: 0.01}[spec.num_workers or 0]
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
    )
    return record_of(spec, **({"steps": steps, "block": block_of(steps), "batching": plan} | changes))


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


def cpu_sweep() -> tuple[TrialRecord, ...]:
    """Return seven training trials, one at a time around batch 2, and the memory trials of their families."""
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
    """Return batches 1 to 16 in fp32 and bf16 with single levers around batch 4; large families run out of memory."""
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
    return _sweep(specs)


def _sweep(specs: Sequence[TrialSpec]) -> tuple[TrialRecord, ...]:
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
