"""Cost of a fresh process for a trial, beyond its steps.

Run with: python benchmarks/suites/bench_process.py [--device cuda]

Small trials run one after the other, each in its own process, as in a sweep. The times of a trial's steps, including
warm-up, are subtracted from its wall-clock time. The rest is the process: its start, that of torch and CUDA, the model,
the data, the record's return, the end. A process that answers at once shows the part that no trial can avoid. The first
process starts the forkserver, which imports torch once for all; it is listed separately.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vnbench.batching.sizes import SizeDistribution
from vnbench.images.corpus import Corpus
from vnbench.images.synthesis import CorpusSpec, build_corpus
from vnbench.processes.parent import run_child
from vnbench.records.machine_keys import Environment
from vnbench.records.spec.trial_spec import ComputeSpec, TrainingSpec, TrialSpec
from vnbench.records.spec.words import DeviceType
from vnbench.records.task import TrialTask
from vnbench.sweep.runner import probe_environment, run_trial
from vnbench.units import PixelRange

TARGETS_S = {"cpu": 2.0, "cuda": 4.0}
"""Maximum seconds that a trial may take beyond its steps."""

SIZES = SizeDistribution(widths=PixelRange(start=3_200, stop=3_840), heights=PixelRange(start=480, stop=544))
TIMEOUT_S = 600.0


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--trials", type=int, default=10, help="number of trials of each kind")
    options = parser.parse_args(arguments)
    if options.trials < 1:
        parser.error(f"--trials {options.trials}: must be at least 1")

    start = time.monotonic()
    environment = probe_environment(options.device)
    first_s = time.monotonic() - start
    device: DeviceType = environment["device_type"]
    rows: list[tuple[str, float, float]] = []
    with tempfile.TemporaryDirectory(prefix="vnbench-bench-") as folder:
        corpus = build_corpus(CorpusSpec(num_examples=8, sizes=SIZES, task="multiclass", seed=0), Path(folder))
        for replicate in range(options.trials):
            outcome = run_child("bench_process:answer_at_once", "", timeout_s=TIMEOUT_S)
            rows.append(("answers at once", outcome.elapsed_s, 0.0))
            for spec in (compute_spec(device), training_spec(device, corpus)):
                rows.append((spec.kind, *trial_times_s(spec, corpus, environment, replicate=replicate)))
    report(rows, device=device, device_name=environment["device_name"], first_s=first_s)
    return 0


def answer_at_once(payload: str) -> str:
    """Return at once, as a child that does nothing."""
    return payload


def trial_times_s(spec: TrialSpec, corpus: Corpus, environment: Environment, *, replicate: int) -> tuple[float, float]:
    """Return the wall-clock time of a trial and the sum of its steps' times, in seconds."""
    directory = str(corpus.directory) if spec.kind == "training" else None
    task = TrialTask(spec=spec, replicate=replicate, attempt=0, corpus_directory=directory)
    start = time.monotonic()
    record = run_trial(task, environment=environment, timeout_s=TIMEOUT_S)
    wall_time_s = time.monotonic() - start
    if record.status != "ok" or record.steps is None:
        raise SystemExit(f"a {spec.kind} trial ended {record.status}: {record.cause and record.cause.message}")
    return wall_time_s, sum(record.steps["step_time_s"])


def compute_spec(device: DeviceType) -> TrialSpec:
    return ComputeSpec(
        **common(device),
        canvas_sizes=((480, 3_200),),
        num_warm_up_steps=1,
        noise_target=0.5,
        min_steps=3,
        max_steps=3,
        max_measuring_s=1.0,
    )


def training_spec(device: DeviceType, corpus: Corpus) -> TrialSpec:
    return TrainingSpec(
        **common(device),
        sampler="random",
        num_workers=0,
        corpus_id=corpus.corpus_id,
        subset_size=2,
        num_warm_up_steps=1,
    )


def common(device: DeviceType) -> dict[str, Any]:
    return {
        "device": device,
        "model": "veernet" if device == "cuda" else "veernet-tiny",
        "task": "multiclass",
        "batch_size": 1,
        "micro_batch_size": 1,
        "precision": "fp32",
        "norm_precision": "fp32",
        "checkpointing": "none",
        "seed": 0,
    }


def report(rows: Sequence[tuple[str, float, float]], *, device: DeviceType, device_name: str, first_s: float) -> None:
    target_s = TARGETS_S[device]
    print(f"{device_name}; first process, with the forkserver's start: {first_s:.2f} s")
    print(f"{'process':<16} {'n':>3} {'wall clock':>11} {'its steps':>10} {'beyond, median':>15} {'largest':>8}")
    for kind in dict.fromkeys(kind for kind, _, _ in rows):
        walls = [wall_s for name, wall_s, _ in rows if name == kind]
        steps = [steps_s for name, _, steps_s in rows if name == kind]
        beyond = [wall_s - steps_s for wall_s, steps_s in zip(walls, steps, strict=True)]
        times = (statistics.median(walls), statistics.median(steps), statistics.median(beyond), max(beyond))
        print("{:<16} {:>3} {:>9.2f} s {:>8.2f} s {:>13.2f} s {:>6.2f} s".format(kind, len(walls), *times))
    print(f"target: under {target_s:g} s beyond the steps")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
