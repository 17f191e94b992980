"""The frozen specification of a trial: what every trial has, and for each kind what it has beside."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from typing import Annotated, Any, ClassVar, Self

import msgspec
from typing_extensions import TypeVar

from vnbench.records.spec.axes import AXES, FLAG_FIELDS, declared_levers, words_by_field
from vnbench.records.spec.lever import Lever, LeverValue
from vnbench.records.spec.levers import Levers
from vnbench.records.spec.words import (
    MODEL_NAMES,
    NUM_CLASSES,
    DeviceType,
    MemoryBy,
    Precision,
    SamplerName,
    Soak,
    Task,
    TrialKind,
)
from vnbench.records.values.identity import digest
from vnbench.records.values.once import once_per_object
from vnbench.records.values.strict import refusal
from vnbench.units import format_bytes

OF_THE_TASK = "of the task"
"""How the number of classes reads that nobody gave."""

Size = tuple[int, int]
"""Height and width in pixels."""


def _read_memory_limit(spec: TrialSpec) -> LeverValue:
    return "none" if spec.memory_limit_bytes is None else format_bytes(spec.memory_limit_bytes)


def _read_classes(spec: TrialSpec) -> LeverValue:
    return OF_THE_TASK if spec.classes is None else spec.classes


def _read_mask_values(spec: TrialSpec) -> LeverValue:
    values = spec.mask_values if isinstance(spec, ImagesSpec) else None
    return None if values is None else ",".join(map(str, values))


@dataclass(frozen=True, kw_only=True, slots=True, weakref_slot=True)
class TrialSpec(Levers):
    """One trial, completely: two runs of equal specs on one machine measure the same thing.

    Here stands what the trials of all kinds have. Each kind is a class of its own.
    """

    kind: ClassVar[TrialKind]
    """What is measured."""
    lacks: ClassVar[Mapping[str, LeverValue]] = {}
    """Levers that say nothing of this kind, and the value at which they have to be."""

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
    classes: Annotated[
        int | None, Lever(header="classes", phrased="{} classes", read=_read_classes, quiet=OF_THE_TASK)
    ] = None
    """Classes that the network tells apart, background included; None for those of the task."""
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

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.micro_batch_size < 1 or self.batch_size % self.micro_batch_size:
            raise ValueError(f"micro_batch_size {self.micro_batch_size} must divide batch_size {self.batch_size}")
        if (self.model in MODEL_NAMES) != (self.model_id is None):
            raise ValueError(f"model {self.model!r}: must be one of {', '.join(MODEL_NAMES)}, or one with its model_id")
        for name, allowed in _words_of(self.kind).items():
            value = getattr(self, name)
            if value is not None and value not in allowed:
                raise ValueError(f"{name} {value!r}: must be one of {', '.join(allowed)}")
        if self.norm_groups != "half-or-16" and not (self.norm_groups.isdigit() and int(self.norm_groups) > 0):
            raise ValueError(f"norm_groups {self.norm_groups!r}: must be half-or-16 or a positive number of groups")
        for name in ("prefetch_factor", "memory_limit_bytes"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} {value}: must be positive")
        for name, silent in self.lacks.items():
            if getattr(self, name) != silent:
                raise ValueError(f"a {self.kind} trial has no {name}")
        self._check_kind()

    def _check_kind(self) -> None:
        """Refuse fields of a kind that do not go together, by a ValueError."""

    @property
    def is_traced(self) -> bool:
        """Whether it computes nothing: its step is traced on fake tensors."""
        return False

    @property
    def num_classes(self) -> int:
        """Classes that the network tells apart, background included."""
        return NUM_CLASSES[self.task] if self.classes is None else self.classes

    @property
    def visits_shapes(self) -> bool:
        """Whether training runs a pass over each canvas before it is timed.

        The first pass over a canvas pays for what libraries prepare and keep by shape: plans of cuDNN, kernels of
        oneDNN, graphs of a compiler. ``warm`` runs a pass over each canvas of the measured steps before they begin:
        what a step costs in the long run where canvases are few, or what is kept is enough for all. ``cold`` measures
        one epoch in which no canvas was seen before it comes up, but for the single one of the warm-up: what each step
        costs in a training whose canvases are more than what is kept. ``auto`` is warm on CUDA and for compiled code,
        where a first pass costs many times another; on the CPU it runs no such passes, and its later epochs find what
        the first one prepared.
        """
        if self.shape_visits == "auto":
            return self.device == "cuda" or self.compile != "none"
        return self.shape_visits == "warm"

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
                *([f"classes-{self.classes}"] if self.classes is not None else []),
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
        """Return the kind and the fields that differ from their defaults, sorted by name.

        Defaults are left out so that a field added in a later version leaves the identity of older specs as it is.
        """
        # Fields are plain values and tuples of them, so that nothing has to be copied, as asdict would at length.
        values = {
            one.name: getattr(self, one.name)
            for one in fields(self)
            if one.default is MISSING or getattr(self, one.name) != one.default
        }
        return dict(sorted((values | {"kind": self.kind}).items()))

    def flat(self) -> dict[str, Any]:
        """Return the kind and the fields of all kinds, as records hold them: None for one that this kind lacks."""
        return {"kind": self.kind} | {name: getattr(self, name, absent) for name, absent in ABSENT.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the spec that ``flat`` or ``canonical`` wrote, of whichever kind of this class it is.

        Raises:
            ValueError: an unknown kind or field, a missing one, or a value of another type or outside its domain.
        """
        kinds = {name: one for name, one in KINDS.items() if issubclass(one, cls)}
        kind = kinds.get(values.get("kind", ""))
        if kind is None:
            raise ValueError(f"kind {values.get('kind')!r}: must be {' or '.join(kinds)}")
        own = kind.__dataclass_fields__.keys()
        for name in sorted(values.keys() - own - {"kind"}):
            if name not in ABSENT:
                raise ValueError(f"unknown spec field {name}")
            if values[name] != ABSENT[name]:
                raise ValueError(f"a {kind.kind} trial has no {name}")
        try:
            spec = msgspec.convert({name: values[name] for name in values.keys() & own}, kind)
        except msgspec.ValidationError as error:
            raise ValueError(refusal(error, where="spec")) from error
        # 60 and 60.0 are one duration and two texts, and the id is of the text.
        written: dict[str, Any] = {
            name: values[name]
            for name in values.keys() & own
            if type(values[name]) is int and type(getattr(spec, name)) is float
        }
        return replace(spec, **written) if written else spec


@dataclass(frozen=True, kw_only=True, slots=True)
class MemorySpec(TrialSpec):
    """One step on a micro-batch made of worst-case examples alone."""

    kind: ClassVar[TrialKind] = "memory"
    lacks: ClassVar[Mapping[str, LeverValue]] = {
        "num_workers": None,
        "shapes": None,
        "shape_visits": "auto",
        "cache": "none",
    }

    worst_case_height: int
    """Height in pixels of the examples."""
    worst_case_width: int
    """Width in pixels of the examples."""
    soak: Soak | None = None
    """Order of the passes before the worst case; None for none of them."""
    soak_passes: tuple[tuple[int, int, int], ...] | None = None
    """Examples, height and width in pixels of the canvas of each pass before the worst case."""
    memory_by: MemoryBy = "step"
    """Whether the step is run, or traced on fake tensors, which takes no memory."""

    @property
    def is_traced(self) -> bool:
        """Whether its step is traced on fake tensors, and not run."""
        return self.memory_by == "trace"

    def _check_kind(self) -> None:
        if (self.soak is None) != (not self.soak_passes) or self.soak == "none":
            raise ValueError(f"soak {self.soak!r} and its passes: give both or neither")
        if self.memory_by == "trace" and (self.device, self.compile) != ("cpu", "none"):
            raise ValueError("memory_by 'trace': only memory trials on the CPU are traced, and no compiled code")


@dataclass(frozen=True, kw_only=True, slots=True)
class _ResidentSpec(TrialSpec):
    """Steps on batches that lie on the device already, canvas by canvas."""

    lacks: ClassVar[Mapping[str, LeverValue]] = {**MemorySpec.lacks, "sampler": None}

    canvas_sizes: tuple[Size, ...]
    """Height and width in pixels of the examples of each canvas, in the order measured."""
    max_measuring_s: float
    """Seconds after which no block is measured: per canvas (``compute``), in all (``probe``)."""

    def _check_kind(self) -> None:
        if not self.canvas_sizes:
            raise ValueError("canvas_sizes must hold a canvas")


@dataclass(frozen=True, kw_only=True, slots=True)
class ComputeSpec(_ResidentSpec):
    """Steps without a loader, canvas by canvas, each until its time is known."""

    kind: ClassVar[TrialKind] = "compute"

    num_warm_up_steps: int
    """Optimizer steps on each canvas before the measured ones, marked."""
    noise_target: float
    """Half-width of the mean's 95 % interval, relative, that ends measuring."""
    min_steps: int
    """Measured steps per canvas, at least."""
    max_steps: int
    """Measured steps per canvas, at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeSpec(_ResidentSpec):
    """A few small steps before a sweep is planned, which tell how long its trials will take."""

    kind: ClassVar[TrialKind] = "probe"

    precisions: tuple[Precision, ...]
    """Precisions that are tried, the one to be preferred first."""
    sweep_id: str | None = None
    """Digest of what the sweep was asked for that the probe comes before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImagesSpec(TrialSpec):
    """A trial that reads image files, in epochs of the subset that all trials of a sweep share."""

    sampler: SamplerName
    """How examples are grouped into batches."""
    num_workers: int
    """Loader workers; 0 decodes in the training process."""
    corpus_id: Annotated[str, Lever(header="corpus", phrased="corpus {}")]
    """Digest of the corpus: what its image files hold."""
    subset_size: int
    """Examples of one measured epoch."""
    mask_values: Annotated[
        tuple[int, ...] | None, Lever(header="mask\nvalues", phrased="mask values {}", read=_read_mask_values)
    ] = None
    """Numbers in the masks that are the classes 0, 1, ...; None where they are that already."""
    ignore_value: Annotated[int | None, Lever(header="ignored\nvalue", phrased="ignored value {}")] = None
    """Number in the masks of pixels that the loss leaves out; None for none."""
    pixel_budget: int | None = None
    """Padded pixels of a pass, at most, where the sampler is ``pixel-budget``."""
    cache_limit_bytes: int | None = None
    """Bytes of decoded images and masks that the cache keeps, at most."""
    noise_target: float | None = None
    """Half-width of the mean's 95 % interval, relative, that ends measuring."""
    max_epochs: int | None = None
    """Measured epochs of the subset, at most; None, as in the first records, for one."""
    max_measuring_s: float | None = None
    """Seconds after which no block is measured."""

    def _check_kind(self) -> None:
        if (self.cache == "none") != (self.cache_limit_bytes is None):
            raise ValueError("cache and cache_limit_bytes: give both or neither")
        if self.shape_visits == "cold" and (self.max_epochs or 1) > 1:
            raise ValueError("shape_visits 'cold': only one epoch is, so max_epochs must be 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class LoaderSpec(ImagesSpec):
    """Loading without training, stage by stage of a batch's way."""

    kind: ClassVar[TrialKind] = "loader"
    lacks: ClassVar[Mapping[str, LeverValue]] = {"shape_visits": "auto"}

    max_epochs: int
    """Measured epochs of the subset, at most."""
    max_measuring_s: float
    """Seconds after which no block of a stage is measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingSpec(ImagesSpec):
    """Training on image files, timed."""

    kind: ClassVar[TrialKind] = "training"

    num_warm_up_steps: int
    """Optimizer steps before the measured ones, marked."""


Spec = TypeVar("Spec", bound=TrialSpec, default=TrialSpec, covariant=True)
"""Of which kind a task or a record is; of any where it is not said."""

KINDS: Mapping[str, type[TrialSpec]] = {
    cls.kind: cls for cls in (MemorySpec, ComputeSpec, LoaderSpec, TrainingSpec, ProbeSpec)
}
"""The class of each kind's specs."""

ABSENT: Mapping[str, Any] = {
    one.name: None if one.default is MISSING else one.default for cls in KINDS.values() for one in fields(cls)
}
"""Every field that some kind has, and what stands for it in the record of a kind that lacks it."""


@functools.cache
def _words_of(kind: TrialKind) -> dict[str, tuple[str, ...]]:
    """Return the allowed values of each field of a kind that holds a word."""
    return words_by_field(KINDS[kind])


def _levers() -> Iterator[Lever]:
    """Yield what the fields declare: network and task, then all that a sweep can vary, then the rest."""
    others = {lever.name: lever for cls in KINDS.values() for lever in declared_levers(cls) if lever.name not in AXES}
    first = ("model", "task")
    yield from (others[name] for name in first)
    yield from AXES.values()
    yield from (lever for name, lever in others.items() if name not in first)


LEVERS: Mapping[str, Lever] = {lever.name: lever for lever in _levers()}
"""Every lever by the name of its field, in the order in which columns and phrases stand.

Seeds, subset sizes and warm-up counts are no levers: they choose how a thing is measured, not what.
"""
