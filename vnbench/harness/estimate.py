"""How long trials will take: roughly before anything is measured, better with every trial that ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vnbench.record import TrialRecord
from vnbench.spec import DeviceType, ModelName, TrialSpec
from vnbench.units import mpx

START_UP_S: Mapping[DeviceType, float] = {"cuda": 8.0, "cpu": 0.3}
"""Seconds of a trial before its first step: on CUDA the context and the libraries' kernels."""

ROUGH_S_PER_MPX: Mapping[tuple[DeviceType, ModelName], float] = {
    ("cpu", "veernet-tiny"): 0.75,
    ("cpu", "veernet"): 6.0,
    ("cuda", "veernet-tiny"): 0.005,
    ("cuda", "veernet"): 0.01,
}
"""Seconds of training per megapixel, for a first guess only: two CPU cores, and the account of the multiclass run (550
min for 50 epochs of 15,000 images of 4.5 Mpx on an unnamed GPU). Measured trials replace them as soon as one ended."""


LOADING_S_PER_MPX = 0.01
"""Seconds in which a core decodes and pads a megapixel of image and mask, for a first guess."""

NUM_LOADER_STAGES = 3
"""Stages of a loader trial that decode, on average."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """What the images of a sweep weigh."""

    mean_padded_pixels: float
    """Pixels of one example of the subset, aligned."""
    worst_case_pixels: int
    """Pixels of the worst-case example, aligned."""


def rough_trial_s(spec: TrialSpec, workload: Workload) -> float:
    """Return a first guess at the seconds that a trial takes."""
    if spec.kind == "memory":
        pixels = float(spec.micro_batch_size * workload.worst_case_pixels)
    elif spec.kind == "compute":
        assert spec.canvas_sizes is not None
        assert spec.num_warm_up_steps is not None
        assert spec.min_steps is not None
        area = sum(height * width for height, width in spec.canvas_sizes)
        pixels = float(spec.batch_size * area * (spec.num_warm_up_steps + spec.min_steps))
    elif spec.kind == "loader":
        assert spec.subset_size is not None
        # A handful of stages, each until it is known or its time is up.
        once_s = spec.subset_size * mpx(workload.mean_padded_pixels) * LOADING_S_PER_MPX
        most_s = spec.max_measuring_s or once_s
        return START_UP_S[spec.device] + once_s + NUM_LOADER_STAGES * max(once_s, most_s / 2)
    else:
        assert spec.subset_size is not None
        assert spec.num_warm_up_steps is not None
        pixels = (spec.subset_size + spec.num_warm_up_steps * spec.batch_size) * workload.mean_padded_pixels
    return START_UP_S[spec.device] + mpx(pixels) * _rough_s_per_mpx(spec)


def _rough_s_per_mpx(spec: TrialSpec) -> float:
    """Return a first guess at a network's seconds per megapixel; of a user's own, that of the full preset."""
    return next(
        (guess for known, guess in ROUGH_S_PER_MPX.items() if known == (spec.device, spec.model)),
        ROUGH_S_PER_MPX[spec.device, "veernet"],
    )


def remaining_s(remaining: Sequence[TrialSpec], *, finished: Sequence[TrialRecord], workload: Workload) -> float:
    """Return the seconds that the remaining trials will take.

    The first guess is scaled by how the finished trials (skipped ones excepted) compared with theirs.
    """
    run = [record for record in finished if record.status != "skipped"]
    guessed_s = sum(rough_trial_s(record.spec, workload) for record in run)
    scale = sum(record.elapsed_s for record in run) / guessed_s if guessed_s else 1.0
    return scale * sum(rough_trial_s(spec, workload) for spec in remaining)
