"""What is asked: the frozen specification of a trial, and the words that its fields may hold."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Literal, get_args

DeviceType = Literal["cuda", "cpu"]
TrialKind = Literal["memory", "training"]
ModelName = Literal["veernet", "veernet-tiny"]
Task = Literal["multiclass", "binary"]
Precision = Literal["fp32", "tf32", "bf16", "fp16"]
NormPrecision = Literal["fp32", "input"]
Checkpointing = Literal["none", "stages"]
SamplerName = Literal["random", "bucketed"]

DEVICE_TYPES: tuple[DeviceType, ...] = get_args(DeviceType)
TRIAL_KINDS: tuple[TrialKind, ...] = get_args(TrialKind)
MODEL_NAMES: tuple[ModelName, ...] = get_args(ModelName)
TASKS: tuple[Task, ...] = get_args(Task)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
NORM_PRECISIONS: tuple[NormPrecision, ...] = get_args(NormPrecision)
CHECKPOINTINGS: tuple[Checkpointing, ...] = get_args(Checkpointing)
SAMPLER_NAMES: tuple[SamplerName, ...] = get_args(SamplerName)

REDUCED_PRECISIONS: tuple[Precision, ...] = ("bf16", "fp16")
"""Precisions that run under autocast; only there can the norm's precision differ from its input's."""

ALIGNMENT = 32
"""Canvas sides are rounded up to this many pixels: the encoder halves the map in five stages."""

NUM_CLASSES: Mapping[Task, int] = {"multiclass": 3, "binary": 2}
"""Classes of each task, background included."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialSpec:
    """One trial, completely: two runs of equal specs on one machine measure the same thing.

    A ``memory`` trial runs one optimizer step on a micro-batch made only of worst-case examples and has no sampler,
    workers or corpus. A ``training`` trial trains on image files.
    """

    kind: TrialKind
    """What is measured."""
    device: DeviceType
    """Where it runs."""
    model: ModelName
    """Preset of the network."""
    task: Task
    """Which masks are learnt: three classes, or curve against background."""
    batch_size: int
    """Examples per optimizer step."""
    micro_batch_size: int
    """Examples per forward and backward pass; divides batch_size."""
    precision: Precision
    """Arithmetic of convolutions and matrix products."""
    norm_precision: NormPrecision
    """Whether norms compute in fp32 or in the precision of their input."""
    checkpointing: Checkpointing
    """Which activations are recomputed in the backward pass."""
    seed: int
    """Seed of weights, subset and batch order."""
    norm_groups: str = "half-or-16"
    """Rule for the groups of GroupNorm: ``half-or-16``, or a number of groups."""
    worst_case_height: int | None = None
    """Height in pixels of the examples of a ``memory`` trial; None otherwise."""
    worst_case_width: int | None = None
    """Width in pixels of the examples of a ``memory`` trial; None otherwise."""
    sampler: SamplerName | None = None
    """How examples are grouped into batches; None in a ``memory`` trial."""
    num_workers: int | None = None
    """Loader processes; 0 decodes in the training process; None in a ``memory`` trial."""
    corpus_id: str | None = None
    """Digest of the image files' manifest; None in a ``memory`` trial."""
    subset_size: int | None = None
    """Examples that are trained on once, measured; None in a ``memory`` trial."""
    num_warm_up_steps: int | None = None
    """Optimizer steps before the measured ones, kept in the record and marked; None in a ``memory`` trial."""

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.micro_batch_size < 1 or self.batch_size % self.micro_batch_size:
            raise ValueError(f"micro_batch_size {self.micro_batch_size} must divide batch_size {self.batch_size}")
        for name, allowed in _CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in allowed:
                raise ValueError(f"{name} {value!r}: must be one of {', '.join(allowed)}")
        if self.norm_groups != "half-or-16" and not (self.norm_groups.isdigit() and int(self.norm_groups) > 0):
            raise ValueError(f"norm_groups {self.norm_groups!r}: must be half-or-16 or a positive number of groups")
        absent, present = (
            (_TRAINING_FIELDS, _MEMORY_FIELDS) if self.kind == "memory" else (_MEMORY_FIELDS, _TRAINING_FIELDS)
        )
        for name in present:
            if getattr(self, name) is None:
                raise ValueError(f"a {self.kind} trial needs {name}")
        for name in absent:
            if getattr(self, name) is not None:
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
        return "/".join(
            (
                self.device,
                self.model,
                self.task,
                self.precision,
                f"norm-{self.norm_precision}",
                f"checkpointing-{self.checkpointing}",
                f"groups-{self.norm_groups}",
            )
        )

    @property
    def family(self) -> str:
        """Name of the trials that share memory behaviour."""
        return f"{self.lever_key}/micro-{self.micro_batch_size}"

    @property
    def spec_id(self) -> str:
        """Hash of the canonical spec, 12 hexadecimal digits."""
        return digest(self.canonical())

    def canonical(self) -> dict[str, Any]:
        """Return the fields that differ from their defaults, sorted by name.

        Defaults are left out so that a field added in a later version leaves the identity of older specs as it is.
        """
        values = asdict(self)
        return {
            field.name: values[field.name]
            for field in sorted(fields(self), key=lambda field: field.name)
            if field.default is MISSING or values[field.name] != field.default
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrialSpec:
        """Return the spec that ``dataclasses.asdict`` or ``canonical`` wrote.

        Raises:
            ValueError: an unknown field, or a value outside its domain.
            TypeError: a required field is missing.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(f"unknown spec field {', '.join(unknown)}")
        return cls(**values)


_TRAINING_FIELDS = ("sampler", "num_workers", "corpus_id", "subset_size", "num_warm_up_steps")
_MEMORY_FIELDS = ("worst_case_height", "worst_case_width")
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "kind": TRIAL_KINDS,
    "device": DEVICE_TYPES,
    "model": MODEL_NAMES,
    "task": TASKS,
    "precision": PRECISIONS,
    "norm_precision": NORM_PRECISIONS,
    "checkpointing": CHECKPOINTINGS,
    "sampler": SAMPLER_NAMES,
}


def digest(value: object) -> str:
    """Return 12 hexadecimal digits of the SHA-256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def trial_id(spec_id: str, *, replicate: int, attempt: int) -> str:
    """Return the identity of one execution of a spec, unique in a results file."""
    return digest([spec_id, replicate, attempt])
