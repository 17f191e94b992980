"""A sweep, completely: what was asked over defaults that suit the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

from vnbench.errors import InputError
from vnbench.records.spec.axes import AXES
from vnbench.records.spec.words import NUM_CLASSES, DeviceType, MemoryBy, SizeLaw, SnapshotMode, Soak, Task, TrialKind
from vnbench.request.choosing import chooses_precision, chooses_size, default_precisions
from vnbench.request.classes import settle_classes
from vnbench.request.frameworks import check_loops
from vnbench.request.options import OF_IMAGES, OF_MASKS, OPTIONS, DesignName
from vnbench.request.own_model import NEUTRAL, OwnModel
from vnbench.request.reading import Request
from vnbench.request.shard import Shard
from vnbench.units import PixelRange


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepConfig:
    """A sweep, completely."""

    device: DeviceType
    """Where it runs."""
    model: str
    """Preset of the network, or FILE.py:FUNCTION of a user's own."""
    model_id: str | None
    """Digest of the file of a user's own network; None for a preset."""
    task: Task
    """Which masks are learnt."""
    classes: int | None
    """Classes that the network tells apart; None for those of the task."""
    mask_values: tuple[int, ...] | None
    """Numbers in the user's masks that are the classes 0, 1, ...; None where they are that already."""
    ignore_value: int | None
    """Number in the user's masks of pixels that the loss leaves out; None for none."""
    axes: Mapping[str, tuple[Any, ...]]
    """Values of each axis by its field of Levers, in the order given."""
    center: Mapping[str, Any]
    """Values of the centre that are not the first of their axis, by field of Levers."""
    design: DesignName
    """Which cells of the axes' product are measured."""
    kinds: tuple[TrialKind, ...]
    """Kinds of trial that each cell gets."""
    widths: PixelRange | None
    """Widths in pixels; None takes them from the corpus."""
    heights: PixelRange | None
    """Heights in pixels; None takes them from the corpus."""
    size_law: SizeLaw
    """Distribution of the synthetic images' sides."""
    sizes: Path | None
    """CSV of the synthetic images' sizes instead of ranges."""
    corpus: Path | None
    """Folder of image files; None for a synthetic corpus from the cache."""
    images: Mapping[str, str]
    """Options that tell which images it is of, and what the numbers in their masks mean, as they were written."""
    num_examples: int
    """Images of the synthetic corpus, 80 % of them for training."""
    subset_size: int
    """Training examples that each trial measures, the same in all."""
    num_compute_sizes: int
    """Canvases of each compute trial, from the smallest size to the worst case."""
    num_warm_up_steps: int
    """Steps before the measured ones."""
    noise_target: float
    """Relative half-width of the 95 % interval at which measuring ends."""
    min_steps: int
    """Measured steps per canvas of a compute trial, at least."""
    max_steps: int
    """Measured steps per canvas of a compute trial, at most."""
    max_epochs: int
    """Measured epochs of the subset in a training trial, at most."""
    max_measuring_s: float
    """Seconds after which a canvas or a training trial gets no further block."""
    replicates: int
    """Processes per timed spec."""
    reference_runs: int | None
    """Processes of the centre's spec, spread over the sweep; None for REFERENCE_RUNS where there is room for drift."""
    max_attempts: int
    """Tries at a trial whose machine was disturbed, the first counted."""
    seed: int
    """Seed of corpus, weights, plans and the order of trials."""
    time_budget_s: float | None
    """No trial starts later than this after the sweep did; None for no limit."""
    trial_timeout_s: float
    """A trial is ended when it runs longer."""
    worker_timeout_s: float
    """A loader worker that gives no batch for longer is taken to hang."""
    retry: tuple[str, ...]
    """Statuses whose trials are tried again."""
    soak: tuple[Soak, ...]
    """Orders of the passes before the worst case of memory trials; ``none`` for the worst case alone."""
    snapshot_modes: tuple[SnapshotMode, ...]
    """How snapshot trials write."""
    snapshot_target: Path | None
    """Folder of the disk that they write to; None for the temporary folder."""
    memory_by: MemoryBy
    """Whether memory trials run their step or trace it."""
    memory_limit_bytes: int | None
    """Memory that each trial may take; None for all that is there."""
    find_max_batch: bool
    """Whether to search for the largest micro-batch of each configuration instead of measuring a design."""
    shard: Shard | None
    """The share of the sweep that is measured here; None for all of it."""
    cache_limit_bytes: int
    """Bytes of decoded images and masks that a cache keeps, at most."""
    appetite_examples_per_s: float | None
    """Examples per second that the loader is to supply; None for what compute trials take."""
    price_per_hour: float | None
    """Price of an hour of the device, in any currency."""
    out: Path | None
    """Results file; None for the default under results/."""
    asked: tuple[str, ...]
    """Options that were given, spelled as fields. The axes among them are measured first."""
    chooses_precision: bool
    """Whether the values of the precision axis are chosen by what this machine computes fast."""
    chooses_size: bool
    """Whether examples, epochs and processes are chosen so that the sweep fits its time budget."""

    @property
    def num_classes(self) -> int:
        """Classes that the network tells apart, background included."""
        return NUM_CLASSES[self.task] if self.classes is None else self.classes


FACTORED_KINDS: tuple[TrialKind, ...] = ("memory", "compute", "loader")
"""Kinds of trial from which the factored design forecasts; training trials confirm it afterwards."""

NOT_FACTORED = {"kind", "shape-visits", "find-max-batch", "shard", "loop", "loop-features"}
"""Options that the factored design has no use for: where one of them is given, it is not the default."""


def complete(request: Request, *, environment: Mapping[str, Any]) -> SweepConfig:
    """Return the sweep that a request means on the machine that ``environment`` describes.

    Raises:
        InputError: a value of the centre is not on its axis, a floor above its cap, or a trace asked for on CUDA.
    """
    device = cast(DeviceType, environment["device_type"])
    # The first value of an axis is that of the centre.
    defaults = {name: text for name, option in OPTIONS.items() if (text := option.default_on(device))}
    if request.values.keys() & {"corpus", "images", "sizes"}:
        defaults = {name: text for name, text in defaults.items() if name != "heights"}
    values: dict[str, Any] = {name: OPTIONS[name].parse(text, f"--{name}") for name, text in defaults.items()}
    if "num-workers" not in request.values:
        num_cpus = int(environment["num_cpus"])
        values["num-workers"] = tuple(n for n in values["num-workers"] if n <= max(num_cpus, 2))
    values["precision"] = default_precisions(values["precision"], environment)
    values |= request.values
    if "max-steps" not in request.values:
        values["max-steps"] = max(values["max-steps"], values["min-steps"])
    elif values["max-steps"] < values["min-steps"]:
        raise InputError(
            "--max-steps",
            values["max-steps"],
            allowed=f"it is below --min-steps {values['min-steps']}",
            remedy=f"write --min-steps {values['max-steps']} or less",
        )
    if values["memory-by"] == "trace" and device == "cuda":
        raise InputError(
            "--memory-by",
            "trace",
            allowed="a trace counts memory as a CPU takes it, and this sweep is of a GPU",
            remedy="write --memory-by step, or --device cpu",
        )
    if "design" not in request.values and request.values.keys() & NOT_FACTORED:
        values["design"] = "one-at-a-time"
    _check_shard(values)
    if values["design"] == "factored":
        values["kind"] = FACTORED_KINDS
    values |= settle_classes(values, asked=request.values)
    own = values["model"] if isinstance(values["model"], OwnModel) else None
    if own:
        values |= _levers_not_taken(own, request)
    axes = {name: values[lever.option] for name, lever in AXES.items()}
    check_loops(axes["loop"])
    filled: dict[str, Any] = {option.field or option.parameter: values.get(name) for name, option in OPTIONS.items()}
    own_fields = {field.name for field in fields(SweepConfig)}
    settled: dict[str, Any] = {
        "device": device,
        "model": own.name if own else values["model"],
        "model_id": own.model_id if own else None,
        "axes": axes,
        "center": _center_on_axes(values, device),
        "corpus": values.get("corpus", values.get("images")),
        "images": {name: text for name, text in request.texts.items() if name in (*OF_IMAGES, *OF_MASKS)},
        # Every trial measures the same examples, so they must fill the largest batch at least once.
        "subset_size": (
            max(values["subset"], *axes["batch_size"]) if "subset" not in request.values else values["subset"]
        ),
        "retry": values.get("retry", ()),
        "find_max_batch": values.get("find-max-batch", False),
        "asked": tuple(name.replace("-", "_") for name in request.values),
        # Shares are measured on several machines, and have to be of one sweep.
        "chooses_precision": values.get("shard") is None and chooses_precision(request, values),
        "chooses_size": values.get("shard") is None and chooses_size(request, values, device=device),
    }
    return SweepConfig(**{name: value for name, value in filled.items() if name in own_fields} | settled)


def _check_shard(values: Mapping[str, Any]) -> None:
    """Raise an InputError where a sweep that cannot be cut is."""
    if values.get("shard") is None:
        return
    reasons = {
        "--design factored": values["design"] == "factored",
        "--find-max-batch": values.get("find-max-batch", False),
    }
    for option, is_given in reasons.items():
        if is_given:
            raise InputError(
                "--shard",
                values["shard"],
                allowed=f"{option} decides by all of its trials, and a share has some of them",
                remedy=f"leave out --shard, or {option}",
            )


def _levers_not_taken(own: OwnModel, request: Request) -> dict[str, Any]:
    """Return the one value of each lever that a user's network does not take, by option.

    Raises:
        InputError: another value was asked for.
    """
    values = {}
    for lever, neutral in NEUTRAL.items():
        option = lever.replace("_", "-")
        values[option] = (neutral,)
        if lever in own.levers or lever == "padding":  # exact padding is refused with what was measured of its leak
            del values[option]
        elif request.values.get(option, values[option]) != values[option]:
            raise InputError(
                f"--{option}",
                allowed=f"{own.name} takes no {lever}",
                remedy=f"leave --{option} out, or give {own.function} a parameter {lever}",
            )
    return values


def _center_on_axes(values: Mapping[str, Any], device: DeviceType) -> dict[str, Any]:
    """Return the centre's values by field of Levers; a default of the device counts only where its axis holds it."""
    defaults = {lever.option: lever.centre[device] for lever in AXES.values() if device in lever.centre}
    center = {name: value for name, value in defaults.items() if value in values[name]}
    for name, value in values.get("center", {}).items():
        if value not in values[name]:
            raise InputError(
                "--center",
                f"{name}={value}",
                allowed=f"--{name} does not include it",
                remedy=f"add it to --{name}",
            )
        center[name] = value
    return {name.replace("-", "_"): value for name, value in center.items()}
