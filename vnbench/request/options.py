"""Every option of every command: its name, its parser, its help and its default, for the command line and for files."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, get_args

from vnbench.errors import InputError
from vnbench.meant import closest
from vnbench.parsers import whole, wholes, word, words
from vnbench.records.readings import METRICS
from vnbench.records.record import STATUSES
from vnbench.records.spec.axes import AXES, COMPUTING_LEVERS, LOOPING_LEVERS
from vnbench.records.spec.lever import Lever
from vnbench.records.spec.words import (
    DEVICE_TYPES,
    HARMS,
    MAX_CLASSES,
    MAX_EPOCH,
    MEMORY_BYS,
    MODEL_NAMES,
    SIZE_LAWS,
    SNAPSHOT_MODES,
    SOAKS,
    SWEPT_KINDS,
    TASKS,
)
from vnbench.request.option import (
    IMAGES,
    LIMITS,
    MEASURING,
    PLANNING,
    RESULTS,
    VARIED,
    Option,
    by_name,
    path,
    pick,
    yes,
)
from vnbench.request.own_model import OwnModel, is_own_model, read_own_model
from vnbench.request.shard import parse_shard
from vnbench.units import (
    parse_amount,
    parse_bytes,
    parse_duration,
    parse_pixel_range,
    parse_pixels,
    parse_positive,
    parse_ratio,
    split_list,
)

DesignName = Literal["one-at-a-time", "factored", "full"]
DESIGN_NAMES: tuple[DesignName, ...] = get_args(DesignName)

USUAL_LEVERS = (
    "batch_size",
    "micro_batch_size",
    "precision",
    "norm_precision",
    "checkpointing",
    "sampler",
    "num_workers",
)
"""Levers that the first page of the help shows."""

SNAPSHOT_RULES = ("best", "epoch", "none")


def _model(text: str, where: str) -> str | OwnModel:
    if is_own_model(text):
        return read_own_model(os.path.expanduser(text), where=where)
    if text not in MODEL_NAMES:
        raise InputError(
            where,
            text,
            allowed=f"must be one of {', '.join(MODEL_NAMES)}, or FILE.py:FUNCTION for a network of your own",
            remedy=f"write {closest(text, MODEL_NAMES) or 'one of these'}",
        )
    return text


def _center(text: str, where: str) -> dict[str, Any]:
    options = [lever.option for lever in AXES.values()]
    chosen: dict[str, Any] = {}
    for part in split_list(text, where=where):
        name, _, value = part.partition("=")
        if name not in options or not value:
            raise InputError(
                where,
                part,
                allowed=f"the centre is a list of AXIS=VALUE with an axis of {', '.join(options)}",
                remedy=f"write {where} batch-size=4,precision=bf16",
            )
        (chosen[name],) = AXES[name.replace("-", "_")].parse(value, f"{where} {name}=")
    return chosen


def _configuration(text: str, where: str) -> dict[str, Any]:
    """Return the levers of a configuration, as of a centre; its allocator may be a text of PYTORCH_ALLOC_CONF."""
    parts = re.split(r",(?=\s*[a-z-]+=)", text)
    conf = next((part for part in parts if re.match(r"\s*allocator=[^=]*:", part)), None)
    if conf is None:
        return _center(text, where)
    others = ",".join(part for part in parts if part is not conf)
    return (_center(others, where) if others else {}) | {"allocator": re.sub(r"\s", "", conf.partition("=")[2])}


def _spread(text: str, where: str) -> float:
    return 0.0 if text in ("0", "0%") else parse_ratio(text, where)


def _snapshot_rule(text: str, where: str) -> str | float:
    is_time = any(character.isdigit() for character in text)
    return parse_duration(text, where) if is_time else word(SNAPSHOT_RULES)(text, where)


def _axis(lever: Lever) -> Option:
    """Return the option of a lever."""
    is_told = lever.parse_axis is not None or all(one in lever.help for one in lever.words)
    values = "" if is_told else f": {', '.join(lever.words)}"
    return Option(
        name=lever.option,
        parse=lever.parse,
        metavar=lever.metavar,
        help=lever.help + values,
        default={device: lever.swept_on(device) for device in DEVICE_TYPES},
        panel=VARIED,
        is_rare=lever.name not in USUAL_LEVERS,
        words=lever.words,
    )


OPTIONS: Mapping[str, Option] = by_name(
    Option(
        name="widths",
        parse=parse_pixel_range,
        metavar="A:B",
        help="Image widths in pixels, smallest:largest, such as 3200:12800",
        panel=IMAGES,
    ),
    Option(
        name="heights",
        parse=parse_pixel_range,
        metavar="A:B",
        help="Image heights in pixels, smallest:largest",
        default="480:640",
        panel=IMAGES,
    ),
    Option(
        name="size-law",
        parse=word(SIZE_LAWS),
        metavar="LAW",
        help="Distribution of synthetic sizes: uniform or log-uniform",
        default="uniform",
        panel=IMAGES,
        is_rare=True,
    ),
    Option(
        name="sizes",
        parse=path,
        metavar="FILE.csv",
        help="CSV file with the size of each image, in place of --widths: columns width,height",
        panel=IMAGES,
    ),
    Option(
        name="images",
        parse=path,
        metavar="DIR",
        help="Folder of your images, with their masks beside them, paired by name",
        unset="synthetic images",
        panel=IMAGES,
    ),
    Option(
        name="corpus",
        parse=path,
        metavar="DIR",
        help="Folder that vnbench corpus wrote, or the same as --images",
        panel=IMAGES,
        is_rare=True,
    ),
    Option(
        name="examples",
        parse=whole(1, 10_000_000),
        metavar="N",
        help="Synthetic images; 80 % of them are trained on",
        default={"cuda": "240", "cpu": "60"},
        panel=IMAGES,
        is_rare=True,
        field="num_examples",
    ),
    Option(
        name="task",
        parse=word(TASKS),
        metavar="NAME",
        help="What masks hold: multiclass, or binary for 0 and 1",
        default="multiclass",
        panel=IMAGES,
    ),
    Option(
        name="classes",
        parse=whole(2, MAX_CLASSES),
        metavar="N",
        help="Classes in your masks, background included",
        unset="3, or 2 of --task binary",
        panel=IMAGES,
    ),
    Option(
        name="mask-values",
        parse=wholes(0, 255),
        metavar="N,...",
        help="Pixel values in your masks of the classes 0, 1, ..., such as 0,255",
        unset="0,1,...",
        panel=IMAGES,
    ),
    Option(
        name="ignore-value",
        parse=whole(0, 255),
        metavar="N",
        help="Pixel value in your masks that the loss leaves out, such as 255",
        panel=IMAGES,
        is_rare=True,
    ),
    *map(_axis, AXES.values()),
    Option(
        name="model",
        parse=_model,
        metavar="NAME",
        help="Network: veernet, veernet-tiny, or FILE.py:FUNCTION for your own",
        default={"cuda": "veernet", "cpu": "veernet-tiny"},
        panel=MEASURING,
    ),
    Option(
        name="device",
        parse=word(("auto", *DEVICE_TYPES)),
        metavar="NAME",
        help="Where to train: cuda, cpu, or auto for the GPU if there is one",
        unset="auto",
        panel=MEASURING,
    ),
    Option(
        name="kind",
        parse=words(SWEPT_KINDS),
        metavar="NAME,...",
        help="What to measure: memory, compute, loader, training, snapshot",
        default="memory,training",
        panel=MEASURING,
        field="kinds",
    ),
    Option(
        name="design",
        parse=word(DESIGN_NAMES),
        metavar="NAME",
        help="Which combinations: one-at-a-time, full, or factored (measure parts, forecast the rest)",
        default={"cuda": "factored", "cpu": "one-at-a-time"},
        panel=MEASURING,
    ),
    Option(
        name="center",
        parse=_center,
        metavar="AXIS=VALUE,...",
        help="Configuration that one-at-a-time varies, such as batch-size=4,precision=bf16",
        unset="first value of each axis",
        panel=MEASURING,
        is_rare=True,
    ),
    Option(
        name="subset",
        parse=whole(1, 1_000_000),
        metavar="N",
        help="Training images in a measured epoch",
        default={"cuda": "128", "cpu": "6"},
        panel=MEASURING,
        is_rare=True,
        field="subset_size",
    ),
    Option(
        name="compute-sizes",
        parse=whole(2, 100),
        metavar="N",
        help="Image sizes that a compute trial times",
        default="9",
        panel=MEASURING,
        is_rare=True,
        field="num_compute_sizes",
    ),
    Option(
        name="warm-up-steps",
        parse=whole(1, 1000),
        metavar="N",
        help="Steps before measuring starts",
        default={"cuda": "3", "cpu": "1"},
        panel=MEASURING,
        is_rare=True,
        field="num_warm_up_steps",
    ),
    Option(
        name="noise-target",
        parse=parse_ratio,
        metavar="RATIO",
        help="Measure until the 95 % interval is this narrow",
        default="1%",
        panel=MEASURING,
        is_rare=True,
    ),
    Option(
        name="min-steps",
        parse=whole(2, 10_000),
        metavar="N",
        help="Fewest steps measured per image size",
        default={"cuda": "10", "cpu": "3"},
        panel=MEASURING,
        is_rare=True,
    ),
    Option(
        name="max-steps",
        parse=whole(2, 10_000),
        metavar="N",
        help="Most steps measured per image size",
        default={"cuda": "200", "cpu": "30"},
        panel=MEASURING,
        is_rare=True,
    ),
    Option(
        name="max-epochs",
        parse=whole(1, 1000),
        metavar="N",
        help="Most epochs measured per process",
        default={"cuda": "4", "cpu": "1"},
        panel=MEASURING,
        is_rare=True,
    ),
    Option(
        name="replicates",
        parse=whole(1, 1000),
        metavar="N",
        help="Processes that time each configuration; more of them narrow the intervals",
        default="1",
        panel=MEASURING,
    ),
    Option(
        name="reference-runs",
        parse=whole(1, 1000),
        metavar="N",
        help="Processes that time the centre, spread over the sweep",
        unset="3",
        panel=MEASURING,
        is_rare=True,
    ),
    Option(
        name="soak",
        parse=words(SOAKS),
        metavar="ORDER,...",
        help="Passes before the worst case in memory trials: none, sampler-order, largest-first",
        default="none",
        panel=MEASURING,
        is_rare=True,
    ),
    Option(
        name="snapshot-mode",
        parse=words(SNAPSHOT_MODES),
        metavar="NAME,...",
        help="Snapshots of --kind snapshot: sync waits for the disk, async for a copy of the state",
        default="sync,async",
        panel=MEASURING,
        field="snapshot_modes",
        is_rare=True,
    ),
    Option(
        name="snapshot-target",
        parse=path,
        metavar="DIR",
        help="Folder of the disk that snapshots of --kind snapshot go to",
        unset="the temporary folder",
        panel=MEASURING,
        is_rare=True,
    ),
    Option(
        name="memory-by",
        parse=word(MEMORY_BYS),
        metavar="NAME",
        help="How memory is found: step runs one, trace only counts its tensors",
        default="step",
        panel=MEASURING,
        is_rare=True,
    ),
    Option(
        name="find-max-batch",
        parse=yes,
        metavar="",
        help="Find the largest micro-batch that fits; time nothing",
        panel=MEASURING,
    ),
    Option(
        name="seed",
        parse=whole(0, 2**31 - 1),
        metavar="N",
        help="Seed of all random choices",
        default="0",
        panel=MEASURING,
        is_rare=True,
    ),
    Option(
        name="shard",
        parse=parse_shard,
        metavar="I/N",
        help="Measure one of N shares of the sweep, such as 3/16; vnbench merge joins their files",
        unset="all of it",
        panel=MEASURING,
        is_rare=True,
    ),
    Option(
        name="time-budget",
        parse=parse_duration,
        metavar="TIME",
        help="End within this time, such as 90s, 10m or 2h",
        default={"cpu": "270s"},
        panel=LIMITS,
        field="time_budget_s",
    ),
    Option(
        name="measuring-time",
        parse=parse_duration,
        metavar="TIME",
        help="Most time per image size, or per training trial",
        default={"cuda": "15s", "cpu": "10s"},
        panel=LIMITS,
        is_rare=True,
        field="max_measuring_s",
    ),
    Option(
        name="memory-limit",
        parse=parse_bytes,
        metavar="SIZE",
        help="Memory that a trial may use, such as 8GiB",
        unset="all",
        panel=LIMITS,
        field="memory_limit_bytes",
    ),
    Option(
        name="cache-limit",
        parse=parse_bytes,
        metavar="SIZE",
        help="Most bytes that --cache keeps, such as 4GiB",
        default="4GiB",
        panel=LIMITS,
        is_rare=True,
        field="cache_limit_bytes",
    ),
    Option(
        name="max-attempts",
        parse=whole(1, 10),
        metavar="N",
        help="Tries at a trial that other programs disturbed",
        default="3",
        panel=LIMITS,
        is_rare=True,
    ),
    Option(
        name="trial-timeout",
        parse=parse_duration,
        metavar="TIME",
        help="End a trial that takes longer, such as 10m",
        default="10m",
        panel=LIMITS,
        is_rare=True,
        field="trial_timeout_s",
    ),
    Option(
        name="worker-timeout",
        parse=parse_duration,
        metavar="TIME",
        help="Give up a loader worker that is silent for longer",
        default="2m",
        panel=LIMITS,
        is_rare=True,
        field="worker_timeout_s",
    ),
    Option(
        name="retry",
        parse=words(STATUSES),
        metavar="STATUS,...",
        help="Repeat trials that ended with this status, such as crashed,timeout",
        panel=LIMITS,
    ),
    Option(
        name="appetite",
        parse=parse_amount,
        metavar="N",
        help="Images per second that the loader has to supply",
        unset="what computing takes",
        panel=RESULTS,
        is_rare=True,
        field="appetite_examples_per_s",
    ),
    Option(
        name="price-per-hour",
        parse=parse_amount,
        metavar="AMOUNT",
        help="Price of an hour of this machine; adds the cost of an epoch",
        panel=RESULTS,
        is_rare=True,
    ),
    Option(
        name="no-plots",
        parse=yes,
        metavar="",
        help="Draw no figures (vnbench plot draws them later)",
        panel=RESULTS,
    ),
    Option(
        name="out",
        parse=path,
        metavar="FILE.jsonl",
        help="Results file; what it holds already is not measured again",
        unset="by device, own network and images",
        panel=RESULTS,
    ),
)
"""Options of a sweep, on the command line and in a configuration file."""

SIZES = ("widths", "heights", "size-law", "sizes")
"""Options that tell sizes alone."""

OF_IMAGES = (*SIZES, "images", "corpus", "examples")
"""Options of a sweep that tell which images it is of."""

OF_MASKS = ("classes", "mask-values", "ignore-value")
"""Options that tell what the numbers in masks of one's own mean."""

CORPUS_OPTIONS: Mapping[str, Option] = {
    **pick(OPTIONS, SIZES),
    **by_name(
        OPTIONS["examples"].asked_as("Number of images"),
        *(OPTIONS[name] for name in ("task", *OF_MASKS)),
        OPTIONS["image-format"].asked_as("Further image formats: tiff-g4, tiff-deflate, tiff-zstd", panel=IMAGES),
        OPTIONS["seed"],
    ),
}
"""Options of ``vnbench corpus``."""

BATCHING_OPTIONS: Mapping[str, Option] = {
    **pick(OPTIONS, SIZES),
    **by_name(
        OPTIONS["examples"].asked_as("Number of images, their sizes drawn from --widths"),
        OPTIONS["batch-size"].asked_as("Images per optimizer step", metavar="N"),
        OPTIONS["sampler"].asked_as(OPTIONS["sampler"].help),
        OPTIONS["micro-batch-size"].asked_as("Images per forward and backward pass", unset="the batch", metavar="N"),
        OPTIONS["shapes"].asked_as("Most padded sizes (canvases), or any", default="any", metavar="N"),
        Option(
            name="pixel-budget",
            parse=parse_pixels,
            metavar="PIXELS",
            help="Most pixels of a pass with --sampler pixel-budget, such as 16.4Mpx",
            unset="micro-batch x the largest canvas",
            panel=VARIED,
        ),
        Option(
            name="ranks",
            parse=whole(1, 1_000_000),
            metavar="N",
            help="Processes of a distributed run that share each step",
            panel=MEASURING,
        ),
        Option(
            name="epoch",
            parse=whole(0, MAX_EPOCH),
            metavar="N",
            help="Epoch to account for, counted from 0",
            unset="2; 0 with --plan-out",
            panel=MEASURING,
        ),
        OPTIONS["seed"],
        Option(
            name="resume",
            parse=path,
            metavar="FILE",
            help="State of a running epoch; accounts for the rest of it",
            panel=RESULTS,
        ),
        Option(
            name="plan-out",
            parse=path,
            metavar="FILE.jsonl",
            help="Write the plan of the epoch, one step per line",
            panel=RESULTS,
        ),
    ),
}
"""Options of ``vnbench batching``."""

PROFILE_OPTIONS: Mapping[str, Option] = {
    **pick(OPTIONS, ("widths", "heights", "task", "classes")),
    **by_name(
        OPTIONS["micro-batch-size"].asked_as("Images in the worst-case step", default="1"),
        *(
            OPTIONS[name]
            for name in (
                "precision",
                "norm-precision",
                "checkpointing",
                "memory-format",
                "optimizer",
                "padding",
                "norm-kernel",
                "model",
                "device",
                "seed",
                "memory-limit",
                "trial-timeout",
            )
        ),
    ),
}
"""Options of ``vnbench profile``."""

RUN_OPTIONS: Mapping[str, Option] = {
    **by_name(
        OPTIONS["examples"].asked_as("Training images of an epoch", unset="the rows of --sizes", panel=PLANNING),
        Option(
            name="epochs",
            parse=whole(1, 1_000_000),
            metavar="N",
            help="Number of epochs",
            panel=PLANNING,
        ),
        Option(
            name="validation",
            parse=whole(0, 10_000_000),
            metavar="N",
            help="Validation images of an epoch",
            unset="0",
            panel=PLANNING,
        ),
    ),
    **by_name(
        Option(
            name="model",
            parse=lambda text, where: text,
            metavar="NAME",
            help="Network to plan for, if RESULTS hold several",
            panel=PLANNING,
        ),
        OPTIONS["widths"].asked_as(OPTIONS["widths"].help, unset="those measured"),
        OPTIONS["heights"].asked_as(OPTIONS["heights"].help, unset="those measured"),
        OPTIONS["size-law"],
        OPTIONS["sizes"],
        OPTIONS["batch-size"].asked_as("Images per optimizer step", unset="those measured"),
        OPTIONS["num-workers"].asked_as("Loader workers", unset="the best measured"),
        Option(
            name="current",
            parse=_configuration,
            metavar="AXIS=VALUE,...",
            help="Configuration you train with now, such as batch-size=4,precision=fp32",
            panel=PLANNING,
        ),
        Option(
            name="hold",
            parse=_configuration,
            metavar="AXIS=VALUE,...",
            help="What every configuration must have, such as batch-size=16",
            panel=PLANNING,
        ),
        Option(
            name="card",
            parse=lambda text, where: text,
            metavar="NAME",
            help="One card that is not at hand, such as h200: the plan is from forecasts",
            panel=PLANNING,
        ),
        Option(
            name="memory",
            parse=parse_bytes,
            metavar="SIZE",
            help="Memory of the GPU, such as 24GiB",
            unset="of the one measured",
            panel=PLANNING,
        ),
        Option(
            name="device-scale",
            parse=parse_positive,
            metavar="FACTOR",
            help="How many times slower your device is than the one measured",
            unset="1",
            panel=PLANNING,
        ),
        Option(
            name="window",
            parse=parse_duration,
            metavar="TIME",
            help="Time that you have, such as 12h",
            panel=PLANNING,
        ),
        Option(
            name="interruptions",
            parse=whole(0, 10_000),
            metavar="N",
            help="Number of interruptions to expect",
            panel=PLANNING,
        ),
        Option(
            name="mtbi",
            parse=parse_duration,
            metavar="TIME",
            help="Mean time between interruptions, in place of their number, such as 6h",
            panel=PLANNING,
        ),
        Option(
            name="restart-cost",
            parse=parse_duration,
            metavar="TIME",
            help="Time from an interruption to the next step",
            unset="5m",
            panel=PLANNING,
        ),
        Option(
            name="snapshot-cost",
            parse=parse_duration,
            metavar="TIME",
            help="Time to save one snapshot",
            unset="2s",
            panel=PLANNING,
        ),
        Option(
            name="snapshot-interval",
            parse=_snapshot_rule,
            metavar="TIME",
            help="Time between snapshots, such as 30m; or best, epoch, none",
            unset="best",
            panel=PLANNING,
        ),
        OPTIONS["price-per-hour"].asked_as("Price of an hour of the machine", panel=PLANNING),
        OPTIONS["seed"],
    ),
}
"""Options of a run that is planned, on the command line and in a file of several runs."""

DRAWN_RUN_OPTIONS: Mapping[str, Option] = {
    **by_name(
        RUN_OPTIONS["examples"].asked_as("Training images of an epoch of the planned run", default="15000"),
        RUN_OPTIONS["epochs"].asked_as("Epochs of the planned run", default="50"),
        RUN_OPTIONS["window"].asked_as("Time that you have for it, such as 12h", default="12h"),
    ),
    **by_name(
        RUN_OPTIONS["card"].asked_as(
            "Card, or several, if RESULTS hold forecasts for more", metavar="NAME,...", unset="all"
        ),
    ),
    **pick(RUN_OPTIONS, ("validation", "model", "interruptions", "memory", "widths", "heights", "sizes")),
}
"""Options of the run whose plan is drawn beside records; the published multiclass run, and a night, by default."""

GATE_OPTIONS: Mapping[str, Option] = by_name(
    Option(
        name="tolerance-time",
        parse=parse_ratio,
        metavar="RATIO",
        help="Allowed slowdown",
        default="1.5%",
        panel=LIMITS,
    ),
    Option(
        name="tolerance-memory",
        parse=parse_ratio,
        metavar="RATIO",
        help="Allowed growth of peak memory",
        default="0.5%",
        panel=LIMITS,
    ),
    Option(
        name="tolerance-padding",
        parse=parse_ratio,
        metavar="RATIO",
        help="Allowed growth of padded pixels",
        default="0.1%",
        panel=LIMITS,
    ),
    Option(
        name="sweep-spread",
        parse=_spread,
        metavar="RATIO",
        help="How far whole sweeps of one revision differ",
        unset="found from the sweeps",
        panel=LIMITS,
    ),
    Option(
        name="on-undecided",
        parse=word(("fail", "warn")),
        metavar="NAME",
        help="When noise hides the answer: fail (exit code 3), or warn",
        default="fail",
        panel=LIMITS,
    ),
    Option(
        name="metrics",
        parse=words(METRICS),
        metavar="NAME,...",
        help=f"What to compare: {', '.join(METRICS)}",
        unset="all",
        panel=MEASURING,
    ),
    Option(
        name="detect",
        parse=parse_ratio,
        metavar="RATIO",
        help="Slowdown that --calibrate plans to find",
        default="3%",
        panel=MEASURING,
    ),
    Option(
        name="time-cap",
        parse=parse_duration,
        metavar="TIME",
        help="Time for --against or --rerun, from the first trial on; the pair that runs at its end is finished",
        default="30m",
        panel=LIMITS,
    ),
)
"""Options of ``vnbench gate`` that are read as values; the others are files and switches."""

SHOWN_AGAINST = ("model", "widths", "images", "out")
"""Options of a sweep that the first page of a gate's help shows."""

AGAINST_OPTIONS: Mapping[str, Option] = {
    **{name: replace(option, is_rare=name not in SHOWN_AGAINST) for name, option in OPTIONS.items()},
    **by_name(
        replace(OPTIONS["design"], default="one-at-a-time", is_rare=True),
        OPTIONS["out"].asked_as(
            "Folder for the records of --against, or the figures of --history",
            unset="results/gate/BASELINE..CANDIDATE",
            metavar="DIR",
        ),
    ),
}
"""Options of a sweep as ``vnbench gate --against`` takes them."""

NOT_FORECAST = ("allocator", "deterministic", *LOOPING_LEVERS)
"""Levers of computing that a forecast does not vary: it has allocators of its own, and runs no kernels."""

FORECAST_LEVERS = (
    "batch_size",
    "micro_batch_size",
    *(name for name in COMPUTING_LEVERS if name not in NOT_FORECAST),
)
"""Levers that a forecast compares; the allocator has an option of its own."""

FORECAST_OPTIONS: Mapping[str, Option] = {
    **pick(OPTIONS, ("widths", "heights", "sizes", "task", "classes")),
    **by_name(
        OPTIONS["model"].asked_as(OPTIONS["model"].help, default=OPTIONS["model"].default_on("cuda")),
        *(
            OPTIONS[lever.option].asked_as(OPTIONS[lever.option].help, default=lever.swept_on("cuda"))
            for lever in AXES.values()
            if lever.name in FORECAST_LEVERS
        ),
        DRAWN_RUN_OPTIONS["examples"],
        DRAWN_RUN_OPTIONS["epochs"],
        OPTIONS["out"].asked_as("Results file for the forecasts", unset="results/forecasts/CARDS.jsonl"),
        Option(
            name="snapshot",
            parse=path,
            metavar="FILE",
            help="Recording of a run to take again: a memory snapshot of torch, or plain events",
            panel=RESULTS,
        ),
        Option(
            name="device-index",
            parse=whole(0, 1023),
            metavar="N",
            help="Device of the recording, where it holds several",
            unset="the only one with events",
            panel=RESULTS,
        ),
        Option(
            name="card",
            parse=lambda text, where: split_list(text, where=where),
            metavar="NAME|24GiB,...",
            help="Cards that are not at hand, or sizes of memory",
            unset="memory without an end, for --snapshot",
            panel=PLANNING,
        ),
        Option(
            name="cards",
            parse=path,
            metavar="FILE.toml",
            help="Cards of your own, in [[card]] tables",
            panel=PLANNING,
        ),
        Option(
            name="allocator",
            parse=lambda text, where: text,
            metavar="NAME,...",
            help="native, expandable-segments, or a text of PYTORCH_ALLOC_CONF; may be given again",
            unset="as recorded; native for --widths",
            panel=PLANNING,
            is_repeatable=True,
        ),
    ),
}
"""Options of ``vnbench forecast``."""

AUDIT_OPTIONS: Mapping[str, Option] = by_name(
    OPTIONS["model"].asked_as(OPTIONS["model"].help, default="veernet-tiny"),
    OPTIONS["task"],
    OPTIONS["seed"].asked_as(OPTIONS["seed"].help, default="0"),
)
"""Options of ``vnbench audit``."""

ONE_RUN_OPTIONS: Mapping[str, Option] = by_name(
    OPTIONS["widths"].asked_as(OPTIONS["widths"].help, default="320:1280"),
    OPTIONS["heights"].asked_as(OPTIONS["heights"].help, default="48:64"),
    OPTIONS["examples"].asked_as("Images of an epoch, a few of them for validation", default="48"),
    *(
        OPTIONS[name].asked_as(OPTIONS[name].help, default=default)
        for name, default in (
            ("model", "veernet-tiny"),
            ("batch-size", "4"),
            ("micro-batch-size", "2"),
            ("precision", "fp32"),
            ("sampler", "bucketed"),
            ("num-workers", "1"),
            ("checkpointing", "none"),
            ("seed", "0"),
        )
    ),
    *(OPTIONS[name] for name in ("images", "task", "classes", "mask-values", "ignore-value", "device")),
)
"""Options of commands that start one training run again and again, which is short unless it is told otherwise."""

DRILL_OPTIONS: Mapping[str, Option] = {
    **by_name(
        Option(
            name="kills",
            parse=whole(1, 10_000),
            metavar="N",
            help="Kills of the run",
            default="20",
            panel=PLANNING,
        ),
        RUN_OPTIONS["epochs"].asked_as(RUN_OPTIONS["epochs"].help, default="10"),
        Option(
            name="interval",
            parse=whole(1, 10_000_000),
            metavar="STEPS",
            help="Optimizer steps between snapshots",
            unset="the best for these kills",
            panel=PLANNING,
        ),
        Option(
            name="snapshot-mode",
            parse=word(SNAPSHOT_MODES),
            metavar="NAME",
            help="Whether training waits for the disk (sync), or for a copy of its state (async)",
            default="sync",
            panel=PLANNING,
        ),
        Option(
            name="snapshot-target",
            parse=path,
            metavar="DIR",
            help="Folder of the disk that snapshots go to",
            unset="the temporary folder",
            panel=PLANNING,
        ),
        Option(
            name="harm",
            parse=word(HARMS),
            metavar="NAME",
            help="What else happens: files are torn after kills, or the disk fills up",
            default="none",
            panel=PLANNING,
        ),
    ),
    **ONE_RUN_OPTIONS,
}
"""Options of ``vnbench drill``."""

REPEAT_OPTIONS: Mapping[str, Option] = {
    **by_name(
        Option(
            name="steps",
            parse=whole(1, 100_000),
            metavar="N",
            help="Optimizer steps of each run",
            default="50",
            panel=MEASURING,
        ),
        Option(
            name="runs",
            parse=whole(2, 100),
            metavar="N",
            help="Runs, each in a process of its own",
            default="2",
            panel=MEASURING,
        ),
    ),
    **ONE_RUN_OPTIONS,
}
"""Options of ``vnbench repeat``."""

ALL_OPTIONS: Mapping[str, Option] = {
    **RUN_OPTIONS,
    **BATCHING_OPTIONS,
    **GATE_OPTIONS,
    **FORECAST_OPTIONS,
    **OPTIONS,
}
"""Every option by its name, as a sweep asks for it where it does."""
