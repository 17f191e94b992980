"""Define the frozen specs of trials: a base class and one class for each kind."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from typing import Annotated, Any, ClassVar, Self

import msgspec
from typing_extensions import TypeVar

from vnbench.records.spec.axes import AXES, FLAG_FIELDS, LOOPING_LEVERS, declared_levers, words_by_field
from vnbench.records.spec.lever import Lever, LeverValue
from vnbench.records.spec.levers import Levers
from vnbench.records.spec.words import (
    ALLOCATORS,
    MODEL_NAMES,
    NUM_CLASSES,
    USUAL_GROUPS,
    DeviceType,
    MemoryBy,
    Precision,
    SamplerName,
    SeenSampler,
    SnapshotMode,
    Soak,
    Task,
    TrialKind,
)
from vnbench.records.values.identity import digest
from vnbench.records.values.once import once_per_object
from vnbench.records.values.strict import refusal
from vnbench.units import format_bytes

OF_THE_TASK = "of the task"
"""Text for a number of classes that was not given."""

OWN_LOOP: Mapping[str, LeverValue] = {name: AXES[name].default for name in LOOPING_LEVERS}
"""Levers of kinds that no framework runs, and their values."""

UNRUN: Mapping[str, LeverValue] = {**OWN_LOOP, "deterministic": "off"}
"""Levers of kinds that run no kernels of a step, or none that are timed, and their values."""

Size = tuple[int, int]
"""Height and width in pixels."""


def _read_memory_limit(spec: TrialSpec) -> LeverValue:
    return "none" if spec.memory_limit_bytes is None else format_bytes(spec.memory_limit_bytes)


def _read_classes(spec: TrialSpec) -> LeverValue:
    return OF_THE_TASK if spec.classes is None else spec.classes


def _read_ranks(spec: TrialSpec) -> LeverValue:
    return spec.ranks if isinstance(spec, ObservedSpec) else 1


def _read_mask_values(spec: TrialSpec) -> LeverValue:
    values = spec.mask_values if isinstance(spec, ImagesSpec) else None
    return None if values is None else ",".join(map(str, values))


@dataclass(frozen=True, kw_only=True, slots=True, weakref_slot=True)
class TrialSpec(Levers):
    """The complete specification of one trial: two runs of equal specs on one machine measure the same thing.

    This class has the fields of all trials; each kind has its own subclass.
    """

    kind: ClassVar[TrialKind]
    """The kind of trial."""
    lacks: ClassVar[Mapping[str, LeverValue]] = {}
    """Levers that do not apply to this kind, and the value that they must have."""
    takes_alloc_conf: ClassVar[bool] = False
    """Whether its allocator may be a text of PYTORCH_ALLOC_CONF."""

    device: DeviceType
    """Device that it runs on."""
    model: Annotated[str, Lever(header="model", phrased="model {}", words=MODEL_NAMES)]
    """Preset of the network, or FILE.py:FUNCTION of a user's own network."""
    task: Annotated[Task, Lever(header="task", phrased="{} task")]
    """Masks to learn: three classes, or curve against background."""
    micro_batch_size: int
    """Examples per forward and backward pass; divides batch_size."""
    seed: int
    """Seed of weights, subset and batch order."""
    model_id: str | None = None
    """Digest of the file of a user's own network; None for a preset."""
    classes: Annotated[
        int | None, Lever(header="classes", phrased="{} classes", read=_read_classes, quiet=OF_THE_TASK)
    ] = None
    """Classes of the network, background included; None for those of the task."""
    memory_limit_bytes: Annotated[
        int | None,
        Lever(
            header="memory\nlimit",
            phrased="memory limit {}",
            read=_read_memory_limit,
            quiet="none",
        ),
    ] = None
    """Memory limit of the caching allocator (CUDA) or of the process's own data (CPU); None for no limit."""

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.micro_batch_size < 1 or self.batch_size % self.micro_batch_size:
            raise ValueError(f"micro_batch_size {self.micro_batch_size} must divide batch_size {self.batch_size}")
        if (self.model in MODEL_NAMES) != (self.model_id is None):
            raise ValueError(f"model {self.model!r}: must be one of {', '.join(MODEL_NAMES)}, or one with its model_id")
        for name, allowed in _words_of(self.kind).items():
            value = getattr(self, name)
            if value is not None and value not in allowed:
                raise ValueError(f"{name} {value!r}: must be one of {', '.join(allowed)}")
        if self.norm_groups != USUAL_GROUPS and not (self.norm_groups.isdigit() and int(self.norm_groups) > 0):
            raise ValueError(f"norm_groups {self.norm_groups!r}: must be {USUAL_GROUPS} or a positive number of groups")
        if self.allocator not in ALLOCATORS and not (self.takes_alloc_conf and ":" in self.allocator):
            raise ValueError(f"allocator {self.allocator!r}: must be one of {', '.join(ALLOCATORS)}")
        for name in ("prefetch_factor", "memory_limit_bytes"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} {value}: must be positive")
        for name, silent in self.lacks.items():
            if getattr(self, name) != silent:
                raise ValueError(f"a {self.kind} trial has no {name}")
        self._check_kind()

    def _check_kind(self) -> None:
        """Raise a ValueError if fields of the kind contradict each other."""

    @property
    def is_traced(self) -> bool:
        """Whether its step is traced on fake tensors, which computes nothing."""
        return False

    @property
    def num_classes(self) -> int:
        """The number of classes of the network, background included."""
        return NUM_CLASSES[self.task] if self.classes is None else self.classes

    @property
    def visits_shapes(self) -> bool:
        """Whether training runs a pass over each canvas before it is timed.

        The first pass over a canvas pays for what libraries prepare and cache per shape: cuDNN plans, oneDNN kernels,
        compiled graphs. ``warm`` runs a pass over each canvas of the measured steps before they begin. It measures the
        long-run cost of a step if canvases are few, or if the caches hold all of them. ``cold`` measures one epoch
        without such passes, so each canvas is new, except the one of the warm-up. It measures the cost of a step if
        there are more canvases than the caches hold. ``auto`` is warm on CUDA and for compiled code, where a first pass
        costs many times a later one. On the CPU it runs no such passes; later epochs reuse what the first one prepared.
        """
        if self.shape_visits == "auto":
            return self.device == "cuda" or self.compile != "none"
        return self.shape_visits == "warm"

    @property
    def accumulation_steps(self) -> int:
        """The number of forward and backward passes per optimizer step."""
        return self.batch_size // self.micro_batch_size

    @property
    def lever_key(self) -> str:
        """The family without its micro-batch: the memory of trials with one key differs only by micro_batch_size."""
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
                *([f"ranks-{canonical['ranks']}"] if "ranks" in canonical else []),
            )
        )

    @property
    @once_per_object
    def family(self) -> str:
        """The name of the family: the trials that share memory behaviour."""
        return f"{self.lever_key}/micro-{self.micro_batch_size}"

    @property
    @once_per_object
    def spec_id(self) -> str:
        """The hash of the canonical spec, 12 hexadecimal digits."""
        return digest(self.canonical())

    def canonical(self) -> dict[str, Any]:
        """Return the kind and the fields that differ from their defaults, sorted by name.

        Defaults are left out so that fields added by later versions do not change the identity of older specs.
        """
        # Fields are plain values and tuples of them, so the slow copying of asdict is not needed.
        values = {
            one.name: getattr(self, one.name)
            for one in fields(self)
            if one.default is MISSING or getattr(self, one.name) != one.default
        }
        return dict(sorted((values | {"kind": self.kind}).items()))

    def flat(self) -> dict[str, Any]:
        """Return the kind and the fields of all kinds, as in records; fields that this kind lacks are as in ABSENT."""
        return {"kind": self.kind} | {name: getattr(self, name, absent) for name, absent in ABSENT.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the spec that ``flat`` or ``canonical`` wrote, of this class or the right subclass.

        Raises:
            ValueError: the kind or a field is unknown, a field is missing, or a value has a wrong type or is invalid.
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
        # 60 and 60.0 are the same duration but different texts, and the id is a hash of the text.
        written: dict[str, Any] = {
            name: values[name]
            for name in values.keys() & own
            if type(values[name]) is int and type(getattr(spec, name)) is float
        }
        return replace(spec, **written) if written else spec


@dataclass(frozen=True, kw_only=True, slots=True)
class MemorySpec(TrialSpec):
    """One step on a micro-batch of worst-case examples only."""

    kind: ClassVar[TrialKind] = "memory"
    lacks: ClassVar[Mapping[str, LeverValue]] = {
        "num_workers": None,
        "shapes": None,
        "shape_visits": "auto",
        "cache": "none",
    }

    worst_case_height: int
    """Height of the examples in pixels."""
    worst_case_width: int
    """Width of the examples in pixels."""
    soak: Soak | None = None
    """Order of the passes before the worst case; None without such passes."""
    soak_passes: tuple[tuple[int, int, int], ...] | None = None
    """(examples, height, width) of each pass before the worst case, sides of the canvas in pixels."""
    memory_by: MemoryBy = "step"
    """Whether the step is run, or traced on fake tensors, which takes no memory."""

    @property
    def is_traced(self) -> bool:
        """Whether its step is traced on fake tensors instead of run."""
        return self.memory_by == "trace"

    def _check_kind(self) -> None:
        if (self.soak is None) != (not self.soak_passes) or self.soak == "none":
            raise ValueError(f"soak {self.soak!r} and its passes: give both or neither")
        if self.memory_by == "trace" and (self.device, self.compile) != ("cpu", "none"):
            raise ValueError("memory_by 'trace': only uncompiled memory trials on the CPU can be traced")


@dataclass(frozen=True, kw_only=True, slots=True)
class _ResidentSpec(TrialSpec):
    """Steps on batches that are already on the device, canvas by canvas."""

    lacks: ClassVar[Mapping[str, LeverValue]] = {**MemorySpec.lacks, "sampler": None}

    canvas_sizes: tuple[Size, ...]
    """Height and width of the examples of each canvas in pixels, in the order measured."""
    max_measuring_s: float
    """Seconds after which no new block starts: per canvas (``compute``), in total (``probe``)."""

    def _check_kind(self) -> None:
        if not self.canvas_sizes:
            raise ValueError("canvas_sizes must hold a canvas")


@dataclass(frozen=True, kw_only=True, slots=True)
class ComputeSpec(_ResidentSpec):
    """Steps without a loader, canvas by canvas, each until its time is known."""

    kind: ClassVar[TrialKind] = "compute"

    num_warm_up_steps: int
    """Optimizer steps on each canvas before the measured ones; records mark them."""
    noise_target: float
    """Relative half-width of the mean's 95 % interval at which measuring ends."""
    min_steps: int
    """Fewest measured steps per canvas."""
    max_steps: int
    """Most measured steps per canvas."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeSpec(_ResidentSpec):
    """A few small steps before a sweep is planned, from which the time of its trials is estimated."""

    kind: ClassVar[TrialKind] = "probe"
    lacks: ClassVar[Mapping[str, LeverValue]] = {**_ResidentSpec.lacks, **OWN_LOOP}

    precisions: tuple[Precision, ...]
    """Precisions to try, the preferred one first."""
    sweep_id: str | None = None
    """Digest of the request of the sweep that the probe belongs to."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImagesSpec(TrialSpec):
    """A trial that reads image files, in epochs of the subset that all trials of a sweep share."""

    sampler: SamplerName
    """How examples are grouped into batches."""
    num_workers: int
    """Loader workers; 0 decodes in the training process."""
    corpus_id: Annotated[str, Lever(header="corpus", phrased="corpus {}")]
    """Digest of the corpus, from the content of its image files."""
    subset_size: int
    """Examples of one measured epoch."""
    mask_values: Annotated[
        tuple[int, ...] | None, Lever(header="mask\nvalues", phrased="mask values {}", read=_read_mask_values)
    ] = None
    """Mask values of the classes 0, 1, ...; None if the values are the class numbers."""
    ignore_value: Annotated[int | None, Lever(header="ignored\nvalue", phrased="ignored value {}")] = None
    """Mask value of pixels that the loss ignores; None for no such value."""
    pixel_budget: int | None = None
    """Most padded pixels of a pass, for the sampler ``pixel-budget``."""
    cache_limit_bytes: int | None = None
    """Most bytes of decoded images and masks that the cache keeps."""
    noise_target: float | None = None
    """Relative half-width of the mean's 95 % interval at which measuring ends."""
    max_epochs: int | None = None
    """Most measured epochs of the subset; None, as in the first records, for one."""
    max_measuring_s: float | None = None
    """Seconds after which no new block starts."""

    def _check_kind(self) -> None:
        if (self.cache == "none") != (self.cache_limit_bytes is None):
            raise ValueError("cache and cache_limit_bytes: give both or neither")
        if self.shape_visits == "cold" and (self.max_epochs or 1) > 1:
            raise ValueError("shape_visits 'cold': only the first epoch is cold, so max_epochs must be 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class LoaderSpec(ImagesSpec):
    """Loading without training, measured up to each stage."""

    kind: ClassVar[TrialKind] = "loader"
    lacks: ClassVar[Mapping[str, LeverValue]] = {"shape_visits": "auto", **UNRUN}

    max_epochs: int
    """Most measured epochs of the subset."""
    max_measuring_s: float
    """Seconds after which no new block of a stage starts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingSpec(ImagesSpec):
    """Timed training on image files."""

    kind: ClassVar[TrialKind] = "training"

    num_warm_up_steps: int
    """Optimizer steps before the measured ones; records mark them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SnapshotSpec(ImagesSpec):
    """Training with snapshots and without, epoch by epoch in turn, and going on from one in a fresh process."""

    kind: ClassVar[TrialKind] = "snapshot"
    lacks: ClassVar[Mapping[str, LeverValue]] = {"shape_visits": "auto", **OWN_LOOP}

    snapshot_mode: Annotated[SnapshotMode, Lever(header="snapshot\nmode", phrased="{} snapshots")] = "sync"
    """Whether training waits for the disk, or for a copy of its state."""
    snapshot_target: Annotated[str | None, Lever(header="snapshots\nin", phrased="snapshots in {}")] = None
    """Folder that snapshots are written to; None for the temporary folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ObservedSpec(TrainingSpec):
    """Training that somebody ran with a loop, network and images of their own, each epoch an attempt of a record.

    What a run does not tell stands at its default. ``model_id`` is a digest of the parameters' names, shapes and types,
    ``corpus_id`` one of what is known of the examples, and ``seed`` is 0 where the sampler has none.
    """

    kind: ClassVar[TrialKind] = "observed"

    sampler: SeenSampler  # type: ignore[assignment]  # what people use is seen, not chosen
    """How examples are grouped into batches."""
    ranks: Annotated[int, Lever(header="ranks", phrased="{} ranks", read=_read_ranks, quiet=1)] = 1
    """Processes that train together; batches are those of one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ForecastSpec(TrialSpec):
    """One step on a card that is not at hand: traced on fake tensors, and never run."""

    kind: ClassVar[TrialKind] = "forecast"
    lacks: ClassVar[Mapping[str, LeverValue]] = {**MemorySpec.lacks, "sampler": None, **UNRUN}
    takes_alloc_conf: ClassVar[bool] = True

    card: str
    """Name of the card, or how much memory it has."""
    smallest_height: int
    """Height in pixels of the smallest examples, on which a step is forecast too."""
    smallest_width: int
    """Their width in pixels."""
    worst_case_height: int
    """Height in pixels of the largest examples."""
    worst_case_width: int
    """Their width in pixels."""

    @property
    def is_traced(self) -> bool:
        """Whether it computes nothing: always."""
        return True

    def _check_kind(self) -> None:
        if self.device != "cuda":
            raise ValueError(f"device {self.device!r}: cards are forecast, and they are CUDA's")


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditSpec(TrialSpec):
    """The audit of a training loop: what flows into its steps, not what they cost."""

    kind: ClassVar[TrialKind] = "audit"
    lacks: ClassVar[Mapping[str, LeverValue]] = {**MemorySpec.lacks, "sampler": None, **UNRUN}

    audited_loop: Annotated[str, Lever(header="loop", phrased="loop {}")]
    """FILE.py:FUNCTION of the loop. Its text is not part of the spec: revisions of a loop are compared by its name."""


Spec = TypeVar("Spec", bound=TrialSpec, default=TrialSpec, covariant=True)
"""Class of the spec in a task or record; any class by default."""

KINDS: Mapping[str, type[TrialSpec]] = {
    cls.kind: cls
    for cls in (
        MemorySpec,
        ComputeSpec,
        LoaderSpec,
        TrainingSpec,
        ProbeSpec,
        ForecastSpec,
        AuditSpec,
        ObservedSpec,
        SnapshotSpec,
    )
}
"""The class of each kind's specs."""

ABSENT: Mapping[str, Any] = {
    one.name: None if one.default is MISSING else one.default for cls in KINDS.values() for one in fields(cls)
}
"""Fields of all kinds, and the value in records of kinds that lack the field."""


@functools.cache
def _words_of(kind: TrialKind) -> dict[str, tuple[str, ...]]:
    """Return the allowed words of each field of a kind whose type is a Literal."""
    return words_by_field(KINDS[kind])


def _levers() -> Iterator[Lever]:
    """Yield all levers: first network and task, then those that a sweep can vary, then the others."""
    others = {lever.name: lever for cls in KINDS.values() for lever in declared_levers(cls) if lever.name not in AXES}
    first = ("model", "task")
    yield from (others[name] for name in first)
    yield from AXES.values()
    yield from (lever for name, lever in others.items() if name not in first)


LEVERS: Mapping[str, Lever] = {lever.name: lever for lever in _levers()}
"""Every lever by field name, in the order of columns and phrases.

Seeds, subset sizes and warm-up counts are not levers: they set how to measure, not what to measure.
"""
