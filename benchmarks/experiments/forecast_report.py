"""Hold forecasts of memory and time against what others published of their own networks, every residual shown.

    python benchmarks/experiments/forecast_report.py --out reports

The bounds below were set before anything was compared. Nothing is measured here: networks are traced on fake tensors,
which takes about two minutes of one core.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import forecast_classifiers as classifiers
import forecast_networks as networks
import torch
from forecast_traces import Training, traced
from markdown_page import write_page

from vnbench.forecast.cards import Card, parse_card
from vnbench.forecast.roofline import step_times
from vnbench.forecast.settings import NAMED, NATIVE
from vnbench.forecast.step import operators_of_step, replayed
from vnbench.forecast.workspaces import ddp_bytes, with_unseen
from vnbench.output.view import Column, View
from vnbench.output.words.numbers import significant
from vnbench.units import format_percent

MIB = 2**20

LARGE_MIB = 2000.0
"""Peaks from which memory is judged: below, constants that nobody published weigh more than the network."""

MEDIAN_ERROR, MOST_UNDER, HELD, WIDEST = 0.05, -0.10, 0.90, 1.3
"""Memory: median error of a bracket's middle, worst shortfall of its upper end, share of rows inside, and width."""

MEDIAN_TIME_ERROR, TIMES_HELD = 0.15, 0.90
"""Time: median error of the central value, and share of rows inside of their bracket."""

MMSEG = "mmsegmentation's model pages, V100, training under DistributedDataParallel"
TIMM = "timm's benchmark-train-amp-nhwc-pt112-cu113-rtx3090.csv"


@dataclass(frozen=True, kw_only=True, slots=True)
class Peak:
    """A published peak of allocated memory."""

    name: str
    training: Training
    published_mib: float
    rounded_mib: float
    """Half of the last digit that was published."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A published time of a step."""

    name: str
    training: Training
    published_ms: float
    is_fitted: bool
    """Whether the factors of the model were read off it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """A published figure and its forecast, in one unit."""

    name: str
    published: float
    low: float
    central: float
    high: float
    rounded: float = 0.0
    is_fitted: bool = False

    @property
    def error(self) -> float:
        """Central value over the published one, less 1."""
        return self.central / self.published - 1

    @property
    def is_held(self) -> bool:
        """Whether the bracket holds some value that rounds to the published one."""
        return self.low <= self.published + self.rounded and self.published - self.rounded <= self.high


def _peak(
    name: str,
    build: Callable[[], networks.Segmenter],
    *,
    images: tuple[int, int, int],
    gb: str,
    optimizer: str = "sgd",
    is_fp16: bool = False,
) -> Peak:
    digits = len(gb.partition(".")[2])
    return Peak(
        name=f"{name}, {images[0]} x {images[1]} x {images[2]} px{', fp16' if is_fp16 else ''}",
        training=Training(
            build=build,
            loss=lambda network, x, y: network.loss(x, y),  # type: ignore[operator]  # a Segmenter
            images=images,
            optimizer="adamw" if optimizer == "adamw" else "sgd",
            precision="fp16" if is_fp16 else "fp32",
        ),
        published_mib=1000 * float(gb),
        rounded_mib=500 * 10.0**-digits,
    )


def peaks() -> Iterator[Peak]:
    """Yield the published peaks."""
    crops = {64: ("0.680", "0.599", "0.596"), 128: ("0.968", "0.982", "0.999"), 256: ("2.525", "2.588", "2.604")}
    for side, told in crops.items():
        for head, gb in zip(("fcn", "psp", "aspp"), told, strict=True):
            yield _peak(f"UNet-S5-D16 {head.upper()}", partial(networks.unet, head), images=(4, side, side), gb=gb)
    small = ("2.1", "2.6", "3.6", "4.8", "6.1", "7.2")
    large = ("3.64", "4.49", "7.42", "10.86", "15.07", "18.00")
    for name, gb in zip(networks.SEGFORMERS, small, strict=True):
        build = partial(networks.segformer, name, 150)
        yield _peak(f"SegFormer {name}", build, images=(2, 512, 512), gb=gb, optimizer="adamw")
    build = partial(networks.segformer, "B5", 150)
    yield _peak("SegFormer B5", build, images=(2, 640, 640), gb="11.5", optimizer="adamw")
    for name, gb in zip(networks.SEGFORMERS, large, strict=True):
        build = partial(networks.segformer, name, 19)
        yield _peak(f"SegFormer {name}", build, images=(1, 1024, 1024), gb=gb, optimizer="adamw")
    for depth, gb in ((18, "1.7"), (50, "5.7"), (101, "9.2")):
        yield _peak(f"FCN R-{depth}-D8", partial(networks.fcn, depth), images=(2, 512, 1024), gb=gb)
    yield _peak("FCN R-101-D8", partial(networks.fcn, 101), images=(2, 512, 1024), gb="5.37", is_fp16=True)
    for depth, gb in ((18, "1.9"), (50, "6.5"), (101, "10.4")):
        yield _peak(f"FCN R-{depth}-D8", partial(networks.fcn, depth), images=(2, 769, 769), gb=gb)
    for depth, gb in ((50, "3.4"), (101, "4.5")):
        build = partial(networks.fcn, depth, strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2), rate=6)
        yield _peak(f"FCN-D6 R-{depth}-D16", build, images=(2, 512, 1024), gb=gb)


def steps() -> Iterator[Step]:
    """Yield the published times of steps under autocast, channels-last, on 224 x 224 px."""
    rows: Sequence[tuple[str, Callable[[], torch.nn.Module], int, float, bool]] = (
        ("resnet18", partial(classifiers.resnet, 18), 512, 146.7, True),
        ("resnet34", partial(classifiers.resnet, 34), 512, 250.8, True),
        ("resnet50", partial(classifiers.resnet, 50), 512, 419.5, True),
        ("resnet101", partial(classifiers.resnet, 101), 256, 340.7, True),
        ("vgg11", partial(classifiers.vgg11, has_norms=False), 512, 536.5, True),
        ("vgg11_bn", partial(classifiers.vgg11, has_norms=True), 384, 460.9, True),
        ("mobilenetv2_100", classifiers.mobilenetv2, 512, 220.6, True),
        ("efficientnet_b0", classifiers.efficientnet_b0, 512, 291.2, True),
        ("densenet121", classifiers.densenet121, 256, 278.4, False),
        ("convnext_tiny", classifiers.convnext_tiny, 256, 311.5, False),
        (
            "efficientnet_b0_gn",
            partial(classifiers.efficientnet_b0, norm=classifiers.groups_of_eight),
            256,
            352.2,
            False,
        ),
        ("regnetx_008", classifiers.regnetx_008, 512, 494.0, False),
    )
    for name, build, batch, milliseconds, is_fitted in rows:
        yield Step(
            name=f"{name}, batch {batch}",
            training=Training(
                build=build,
                loss=classifiers.classifier_loss,
                images=(batch, 224, 224),
                has_maps=False,
                precision="fp16",
                is_channels_last=True,
            ),
            published_ms=milliseconds,
            is_fitted=is_fitted,
        )


def held_memory(one: Peak, card: Card) -> Held:
    """Return a published peak beside its forecast, in MiB; gradients lie once more in DDP's buckets."""
    trace = traced(one.training, capability=card.compute_capability or (7, 0))
    low, high = (
        replayed(trace, card, NAMED[NATIVE], is_tf32=False, is_full=is_full).peak_allocated_bytes
        + ddp_bytes(trace.parameter_bytes)
        for is_full in (False, True)
    )
    found = with_unseen(low, high)
    ends = (found.low / MIB, found.high / MIB)
    return Held(
        name=one.name,
        published=one.published_mib,
        low=ends[0],
        central=sum(ends) / 2,
        high=ends[1],
        rounded=one.rounded_mib,
    )


def held_time(one: Step, card: Card) -> Held:
    """Return a published time beside its forecast, in milliseconds."""
    trace = traced(one.training, capability=card.compute_capability or (8, 6))
    times = step_times(operators_of_step(trace, 1), card, precision=one.training.precision)
    assert times is not None
    total = times[0] + times[1]
    return Held(
        name=one.name,
        published=one.published_ms,
        low=1000 * total.low,
        central=1000 * total.central,
        high=1000 * total.high,
        is_fitted=one.is_fitted,
    )


def table(rows: Sequence[Held], *, unit: str, central: str) -> str:
    """Return the rows as a table."""

    def number(value: float) -> str:
        return significant(value, digits=3 if value < 1000 else 4)

    columns: tuple[Column[Held], ...] = (
        Column("network", lambda row: row.name, align="left"),
        Column("published", lambda row: row.published, unit=unit, text=number),
        Column("low", lambda row: row.low, unit=unit, text=number),
        Column(central, lambda row: row.central, unit=unit, text=number),
        Column("high", lambda row: row.high, unit=unit, text=number),
        Column(f"error of {central}", lambda row: row.error, text=lambda error: f"{100 * error:+.1f} %"),
        Column("inside", lambda row: "yes" if row.is_held else "**no**"),
        Column("factors read off it", lambda row: "yes" if row.is_fitted else None),
    )
    return View(rows, columns).told().markdown().replace("\\*\\*no\\*\\*", "**no**")


def memory_verdict(rows: Sequence[Held]) -> str:
    """Return what the rows above LARGE_MIB come to, beside the bounds."""
    large = [row for row in rows if row.published >= LARGE_MIB]
    median = statistics.median(abs(row.error) for row in large)
    under = min(row.high / row.published - 1 for row in large)
    held = sum(row.is_held for row in large) / len(large)
    width = max(row.high / row.low for row in large)
    return (
        f"{len(large)} rows of {LARGE_MIB / 1000:g} GB or more: median error {format_percent(median)} (bound "
        f"{format_percent(MEDIAN_ERROR)}); the upper end falls short by {format_percent(max(0.0, -under))} at most "
        f"(bound {format_percent(-MOST_UNDER)}); {format_percent(held)} of the brackets hold the published value "
        f"(bound {format_percent(HELD)}); the widest is {width:.2f} from low to high (bound {WIDEST})."
    )


def time_verdict(rows: Sequence[Held]) -> str:
    """Return what the rows come to whose figures no factor was read off, beside the bounds."""
    told = []
    for name, chosen in (
        ("no factor was read off", [row for row in rows if not row.is_fitted]),
        ("the factors were read off", [row for row in rows if row.is_fitted]),
    ):
        median = statistics.median(abs(row.error) for row in chosen)
        held = sum(row.is_held for row in chosen)
        told.append(
            f"{len(chosen)} rows that {name}: median error {format_percent(median)} (bound "
            f"{format_percent(MEDIAN_TIME_ERROR)}); {held} of {len(chosen)} brackets hold the published value (bound "
            f"{format_percent(TIMES_HELD)})."
        )
    return "\n".join(f"- {line}" for line in told)


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("reports"), help="folder of the page")
    arguments = parser.parse_args()
    v100, rtx3090 = parse_card("V100 32GB", "V100"), parse_card("RTX 3090", "RTX 3090")
    memory, times = [], []
    for peak in peaks():
        memory.append(held_memory(peak, v100))
        print(f"{peak.name}: {100 * memory[-1].error:+.1f} %", file=sys.stderr)
    for step in steps():
        times.append(held_time(step, rtx3090))
        print(f"{step.name}: {100 * times[-1].error:+.1f} %", file=sys.stderr)
    blocks = [
        "# Forecasts against published figures",
        f"Networks written anew and traced on fake tensors, torch {torch.__version__}; no GPU took part. The bounds "
        "were set before the comparison.",
        "## Memory",
        f"Peaks of allocated memory from {MMSEG}. Published values are rounded to the digits told; a bracket holds one "
        "if it holds some value that rounds to it.",
        memory_verdict(memory),
        table(memory, unit="MiB", central="middle"),
        "Peaks below 2 GB are shown and not judged: there the constant of the upper end is a large share. It (200 MiB) "
        "was suggested by the U-Net rows on small crops, so these say little of their own.",
        "Two rules were found while comparing, and are in the figures. Softmax is traced as torch before 1.11 took its "
        "gradient, with its input kept, for these networks were trained with such versions: without that SegFormer's "
        "rows are 18 to 30 % too low. And convolutions of 3 x 3 over many channels may use Winograd's transform, which "
        "raises upper ends.",
        "## Time",
        f"Steps from {TIMM}: fp16 under autocast, channels-last. The model has two factors over the roofline, and two "
        "for convolutions in groups: a central value and an upper end.",
        time_verdict(times),
        table(times, unit="ms", central="central"),
        "Outside of its bracket is a network whose every block holds a convolution in groups of 16 channels. No rule "
        "here tells how slow such kernels are. All rows are of one card; no published row has a GroupNorm of few "
        "groups on large maps, the term that dominates VeerNet's own bracket.",
    ]
    date = f"{datetime.now(UTC):%Y%m}"
    write_page(blocks, arguments.out / f"forecast_published_{date}.md", script=__file__, arguments=sys.argv[1:])


if __name__ == "__main__":
    main()
