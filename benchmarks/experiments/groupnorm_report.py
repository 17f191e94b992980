"""GroupNorm under both readings of half_or_16: derived figures, and measurements of the norm alone.

Run with: python benchmarks/experiments/groupnorm_report.py --results results/cpu-amd-epyc/groupnorm.json --out reports

The published ``half_or_16`` can be read in two ways: as the channels per group, max(C / 2, 16), or as the number of
groups. The readings differ in what is normalised together and, on a GPU, in how many thread blocks share the work. This
script times the norm alone, forward and backward, on maps of veernet's stages, and checks results that should be equal.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import torch
from markdown_page import page_name, write_document, write_page
from torch import Tensor, nn
from torch.utils.benchmark import Timer

from vnbench.analysis.statistics.means import mean
from vnbench.images.drawing.raster import draw_example
from vnbench.model.normalization import ExplicitGroupNorm, num_groups
from vnbench.model.veernet import PRESETS
from vnbench.output.words.numbers import significant
from vnbench.output.words.provenance import Provenance, measured_on
from vnbench.records.spec.words import DeviceType, NormPrecision
from vnbench.trial.instruments.environment import describe_environment
from vnbench.units import format_bytes

Reading = Literal["channels per group", "groups"]

CHANNELS = PRESETS["veernet"]

WORST_CASE = (640, 12_800)
"""Height and width in pixels for the derived table."""

TIMED_CANVAS: dict[DeviceType, tuple[int, int]] = {"cpu": (160, 3200), "cuda": (640, 6400)}
"""A sixteenth of the worst case's pixels on a CPU, where all would take minutes, and half of them on a GPU, where
sixteen whole examples with the norm in fp32 would take most of 139 GiB."""

TIMED_BATCH: dict[DeviceType, tuple[int, ...]] = {"cpu": (1, 4), "cuda": (1, 16)}

FLOOR = 16

NUM_REPEATS = 5
"""Timings of each norm, in random order; each has as many runs as fill MIN_TIMING_S."""

MIN_TIMING_S = 0.02

NUM_TRAINED = 100
"""Batches for BatchNorm's running statistics: with a momentum of 0.1, almost nothing is then left of their initial
values."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One norm on one map."""

    level: int
    reading: Reading
    batch: int
    precision: NormPrecision
    layout: Literal["contiguous", "channels-last"]


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Time and memory of a case."""

    case: Case
    times_s: list[float]
    """Seconds forward and backward, one value per repeat."""
    saved_bytes: int
    """Bytes that the forward pass keeps for the backward pass."""


def groups_of(channels: int, reading: Reading) -> int:
    """Return the number of groups under a reading, reduced to a divisor of the channels."""
    rule = "half-or-16" if reading == "channels per group" else str(max(channels // 2, FLOOR))
    return num_groups(channels, rule)


READINGS: tuple[Reading, ...] = ("channels per group", "groups")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="file for the measurements")
    parser.add_argument("--out", type=Path, required=True, help="folder of the report")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args(arguments)

    torch.manual_seed(0)
    device: DeviceType = options.device
    timings = time_cases(device)
    environment = describe_environment(device)
    document = {
        "environment": environment,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "timings": [asdict(timing) for timing in timings],
        "largest_difference_between_batches": batch_difference(device),
        "batch_norm_gaps": {str(batch): batch_norm_gap(batch, device) for batch in (1, 16)},
    }
    write_document(document, options.results)
    origin = measured_on(environment, date=str(document["date"]))
    name = page_name("groupnorm", machine=options.results.parent.name, date=str(document["date"]))
    text = report_text(timings, document, device=device, origin=origin)
    write_page([text], options.out / f"{name}.md", script=__file__, arguments=arguments)
    return 0


def time_cases(device: DeviceType) -> list[Timing]:
    """Return the timings of all cases, with repeats mixed so that drift of the machine affects all alike."""
    cases = [
        Case(level=level, reading=reading, batch=batch, precision=precision, layout=layout)
        for level in (0, 2, 5)
        for reading in READINGS
        for batch in TIMED_BATCH[device]
        for precision in ("fp32", "input")
        for layout in ("contiguous", "channels-last")
    ]
    times: dict[Case, list[float]] = {case: [] for case in cases}
    order = torch.Generator().manual_seed(1)
    for _ in range(NUM_REPEATS):
        for index in torch.randperm(len(cases), generator=order).tolist():
            times[cases[index]].append(time_of(cases[index], device))
    return [Timing(case=case, times_s=times[case], saved_bytes=saved_by(case, device)) for case in cases]


def prepared(case: Case, device: DeviceType) -> tuple[ExplicitGroupNorm, Tensor]:
    channels = CHANNELS[case.level]
    height, width = (side >> case.level for side in TIMED_CANVAS[device])
    norm = ExplicitGroupNorm(channels, num_groups=groups_of(channels, case.reading), precision=case.precision).to(
        device
    )
    # Maps come from a convolution under autocast, so they are in bf16 whatever the norm's precision.
    x = torch.randn(case.batch, channels, height, width, device=device, dtype=torch.bfloat16)
    if case.layout == "channels-last":
        x = x.to(memory_format=torch.channels_last)
    return norm, x.requires_grad_()


def time_of(case: Case, device: DeviceType) -> float:
    norm, x = prepared(case, device)
    timer = Timer("y = norm(x); y.backward(y)", globals={"norm": norm, "x": x}, num_threads=torch.get_num_threads())
    return float(timer.blocked_autorange(min_run_time=MIN_TIMING_S).median)


def saved_by(case: Case, device: DeviceType) -> int:
    norm, x = prepared(case, device)
    storages: dict[int, int] = {}

    def pack(one: Tensor) -> Tensor:
        storages[one.untyped_storage().data_ptr()] = one.untyped_storage().nbytes()
        return one

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda one: one):
        norm(x)
    return sum(storages.values())


def batch_difference(device: DeviceType) -> float:
    """Return the largest difference between an example normalised alone and in a batch of sixteen."""
    worst = 0.0
    for channels in sorted({*CHANNELS}):
        for reading in READINGS:
            norm = ExplicitGroupNorm(channels, num_groups=groups_of(channels, reading), precision="fp32").to(device)
            x = torch.randn(16, channels, 20, 40, device=device)
            with torch.no_grad():
                together = norm(x)
                worst = max(worst, *(float((norm(x[i : i + 1]) - together[i : i + 1]).abs().max()) for i in range(16)))
    return worst


def batch_norm_gap(batch: int, device: DeviceType) -> dict[str, float]:
    """Return the difference between BatchNorm in eval and in train mode on new images."""
    torch.manual_seed(2)
    conv, norm = nn.Conv2d(1, 16, 3, padding=1, bias=False).to(device), nn.BatchNorm2d(16).to(device)

    def images(first: int) -> Tensor:
        drawn = [
            draw_example(seed=3, index=first + i, height=96, width=320, task="multiclass")[0] for i in range(batch)
        ]
        return torch.stack([1 - torch.from_numpy(one.copy()).float() / 255 for one in drawn])[:, None].to(device)

    gaps = []
    with torch.no_grad():
        for number in range(NUM_TRAINED):
            norm(conv(images(number * batch)))
        for number in range(8):
            x = conv(images(10_000 + number * batch))
            norm.train()
            statistics = {name: value.clone() for name, value in norm.state_dict().items()}
            trained = norm(x)
            norm.load_state_dict(statistics)
            norm.eval()
            gaps.append(float((norm(x) - trained).norm() / trained.norm()))
    return {"mean": fmean(gaps), "smallest": min(gaps), "largest": max(gaps)}


def report_text(timings: Sequence[Timing], document: dict[str, Any], *, device: DeviceType, origin: Provenance) -> str:
    height, width = TIMED_CANVAS[device]
    gaps = document["batch_norm_gaps"]
    lines = [
        "# GroupNorm under both readings of half_or_16",
        "",
        "## Derived",
        "",
        f"veernet on a canvas of {WORST_CASE[0]} x {WORST_CASE[1]:,} px. Blocks: thread blocks that PyTorch's CUDA "
        "kernel launches for the statistics, one per example and group; each reduces the elements of one statistic.",
        "",
        "| level | channels | reading | groups | channels of a group | elements of a statistic | blocks at batch 1 "
        "| at batch 16 |",
        "|---:|---:|---|---:|---:|---:|---:|---:|",
        *derived_rows(),
        "",
        "## Measured",
        "",
        f"The norm alone, forward and backward, on maps in bf16 of a canvas of {height} x {width:,} px, as a "
        f"convolution under autocast hands them on. Mean over {NUM_REPEATS} repeats in a drawn order, with its 95 % "
        "interval. Kept: what the forward pass keeps for the backward one.",
        "",
        "| level | batch | reading | norm in | layout | ms | kept |",
        "|---:|---:|---|---|---|---:|---:|",
        *measured_rows(timings),
        "",
        "An example normalised alone and the same among sixteen differ by at most "
        f"{document['largest_difference_between_batches']:.2g}, in all stages and both readings: GroupNorm does not "
        "see the batch.",
        "",
        "BatchNorm does: what it makes of images in eval mode is off from what it makes of them in train mode by "
        f"{told_gap(gaps['1'])} of the norm where it was trained on batches of 1, and by {told_gap(gaps['16'])} on "
        f"batches of 16. One layer on drawn logs of equal size, {NUM_TRAINED} batches, momentum 0.1.",
        "",
        origin.line(f"{len(timings)} cases"),
    ]
    return "\n".join(lines)


def told_gap(gap: dict[str, float]) -> str:
    return f"{100 * gap['mean']:.2g} % ({100 * gap['smallest']:.2g} to {100 * gap['largest']:.2g} %)"


def derived_rows() -> list[str]:
    rows = []
    for level, channels in enumerate(CHANNELS):
        pixels = (WORST_CASE[0] >> level) * (WORST_CASE[1] >> level)
        for reading in READINGS:
            groups = groups_of(channels, reading)
            size = channels // groups
            cells = (level, channels, reading, groups, size, f"{size * pixels:,}", groups, 16 * groups)
            rows.append(f"| {' | '.join(map(str, cells))} |")
    return rows


def measured_rows(timings: Sequence[Timing]) -> list[str]:
    rows = []
    for timing in timings:
        case = timing.case
        time_ms = mean(timing.times_s) * 1000
        told = f"{significant(time_ms.value)} ± {significant(time_ms.half_width, digits=2)}"
        rows.append(
            f"| {case.level} | {case.batch} | {case.reading} | {case.precision} | {case.layout} "
            f"| {told} | {format_bytes(timing.saved_bytes)} |"
        )
    return rows


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
