"""The frozen specification of a trial."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from typing import Annotated, Any

import msgspec

from vnbench.records.identity import digest
from vnbench.records.kind_fields import ALL_KIND_FIELDS, KIND_FIELDS
from vnbench.records.once import once_per_object
from vnbench.records.spec.axes import AXES, FLAG_FIELDS, declared_levers, words_by_field
from vnbench.records.spec.lever import Lever, LeverValue
from vnbench.records.spec.levers import Levers
from vnbench.records.spec.words import MODEL_NAMES, NUM_CLASSES, DeviceType, MemoryBy, Precision, Soak, Task, TrialKind
from vnbench.records.strict import refusal
from vnbench.units import format_bytes


def _read_memory_limit(spec: TrialSpec) -> LeverValue:
    return "none" if spec.memory_limit_bytes is None else format_bytes(spec.memory_limit_bytes)


@dataclass(frozen=True, kw_only=True, slots=True, weakref_slot=True)
class TrialSpec(Levers):
    """One trial, completely: two runs of equal specs on one machine measure the same thing.

    A ``memory`` trial runs one step on a micro-batch of worst-case examples, a ``compute`` trial times steps on batches
    that lie on the device already, canvas by canvas, a ``loader`` trial loads image files and trains on none, a
    ``training`` trial trains on them, a ``probe`` times a few small steps before a sweep is planned. Fields that a kind
    does not have are None or at their defaults.
    """

    kind: TrialKind
    """What is measured."""
    device: DeviceType
    """Where it runs."""
    model: Annotated[str, Lever(header="model", phrased="model {}", words=MODEL_NAMES)]
    """Preset of the network, or FILE.py:FUNCTION of a user's own."""
    task: Annotated[Task, Lever(header="task", phrased="{} task")]
    """Which masks are learnt: three classes, or curve against background."""
    micro_batch_size: int
    """Examples per forward and backward pass; divides batch_size."""
    seed: int
    """Seed of weights, subset and batch order."""
    model_id: str | None = None
    """Digest of the file of a user's own network; None for a preset."""
    memory_limit_bytes: Annotated[
        int | None,
        Lever(
            header="memory\nlimit",
            phrased="memory limit {}",
            read=_read_memory_limit,
            quiet="none",
        ),
    ] = None
    """Memory that there is: for the caching allocator (CUDA), for the process's own data (CPU); None for all."""
    worst_case_height: int | None = None
    """Height in pixels of the examples (``memory``)."""
    worst_case_width: int | None = None
    """Width in pixels of the examples (``memory``)."""
    soak: Soak | None = None
    """Order of the passes before the worst case; None for none of them (``memory``)."""
    soak_passes: tuple[tuple[int, int, int], ...] | None = None
    """Examples, height and width in pixels of the canvas of each pass before the worst case (``memory``)."""
    memory_by: MemoryBy = "step"
    """Whether the worst-case step is run, or traced on fake tensors, which takes no memory (``memory``)."""
    canvas_sizes: tuple[tuple[int, int], ...] | None = None
    """Height and width in pixels of the examples of each canvas, in the order measured (``compute``, ``probe``)."""
    pixel_budget: int | None = None
    """Padded pixels of a pass, at most, where the sampler is ``pixel-budget`` (``loader``, ``training``)."""
    cache_limit_bytes: int | None = None
    """Bytes of decoded images and masks that the cache keeps, at most (``loader``, ``training``)."""
    corpus_id: Annotated[str | None, Lever(header="corpus", phrased="corpus {}")] = None
    """Digest of the image files' manifest (``loader``, ``training``)."""
    subset_size: int | None = None
    """Examples of one measured epoch (``loader``, ``training``)."""
    num_warm_up_steps: int | None = None
    """Optimizer steps before the measured ones, marked: per canvas (``compute``), in all (``training``)."""
    noise_target: float | None = None
    """Half-width of the mean's 95 % interval, relative, that ends measuring (``compute``, ``loader``, ``training``)."""
    min_steps: int | None = None
    """Measured steps per canvas, at least (``compute``)."""
    max_steps: int | None = None
    """Measured steps per canvas, at most (``compute``)."""
    max_epochs: int | None = None
    """Measured epochs of the subset, at most; None for one (``loader``, ``training``)."""
    max_measuring_s: float | None = None
    """Seconds after which no block is measured: per canvas (``compute``), per stage (``loader``), in all (others)."""
    precisions: tuple[Precision, ...] | None = None
    """Precisions that are tried, the one to be preferred first (``probe``)."""
    sweep_id: str | None = None
    """Digest of what the sweep was asked for that the probe comes before (``probe``)."""

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.micro_batch_size < 1 or self.batch_size % self.micro_batch_size:
            raise ValueError(f"micro_batch_size {self.micro_batch_size} must divide batch_size {self.batch_size}")
        if (self.model in MODEL_NAMES) != (self.model_id is None):
            raise ValueError(f"model {self.model!r}: must be one of {', '.join(MODEL_NAMES)}, or one with its model_id")
        for name, allowed in _WORDS.items():
            value = getattr(self, name)
            if value is not None and value not in allowed:
                raise ValueError(f"{name} {value!r}: must be one of {', '.join(allowed)}")
        if self.norm_groups != "half-or-16" and not (self.norm_groups.isdigit() and int(self.norm_groups) > 0):
            raise ValueError(f"norm_groups {self.norm_groups!r}: must be half-or-16 or a positive number of groups")
        self._check_fields_of_kind()
        if (self.cache == "none") != (self.cache_limit_bytes is None):
            raise ValueError("cache and cache_limit_bytes: one goes with the other")
        for name in ("prefetch_factor", "memory_limit_bytes"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} {value}: must be positive")
        if (self.soak is None) != (not self.soak_passes) or self.soak == "none":
            raise ValueError(f"soak {self.soak!r} and its passes: one goes with the other, and none is None")
        if self.memory_by == "trace" and (self.kind, self.device, self.compile) != ("memory", "cpu", "none"):
            raise ValueError("memory_by 'trace': only memory trials on the CPU are traced, and no compiled code")
        is_warm_again = self.shape_visits == "cold" and (self.max_epochs or 1) > 1
        if is_warm_again or (self.shape_visits != "auto" and self.kind != "training"):
            raise ValueError(f"shape_visits {self.shape_visits!r}: only training has visits, and one epoch is cold")
        if self.canvas_sizes is not None and not self.canvas_sizes:
            raise ValueError("canvas_sizes must hold a canvas")

    def _check_fields_of_kind(self) -> None:
        needed, optional = KIND_FIELDS[self.kind]
        for name in ALL_KIND_FIELDS:
            is_given = getattr(self, name) is not None
            if name in needed and not is_given:
                raise ValueError(f"a {self.kind} trial needs {name}")
            if is_given and name not in (*needed, *optional):
                raise ValueError(f"a {self.kind} trial has no {name}")

    @property
    def num_classes(self) -> int:
        """Classes that the network tells apart, background included."""
        return NUM_CLASSES[self.task]

    @property
    def accumulation_steps(self) -> int:
        """Forward and backward passes per optimizer step."""
        return self.batch_size // self.micro_batch_size

    @property
    def lever_key(self) -> str:
        """The family without its micro-batch: members differ in memory by micro_batch_size alone."""
        canonical = self.canonical()
        return "/".join(
            (
                self.device,
                self.model if self.model_id is None else f"{self.model}-{self.model_id}",
                self.task,
                self.precision,
                f"norm-{self.norm_precision}",
                f"checkpointing-{self.checkpointing}",
                f"groups-{self.norm_groups}",
                *(f"{name.replace('_', '-')}-{canonical[name]}" for name in FLAG_FIELDS if name in canonical),
                *(["limit-" + str(self.memory_limit_bytes)] if self.memory_limit_bytes is not None else []),
            )
        )

    @property
    @once_per_object
    def family(self) -> str:
        """Name of the trials that share memory behaviour."""
        return f"{self.lever_key}/micro-{self.micro_batch_size}"

    @property
    @once_per_object
    def spec_id(self) -> str:
        """Hash of the canonical spec, 12 hexadecimal digits."""
        return digest(self.canonical())

    def canonical(self) -> dict[str, Any]:
        """Return the fields that differ from their defaults, sorted by name.

        Defaults are left out so that a field added in a later version leaves the identity of older specs as it is.
        """
        # Fields are plain values and tuples of them, so that nothing has to be copied, as asdict would at length.
        return {
            field.name: getattr(self, field.name)
            for field in sorted(fields(self), key=lambda field: field.name)
            if field.default is MISSING or getattr(self, field.name) != field.default
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrialSpec:
        """Return the spec that ``dataclasses.asdict`` or ``canonical`` wrote.

        Raises:
            ValueError: an unknown field, a missing one, or a value of another type or outside its domain.
        """
        unknown = sorted(values.keys() - cls.__dataclass_fields__.keys())
        if unknown:
            raise ValueError(f"unknown spec field {', '.join(unknown)}")
        try:
            spec = msgspec.convert(values, cls)
        except msgspec.ValidationError as error:
            raise ValueError(refusal(error, where="spec")) from error
        # 60 and 60.0 are one duration and two texts, and the id is of the text.
        written: dict[str, Any] = {
            name: one for name, one in values.items() if type(one) is int and type(getattr(spec, name)) is float
        }
        return replace(spec, **written) if written else spec


_WORDS: Mapping[str, tuple[str, ...]] = words_by_field(TrialSpec)
"""Allowed values of each field that holds a word."""


def _levers() -> Iterator[Lever]:
    """Yield what the fields declare: network and task, then all that a sweep can vary, then the rest."""
    others = {lever.name: lever for lever in declared_levers(TrialSpec) if lever.name not in AXES}
    first = ("model", "task")
    yield from (others[name] for name in first)
    yield from AXES.values()
    yield from (lever for name, lever in others.items() if name not in first)


LEVERS: Mapping[str, Lever] = {lever.name: lever for lever in _levers()}
"""Every lever by the name of its field, in the order in which columns and phrases stand.

Seeds, subset sizes and warm-up counts are no levers: they choose how a thing is measured, not what.
"""
