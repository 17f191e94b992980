"""The leak of padding into real pixels through norms and attention: an image alone compared with the same one padded.

Run with: python benchmarks/experiments/padding_leak.py --results results/cpu-amd-epyc/padding_leak.json --out reports

Each image passes through the network on its own aligned canvas, then on wider ones with a given share of padding. The
difference on its real pixels, and in the gradient, is the leak. The loss is masked in all runs, so it does not leak.
Weights are random, not trained: the magnitudes are the result, not the last digits.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch
from markdown_page import REPORT_ONLY, page_name, write_document, write_page
from matplotlib.figure import Figure
from torch import Tensor

from vnbench.batching.accounts import account_for_epoch
from vnbench.batching.alignment import align
from vnbench.batching.plan import PlanConfig
from vnbench.batching.sizes import SizeDistribution, draw_sizes
from vnbench.images.drawing.raster import draw_example
from vnbench.loading.collate import collate, device_tensors, to_device
from vnbench.model.loss import tversky_loss_sum
from vnbench.model.veernet import build_model
from vnbench.output.plots.style import legend_below, new_figure, save, styled
from vnbench.output.words.provenance import Provenance, measured_on
from vnbench.records.spec.words import PADDINGS, DeviceType, Padding, SamplerName
from vnbench.trial.instruments.environment import describe_environment
from vnbench.trial.step.switches import set_arithmetic
from vnbench.units import PixelRange

IMAGE = (220, 630)
"""Height and width in pixels."""

SHARES = (0.1, 0.5, 0.75)
"""Shares of padding in a canvas."""

SEEDS = (0, 1, 2, 3)
"""Seeds of weights and images."""

SAMPLERS: tuple[SamplerName, ...] = ("random", "bucketed")

NUM_EXAMPLES, BATCH_SIZE = 15_000, 16
"""Size of the published multiclass run, whose plans give the padding of each sampler."""

COLOURS = {"output": "#0072B2", "gradient": "#D55E00"}


class Outcome(NamedTuple):
    """Output of the network for one image on one canvas."""

    logits_KHW: Tensor
    """Logits of the image's own pixels."""
    gradient_P: Tensor


@dataclass(frozen=True, kw_only=True)
class Leak:
    """Difference between an image with padding and the same image alone."""

    padding: Padding
    share: float
    """Share of padding in the canvas."""
    seed: int
    output: float
    """Norm of the logits' difference on real pixels over the logits' norm."""
    gradient: float
    """The same for the whole gradient."""
    flipped: float
    """Share of real pixels whose class changes."""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="file for the measurements")
    parser.add_argument("--out", type=Path, required=True, help="folder of the report")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(REPORT_ONLY, action="store_true", help="draw the report anew from the results")
    options = parser.parse_args(arguments)

    if not options.report_only:
        write_document(measured(options.device), options.results)
    document = json.loads(options.results.read_text(encoding="utf-8"))
    leaks = [Leak(**leak) for leak in document["leaks"]]
    environment = document["environment"]
    origin = measured_on(environment, date=str(document["date"]))
    name = page_name("padding", machine=options.results.parent.name, date=document["date"])
    options.out.mkdir(parents=True, exist_ok=True)
    with styled():
        save(figure_of(leaks, document["padding_of_samplers"], origin=origin), options.out, name=name)
    text = report_text(leaks, document["padding_of_samplers"], name=name, origin=origin)
    write_page([text], options.out / f"{name}.md", script=__file__, arguments=arguments)
    return 0


def measured(device: DeviceType) -> dict[str, Any]:
    set_arithmetic("fp32")
    leaks = [leak for padding in PADDINGS for seed in SEEDS for leak in measure(padding, seed, device)]
    return {
        "environment": describe_environment(device),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "padding_of_samplers": {sampler: padding_of(sampler) for sampler in SAMPLERS},
        "leaks": [asdict(leak) for leak in leaks],
    }


def measure(padding: Padding, seed: int, device: DeviceType) -> list[Leak]:
    """Return the leak for one image and one set of weights at each share of padding."""
    own = (int(align(IMAGE[0])), int(align(IMAGE[1])))
    alone = run_on(padding, seed, own, device)
    found = []
    for share in SHARES:
        padded = run_on(padding, seed, (own[0], int(align(round(own[1] / (1 - share))))), device)
        found.append(
            Leak(
                padding=padding,
                share=share,
                seed=seed,
                output=relative(padded.logits_KHW, alone.logits_KHW),
                gradient=relative(padded.gradient_P, alone.gradient_P),
                flipped=float((padded.logits_KHW.argmax(0) != alone.logits_KHW.argmax(0)).double().mean()),
            )
        )
    return found


def run_on(padding: Padding, seed: int, canvas: tuple[int, int], device: DeviceType) -> Outcome:
    torch.manual_seed(seed)
    model = build_model(
        "veernet",
        num_classes=3,
        norm_groups="half-or-16",
        norm_precision="fp32",
        checkpointing="none",
        padding=padding,
    ).to(device)
    example = draw_example(seed=seed, index=0, height=IMAGE[0], width=IMAGE[1], task="multiclass")
    batch = to_device(collate([example], canvas=canvas), torch.device(device), non_blocking=False)
    images, targets, valid = device_tensors(batch)
    logits = model(images, valid)
    tversky_loss_sum(logits, targets, valid).backward()  # type: ignore[no-untyped-call]  # torch 2.13 leaves it untyped
    gradients = [parameter.grad.double().flatten() for parameter in model.parameters() if parameter.grad is not None]
    return Outcome(logits.detach().double()[0, :, : IMAGE[0], : IMAGE[1]], torch.cat(gradients))


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def padding_of(sampler: SamplerName) -> float:
    """Return the share of padding in an epoch of the published run."""
    sizes = SizeDistribution(
        widths=PixelRange(start=3200, stop=12_800), heights=PixelRange(start=480, stop=640), law="uniform"
    )
    config = PlanConfig(sampler=sampler, batch_size=BATCH_SIZE, micro_batch_size=BATCH_SIZE, seed=0)
    return account_for_epoch(draw_sizes(sizes, num_examples=NUM_EXAMPLES, seed=0), config).padding_ratio


def figure_of(leaks: Sequence[Leak], samplers: dict[str, float], *, origin: Provenance) -> Figure:
    figure, axes = new_figure(
        title="What padding does to real pixels",
        caption=f"An image of {IMAGE[0]} x {IMAGE[1]} px padded, against itself alone. Points: mean of {len(SEEDS)} "
        "images and weights, untrained; bars: smallest and largest.",
        origin=origin,
        trials=f"{len(leaks)} comparisons",
    )
    for padding, line, fill in (("plain", "-", "full"), ("exact", "--", "none")):
        for what, marker in (("output", "o"), ("gradient", "s")):
            rows = [
                [getattr(leak, what) for leak in leaks if (leak.padding, leak.share) == (padding, s)] for s in SHARES
            ]
            means = [fmean(row) for row in rows]
            axes.errorbar(
                [100 * share for share in SHARES],
                means,
                yerr=[
                    [mean - min(row) for mean, row in zip(means, rows, strict=True)],
                    [max(row) - mean for mean, row in zip(means, rows, strict=True)],
                ],
                color=COLOURS[what],
                marker=marker,
                fillstyle=fill,
                linestyle=line,
                capsize=3,
                label=f"{what}, {padding} padding",
            )
    for sampler, share in samplers.items():
        axes.axvline(100 * share, color="#888888", linestyle=":", linewidth=1.1)
        axes.annotate(
            sampler,
            (100 * share, 0.5),
            xycoords=axes.get_xaxis_transform(),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color="#666666",
        )
    axes.set_yscale("log")
    axes.set_xlim(0, 80)
    axes.set_xlabel("padding (% of the canvas)")
    axes.set_ylabel("difference (ratio to the norm)")
    legend_below(axes)
    return figure


def report_text(leaks: Sequence[Leak], samplers: dict[str, float], *, name: str, origin: Provenance) -> str:
    def told(padding: Padding, share: float, what: str) -> str:
        values = [getattr(leak, what) for leak in leaks if (leak.padding, leak.share) == (padding, share)]
        if what == "flipped":
            return f"{100 * fmean(values):.2g} % ({100 * min(values):.2g} to {100 * max(values):.2g})"
        return f"{fmean(values):.2g} ({min(values):.2g} to {max(values):.2g})"

    lines = [
        "# What padding does to real pixels",
        "",
        f"One image of {IMAGE[0]} x {IMAGE[1]} px on its own aligned canvas, and on wider ones of which a share is "
        "padding. The loss counts real pixels only, in all of them. What still differs came through the statistics of "
        "GroupNorm and through attention. veernet in fp32, a batch of one, weights drawn and not trained: mean over "
        f"{len(SEEDS)} images and weights, with the smallest and the largest.",
        "",
        "| padding of the canvas | layers | logits of real pixels differ by | real pixels whose class changes "
        "| gradient differs by |",
        "|---:|---|---:|---:|---:|",
        *(
            f"| {100 * share:.0f} % | {padding} | {told(padding, share, 'output')} | "
            f"{told(padding, share, 'flipped')} | {told(padding, share, 'gradient')} |"
            for share in SHARES
            for padding in PADDINGS
        ),
        "",
        f"![What padding does to real pixels]({name}.png)",
        "",
        f"Samplers pad as much, in a plan of {NUM_EXAMPLES:,} logs of 480 to 640 x 3,200 to 12,800 px in batches of "
        f"{BATCH_SIZE}: " + ", ".join(f"{sampler} {100 * share:.1f} %" for sampler, share in samplers.items()) + ". "
        "So with plain padding a network that is trained on batches meets other numbers than one that reads an image "
        "alone, and the more so the more its sampler pads. With `--padding exact` there is nothing but rounding.",
        "",
        origin.line(f"{len(leaks)} comparisons"),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
