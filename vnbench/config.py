"""What a sweep is asked to do: flags over a TOML file over defaults that suit the device."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from vnbench.data.sizes import SizeLaw
from vnbench.errors import InputError
from vnbench.options import AXIS_OPTIONS, OPTIONS, DesignName
from vnbench.spec import Checkpointing, DeviceType, ModelName, NormPrecision, Precision, SamplerName, Task
from vnbench.units import PixelRange


@dataclass(frozen=True, kw_only=True, slots=True)
class Axes:
    """The values of each varied parameter, in the order given."""

    batch_size: tuple[int, ...]
    """Examples per optimizer step."""
    micro_batch_size: tuple[int | None, ...]
    """Examples per forward and backward pass; None for the whole batch."""
    precision: tuple[Precision, ...]
    """Arithmetic of convolutions and matrix products."""
    norm_precision: tuple[NormPrecision, ...]
    """Arithmetic of the norms."""
    checkpointing: tuple[Checkpointing, ...]
    """Which activations are recomputed."""
    sampler: tuple[SamplerName, ...]
    """How examples are grouped into batches."""
    num_workers: tuple[int, ...]
    """Loader processes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepConfig:
    """A sweep, completely."""

    device: DeviceType
    """Where it runs."""
    model: ModelName
    """Preset of the network."""
    task: Task
    """Which masks are learnt."""
    norm_groups: str
    """Rule for the groups of GroupNorm."""
    axes: Axes
    """What is varied."""
    center: Mapping[str, Any]
    """Values of the centre that are not the first of their axis, by field of Axes."""
    design: DesignName
    """Which cells of the axes' product are measured."""
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
    num_examples: int
    """Images of the synthetic corpus, 80 % of them for training."""
    subset_size: int
    """Training examples that each trial measures, the same in all."""
    num_warm_up_steps: int
    """Steps before the measured ones."""
    replicates: int
    """Processes per spec."""
    seed: int
    """Seed of corpus, weights, plans and the order of trials."""
    time_budget_s: float | None
    """No trial starts later than this after the sweep did; None for no limit."""
    trial_timeout_s: float
    """A trial is ended when it runs longer."""
    retry: tuple[str, ...]
    """Statuses whose trials are tried again."""
    out: Path | None
    """Results file; None for the default under results/."""


COMMON_DEFAULTS: Mapping[str, str] = {
    "micro-batch-size": "same",
    "norm-precision": "fp32,input",
    "checkpointing": "none,stages",
    "sampler": "bucketed,random",
    "heights": "480:640",
    "size-law": "uniform",
    "task": "multiclass",
    "norm-groups": "half-or-16",
    "design": "one-at-a-time",
    "replicates": "1",
    "seed": "0",
    "trial-timeout": "10m",
}

DEVICE_DEFAULTS: Mapping[DeviceType, Mapping[str, str]] = {
    "cuda": {
        "model": "veernet",
        "batch-size": "1,2,4,8,16",
        "precision": "bf16,fp32,tf32,fp16",
        "num-workers": "0,2,4,8",
        "examples": "240",
        "subset": "128",
        "warm-up-steps": "3",
    },
    # On two cores an example of 640 x 12,800 px takes seconds a step: one lever at a time, a handful of examples, and
    # an end in under five minutes.
    "cpu": {
        "model": "veernet-tiny",
        "batch-size": "1,2",
        "precision": "bf16,fp32",
        "num-workers": "0,2",
        "examples": "60",
        "subset": "6",
        "warm-up-steps": "1",
        "time-budget": "225s",
    },
}
"""Defaults that depend on the device. The first value of an axis is its value at the centre of the design."""

CENTER_DEFAULTS: Mapping[DeviceType, Mapping[str, Any]] = {
    "cuda": {"batch-size": 4, "num-workers": 4},
    "cpu": {},
}
"""Centre values that are not the first of their axis, taken where the axis holds them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What the user said: parsed values by option name, and where each was said, before defaults."""

    values: Mapping[str, Any] = field(default_factory=dict)
    """Parsed values of the options that were given."""

    @property
    def device(self) -> str:
        """The device asked for: auto, cuda or cpu."""
        return str(self.values.get("device", "auto"))


def read_request(flags: Mapping[str, str | None], *, config_path: Path | None) -> Request:
    """Return what the flags say, and for the rest what the configuration file says.

    Raises:
        InputError: a value that its option does not take, an unknown name in the file, or a file that is no TOML.
    """
    given = {name: (text, f"{config_path}: {name}") for name, text in _read_toml(config_path).items()}
    given |= {name: (text, f"--{name}") for name, text in flags.items() if text is not None}
    values = {name: OPTIONS[name](text, where) for name, (text, where) in given.items()}
    if "sizes" in values and ("widths" in values or "heights" in values):
        raise InputError(
            "--sizes",
            values["sizes"],
            allowed="the file names the sizes already",
            remedy="leave --widths and --heights out",
        )
    if "corpus" in values and "sizes" in values:
        raise InputError(
            "--sizes",
            values["sizes"],
            allowed="the images of --corpus have sizes already",
            remedy="leave one of them out",
        )
    if not values.keys() & {"widths", "sizes", "corpus"}:
        raise InputError(
            "--widths",
            allowed="the sizes of the images are needed",
            remedy="write --widths 3200:12800, --sizes FILE.csv or --corpus DIR",
        )
    return Request(values=values)


def complete(request: Request, *, environment: Mapping[str, Any]) -> SweepConfig:
    """Return the sweep that a request means on the machine that ``environment`` describes.

    Raises:
        InputError: a value of the centre is not on its axis.
    """
    device = cast(DeviceType, environment["device_type"])
    defaults = {**COMMON_DEFAULTS, **DEVICE_DEFAULTS[device]}
    if request.values.keys() & {"corpus", "sizes"}:
        defaults = {name: text for name, text in defaults.items() if name != "heights"}
    values: dict[str, Any] = {name: OPTIONS[name](text, f"--{name}") for name, text in defaults.items()}
    if "num-workers" not in request.values:
        num_cpus = int(environment["num_cpus"])
        values["num-workers"] = tuple(n for n in values["num-workers"] if n <= max(num_cpus, 2))
    values |= request.values
    axes = Axes(**{name.replace("-", "_"): values[name] for name in AXIS_OPTIONS})
    return SweepConfig(
        device=device,
        model=values["model"],
        task=values["task"],
        norm_groups=values["norm-groups"],
        axes=axes,
        center=_center_on_axes(values, device),
        design=values["design"],
        widths=values.get("widths"),
        heights=values.get("heights"),
        size_law=values["size-law"],
        sizes=values.get("sizes"),
        corpus=values.get("corpus"),
        num_examples=values["examples"],
        # Every trial measures the same examples, so they must fill the largest batch at least once.
        subset_size=max(values["subset"], *axes.batch_size) if "subset" not in request.values else values["subset"],
        num_warm_up_steps=values["warm-up-steps"],
        replicates=values["replicates"],
        seed=values["seed"],
        time_budget_s=values.get("time-budget"),
        trial_timeout_s=values["trial-timeout"],
        retry=values.get("retry", ()),
        out=values.get("out"),
    )


def _center_on_axes(values: Mapping[str, Any], device: DeviceType) -> dict[str, Any]:
    """Return the centre's values by field of Axes; a default of the device counts only where its axis holds it."""
    center = {name: value for name, value in CENTER_DEFAULTS[device].items() if value in values[name]}
    for name, value in values.get("center", {}).items():
        if value not in values[name]:
            raise InputError(
                "--center",
                f"{name}={value}",
                allowed=f"the axis --{name} does not hold it",
                remedy="add it to the axis",
            )
        center[name] = value
    return {name.replace("-", "_"): value for name, value in center.items()}


def _read_toml(path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    try:
        content = tomllib.loads(path.read_text())
    except OSError as error:
        raise InputError(
            "--config", path, allowed=f"the file cannot be read ({error.strerror})", remedy="name a TOML file"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError("--config", path, allowed=f"this is no TOML: {error}", remedy="mend the line") from error
    for name in content:
        if name not in OPTIONS:
            close = difflib.get_close_matches(name, OPTIONS, n=1)
            raise InputError(
                str(path),
                name,
                allowed=f"no option has this name; known are {', '.join(sorted(OPTIONS))}",
                remedy=f"write {close[0] if close else 'one of these'}",
            )
    # A path in a configuration file is relative to the working folder, as on the command line.
    return {name: _as_text(value, where=f"{path}: {name}") for name, value in content.items()}


def _as_text(value: object, *, where: str) -> str:
    if isinstance(value, list):
        return ",".join(_as_text(item, where=where) for item in value)
    if isinstance(value, dict):
        return ",".join(f"{name}={_as_text(item, where=where)}" for name, item in value.items())
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise InputError(where, repr(value), allowed="a text, a number or a list is needed", remedy="quote the value")
    return str(value)


def default_out(environment: Mapping[str, Any]) -> Path:
    """Return ``results/<device>/sweep.jsonl`` for the device that ``environment`` describes."""
    name = f"cpu {environment['device_name']}" if environment["device_type"] == "cpu" else environment["device_name"]
    slug = "".join(character if character.isalnum() else " " for character in name.lower())
    return Path("results") / "-".join(slug.split()) / "sweep.jsonl"
