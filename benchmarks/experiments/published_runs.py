"""Implications of the two published training times under each reading, compared with measured devices.

Run with: python benchmarks/experiments/published_runs.py results/cpu-amd-epyc/readme.jsonl --out reports

According to the published accounts, 50 epochs took 110 minutes for 2,000 binary examples at batch 1, and 550 minutes
for
15,000 multiclass examples at batch 16. The accounts disagree on whether an epoch holds all examples or the 80 % for
training, and on whether 16 examples shared a pass or were accumulated one by one, which determines the padding.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markdown_page import write_page

from vnbench.analysis.models.fit import fit_families
from vnbench.analysis.models.step_fit import CONFIDENCE
from vnbench.batching.alignment import align
from vnbench.batching.epoch import plan_epoch
from vnbench.batching.plan import PlanConfig
from vnbench.batching.sizes import SizeArray, SizeDistribution, draw_sizes
from vnbench.output.words.levers import describe
from vnbench.output.words.numbers import format_estimate, significant, times
from vnbench.output.words.provenance import provenance
from vnbench.records.store import load_all
from vnbench.units import PixelRange, mpx

SIZES = SizeDistribution(widths=PixelRange(start=3_200, stop=12_800), heights=PixelRange(start=480, stop=640))
"""Sizes assumed to be uniform; the accounts only give the ends."""

NUM_EPOCHS = 50
TRAINING_SHARE = 0.8


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """One published run."""

    name: str
    num_examples: int
    batch_size: int
    minutes: float


RUNS = (
    Published(name="binary, batch 1", num_examples=2_000, batch_size=1, minutes=110),
    Published(name="multiclass, batch 16", num_examples=15_000, batch_size=16, minutes=550),
)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="*", help="records of measured devices to compare, one file each")
    parser.add_argument("--out", type=Path, required=True, help="folder of the report")
    options = parser.parse_args(arguments)
    blocks = [
        "# The published runs",
        "Two training times were published, each of 50 epochs on images of 3,200 to 12,800 x 480 to 640 px, on a GPU "
        "that is not named: 110 minutes for 2,000 binary examples at batch 1, 550 minutes for 15,000 multiclass "
        "examples at batch 16. What they imply depends on what the accounts leave open, or contradict each other on: "
        "whether an epoch holds all examples or the 80 % for training, and whether 16 examples shared a pass, padded "
        "to the widest, or were accumulated one by one, which needs no padding. Padded pixels are those of a plan of "
        "as many sizes, drawn uniformly, in random order; the distribution is an assumption.",
        "\n".join(implied_table()),
        *measured_section(options.results),
    ]
    write_page(blocks, options.out / "published_runs.md", script=__file__, arguments=arguments)
    return 0


def implied_table() -> Iterator[str]:
    yield (
        "| run | examples per epoch | a pass holds | steps per epoch | s per step | ms per example | valid Mpx/s "
        "| padded Mpx/s |"
    )
    yield "|---|---:|---|---:|---:|---:|---:|---:|"
    for run in RUNS:
        for share in (1.0, TRAINING_SHARE):
            num_examples = round(share * run.num_examples)
            sizes_N2 = draw_sizes(SIZES, num_examples, seed=0)
            for micro_batch_size in sorted({run.batch_size, 1}, reverse=True):
                epoch_s = 60 * run.minutes / NUM_EPOCHS
                padded = padded_pixels(sizes_N2, run.batch_size, micro_batch_size)
                num_steps = -(-num_examples // run.batch_size)
                cells = [
                    run.name,
                    f"{num_examples:,}",
                    f"{micro_batch_size}",
                    f"{num_steps:,}",
                    significant(epoch_s / num_steps),
                    significant(1e3 * epoch_s / num_examples),
                    significant(mpx(float(sizes_N2.prod(axis=1).sum())) / epoch_s),
                    significant(mpx(padded) / epoch_s),
                ]
                yield f"| {' | '.join(cells)} |"


def padded_pixels(sizes_N2: SizeArray, batch_size: int, micro_batch_size: int) -> int:
    config = PlanConfig(sampler="random", batch_size=batch_size, micro_batch_size=micro_batch_size)
    return int(plan_epoch(sizes_N2, config, epoch=0).padded_pixels_M.sum())


def measured_section(paths: Sequence[Path]) -> Iterator[str]:
    """Yield the measured devices' times for an example of mean size, each from its own fit."""
    mean_pixels = float(np.mean(align(draw_sizes(SIZES, 10_000, seed=0)).prod(axis=1)))
    lines = [
        "| device | configuration | ms per example | padded Mpx/s |",
        "|---|---|---:|---:|",
    ]
    for path in paths:
        records = load_all([path]).records
        device = provenance(records).parts()[0]
        for family in fit_families(records)[0]:
            size = family.spec.micro_batch_size
            pixels = size * mean_pixels
            if family.fit.model.is_extrapolated(pixels):
                continue
            forecast = family.fit.forecast([pixels])
            names = ("model", "precision", "norm_precision", "checkpointing")
            seconds = family.fit.model.time_s(pixels)
            time = format_estimate(1e3 * seconds / size, times(forecast.margin(CONFIDENCE), 1e3 / size))
            told = f"micro-batch {size}, {describe(family.spec, names=names)}"
            lines.append(f"| {device} | {told} | {time} | {significant(mpx(pixels) / seconds)} |")
    if len(lines) == 2:
        return
    yield "## Measured beside them"
    yield (
        f"Steps on canvases of the mean image ({mpx(mean_pixels):.3g} padded Mpx), computing alone, ± 90 %. A CPU with "
        "the small network (`veernet-tiny`) is no substitute for the GPU and the network of the accounts: it shows the "
        "place that a measured GPU will take."
    )
    yield "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
