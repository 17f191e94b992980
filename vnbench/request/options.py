"""How each option is written: its parser, the same for a flag and for a configuration file."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from vnbench.batching.epoch import MAX_EPOCH
from vnbench.batching.sizes import SIZE_LAWS
from vnbench.errors import InputError
from vnbench.records.readings import METRICS
from vnbench.records.record import STATUSES
from vnbench.records.spec import (
    ALLOCATORS,
    CACHES,
    CHECKPOINTINGS,
    COMPILES,
    DEVICE_TYPES,
    IMAGE_FORMATS,
    MEMORY_BYS,
    MEMORY_FORMATS,
    MODEL_NAMES,
    NORM_KERNELS,
    NORM_PRECISIONS,
    ON_OFF,
    OPTIMIZER_LOOPS,
    PADDINGS,
    PRECISIONS,
    SAMPLER_NAMES,
    SHAPE_VISITS,
    SOAKS,
    SWEPT_KINDS,
    TASKS,
    WORKER_KINDS,
)
from vnbench.request.own_model import OwnModel, is_own_model, read_own_model
from vnbench.units import (
    parse_amount,
    parse_bytes,
    parse_duration,
    parse_int,
    parse_int_list,
    parse_pixel_range,
    parse_pixels,
    parse_positive,
    parse_ratio,
    split_list,
)

DesignName = Literal["one-at-a-time", "factored", "full"]
DESIGN_NAMES: tuple[DesignName, ...] = get_args(DesignName)

MAX_BATCH_SIZE = 4096
"""Largest batch that is taken for one: on these images a larger number is a typing error."""


MAX_SHAPES = 4096
"""Most canvases that training may be held to: more than an epoch of logs has without being held to any."""


SNAPSHOT_RULES = ("best", "epoch", "none")

YES_OR_NO = ("yes", "no")

SWITCHES = ("find-max-batch", "no-plots")
"""Options that are flags without a value on the command line, and true or false in a file."""


def _choice(allowed: Sequence[str]) -> Callable[[str, str], str]:
    def parse(text: str, where: str) -> str:
        if text not in allowed:
            close = difflib.get_close_matches(text, allowed, n=1)
            raise InputError(
                where,
                text,
                allowed=f"must be one of {', '.join(allowed)}",
                remedy=f"write {close[0] if close else allowed[0]}",
            )
        return text

    return parse


def _model(text: str, where: str) -> str | OwnModel:
    if is_own_model(text):
        return read_own_model(text, where=where)
    if text not in MODEL_NAMES:
        close = difflib.get_close_matches(text, MODEL_NAMES, n=1)
        raise InputError(
            where,
            text,
            allowed=f"must be one of {', '.join(MODEL_NAMES)}, or FILE.py:FUNCTION for a network of your own",
            remedy=f"write {close[0] if close else MODEL_NAMES[0]}",
        )
    return text


def _choices(allowed: Sequence[str]) -> Callable[[str, str], tuple[str, ...]]:
    one = _choice(allowed)

    def parse(text: str, where: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(one(part, where) for part in split_list(text, where=where)))

    return parse


def _ints(minimum: int, maximum: int) -> Callable[[str, str], tuple[int, ...]]:
    def parse(text: str, where: str) -> tuple[int, ...]:
        values = parse_int_list(text, where=where, minimum=minimum)
        _refuse_above(max(values), maximum, text=text, where=where)
        return values

    return parse


def _int(minimum: int, maximum: int) -> Callable[[str, str], int]:
    def parse(text: str, where: str) -> int:
        value = parse_int(text, where=where, minimum=minimum)
        _refuse_above(value, maximum, text=text, where=where)
        return value

    return parse


def _refuse_above(value: int, maximum: int, *, text: str, where: str) -> None:
    if value > maximum:
        raise InputError(where, text, allowed=f"{value} is above {maximum}", remedy=f"write at most {maximum}")


def _micro_batches(text: str, where: str) -> tuple[int | None, ...]:
    values: list[int | None] = []
    for part in split_list(text, where=where):
        values.append(None if part == "same" else _int(1, MAX_BATCH_SIZE)(part, where))
    return tuple(dict.fromkeys(values))


def _shapes(text: str, where: str) -> tuple[int | None, ...]:
    values: list[int | None] = []
    for part in split_list(text, where=where):
        values.append(None if part == "any" else _int(1, MAX_SHAPES)(part, where))
    return tuple(dict.fromkeys(values))


def _norm_groups(text: str, where: str) -> tuple[str, ...]:
    parts = split_list(text, where=where)
    return tuple(dict.fromkeys(one if one == "half-or-16" else str(_int(1, 1024)(one, where)) for one in parts))


def _center(text: str, where: str) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for part in split_list(text, where=where):
        name, _, value = part.partition("=")
        if name not in AXIS_OPTIONS or not value:
            raise InputError(
                where,
                part,
                allowed=f"the centre is a list of AXIS=VALUE with an axis of {', '.join(AXIS_OPTIONS)}",
                remedy=f"write {where} batch-size=4,precision=bf16",
            )
        (chosen[name],) = AXIS_OPTIONS[name](value, f"{where} {name}=")
    return chosen


AXIS_OPTIONS: Mapping[str, Callable[[str, str], Any]] = {
    "batch-size": _ints(1, MAX_BATCH_SIZE),
    "micro-batch-size": _micro_batches,
    "precision": _choices(PRECISIONS),
    "norm-precision": _choices(NORM_PRECISIONS),
    "checkpointing": _choices(CHECKPOINTINGS),
    "sampler": _choices(SAMPLER_NAMES),
    "shapes": _shapes,
    "shape-visits": _choices(SHAPE_VISITS),
    "num-workers": _ints(0, 256),
    "memory-format": _choices(MEMORY_FORMATS),
    "compile": _choices(COMPILES),
    "cudnn-benchmark": _choices(ON_OFF),
    "allocator": _choices(ALLOCATORS),
    "optimizer": _choices(OPTIMIZER_LOOPS),
    "padding": _choices(PADDINGS),
    "norm-groups": _norm_groups,
    "norm-kernel": _choices(NORM_KERNELS),
    "cuda-graphs": _choices(ON_OFF),
    "worker-kind": _choices(WORKER_KINDS),
    "prefetch-factor": _ints(1, 64),
    "pin-memory": _choices(ON_OFF),
    "persistent-workers": _choices(ON_OFF),
    "cache": _choices(CACHES),
    "image-format": _choices(IMAGE_FORMATS),
}
"""Parsers of the axes, by option name."""

OPTIONS: Mapping[str, Callable[[str, str], Any]] = {
    **AXIS_OPTIONS,
    "widths": lambda text, where: parse_pixel_range(text, where=where),
    "heights": lambda text, where: parse_pixel_range(text, where=where),
    "size-law": _choice(SIZE_LAWS),
    "sizes": lambda text, _: Path(text),
    "task": _choice(TASKS),
    "model": _model,
    "device": _choice(("auto", *DEVICE_TYPES)),
    "design": _choice(DESIGN_NAMES),
    "kind": _choices(SWEPT_KINDS),
    "center": _center,
    "corpus": lambda text, _: Path(text),
    "images": lambda text, _: Path(text),
    "examples": _int(1, 10_000_000),
    "subset": _int(1, 1_000_000),
    "warm-up-steps": _int(1, 1000),
    "noise-target": lambda text, where: parse_ratio(text, where=where),
    "min-steps": _int(2, 10_000),
    "max-steps": _int(2, 10_000),
    "max-epochs": _int(1, 1000),
    "measuring-time": lambda text, where: parse_duration(text, where=where),
    "compute-sizes": _int(2, 100),
    "replicates": _int(1, 1000),
    "reference-runs": _int(1, 1000),
    "max-attempts": _int(1, 10),
    "seed": _int(0, 2**31 - 1),
    "time-budget": lambda text, where: parse_duration(text, where=where),
    "worker-timeout": lambda text, where: parse_duration(text, where=where),
    "trial-timeout": lambda text, where: parse_duration(text, where=where),
    "retry": _choices(STATUSES),
    "soak": _choices(SOAKS),
    "memory-by": _choice(MEMORY_BYS),
    "memory-limit": lambda text, where: parse_bytes(text, where=where),
    "find-max-batch": lambda text, where: _choice(YES_OR_NO)(text, where) == "yes",
    "no-plots": lambda text, where: _choice(YES_OR_NO)(text, where) == "yes",
    "cache-limit": lambda text, where: parse_bytes(text, where=where),
    "appetite": lambda text, where: parse_amount(text, where=where),
    "price-per-hour": lambda text, where: parse_amount(text, where=where),
    "out": lambda text, _: Path(text),
}
"""Parsers of every option that a configuration file can hold: ``(text, where) -> value``."""

PLAN_OPTIONS: Mapping[str, Callable[[str, str], Any]] = {
    "pixel-budget": lambda text, where: parse_pixels(text, where=where),
    "ranks": _int(1, 1_000_000),
    "epoch": _int(0, MAX_EPOCH),
    "resume": lambda text, _: Path(text),
    "plan-out": lambda text, _: Path(text),
}
"""Parsers of the options that only ``vnbench batching`` has."""

GATE_OPTIONS: Mapping[str, Callable[[str, str], Any]] = {
    "tolerance-time": lambda text, where: parse_ratio(text, where=where),
    "tolerance-memory": lambda text, where: parse_ratio(text, where=where),
    "tolerance-padding": lambda text, where: parse_ratio(text, where=where),
    "sweep-spread": lambda text, where: 0.0 if text in ("0", "0%") else parse_ratio(text, where=where),
    "time-cap": lambda text, where: parse_duration(text, where=where),
    "detect": lambda text, where: parse_ratio(text, where=where),
    "on-undecided": _choice(("fail", "warn")),
    "metrics": _choices(METRICS),
}
"""Parsers of the options that only ``vnbench gate`` has."""

RUN_OPTIONS: Mapping[str, Callable[[str, str], Any]] = {
    "epochs": _int(1, 1_000_000),
    "validation": _int(0, 10_000_000),
    "current": _center,
    "hold": _center,
    "memory": lambda text, where: parse_bytes(text, where=where),
    "device-scale": lambda text, where: parse_positive(text, where=where),
    "window": lambda text, where: parse_duration(text, where=where),
    "interruptions": _int(0, 10_000),
    "mtbi": lambda text, where: parse_duration(text, where=where),
    "restart-cost": lambda text, where: parse_duration(text, where=where),
    "snapshot-cost": lambda text, where: parse_duration(text, where=where),
    "snapshot-interval": lambda text, where: text if text in SNAPSHOT_RULES else parse_duration(text, where=where),
}
"""Parsers of the options that only ``vnbench plan`` has."""

PLANNING = (
    "examples",
    "batch-size",
    "num-workers",
    "widths",
    "heights",
    "size-law",
    "sizes",
    "price-per-hour",
    "seed",
    *RUN_OPTIONS,
)
"""Options of ``vnbench plan`` that belong to one run."""
