"""What was observed: the record of one trial, one JSON line of a results file.

Schema history:
    1  first version
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from datetime import datetime
from typing import Any, Generic, Literal, TypedDict, TypeGuard, TypeVar, get_args, get_type_hints

import msgspec

from vnbench.records.machine_keys import Environment, Telemetry
from vnbench.records.probe_reading import ProbeReading, SweepChoices
from vnbench.records.readings import (
    BatchingAccount,
    Block,
    CanvasReading,
    EqualityReading,
    ForecastReading,
    LargeTensorReading,
    LoaderStage,
    MemoryReading,
    Stop,
)
from vnbench.records.spec.trial_spec import ImagesSpec, Spec, TrialSpec
from vnbench.records.spec.words import TrialKind
from vnbench.records.values.identity import trial_id
from vnbench.records.values.strict import Count, Number, Pixels, Seconds, SignedSeconds, refusal

SCHEMA_VERSION = 1

Status = Literal["ok", "oom", "timeout", "crashed", "skipped", "wrong"]
STATUSES: tuple[Status, ...] = get_args(Status)

CauseKind = Literal[
    "torch-out-of-memory",  # the caching allocator could not serve a request
    "library-allocation",  # cuDNN, cuBLAS or the driver could not allocate
    "library-error",  # cuDNN or cuBLAS failed inside itself, with memory left on the device
    "host-allocation",  # the CPU allocator could not serve a request
    "host-killed",  # the operating system killed the process for its memory
    "index-overflow",  # a kernel refused a tensor of 2^31 elements or more
    "deadline",  # the trial ran past its time limit
    "worker-died",  # a loader worker was killed or ended
    "worker-hung",  # a loader worker gave no batch for too long
    "shared-memory",  # /dev/shm has no room for the loader's batches
    "unusable-image",  # an image or mask file cannot be read as one, or is not what it was
    "open-files",  # the process may open no more files
    "exception",  # an error was raised in the trial
    "exit-code",  # the process ended with a non-zero code and no record
    "signal",  # the process was killed
    "no-record",  # the process ended in order, without a record
    "garbage",  # what the process sent is no record of this trial
    "larger-than-out-of-memory",  # a smaller member of the family ran out of memory
    "non-finite-loss",  # the loss was NaN or infinite
    "unequal-step",  # loss or gradient of a step differ from those of the plain configuration
    "large-tensor",  # a pass with more than 2^31 elements differs from the same examples in smaller ones
    "traced-peak",  # the tensors of a traced step are more than the memory that there is
]


class StepColumns(TypedDict, total=False):
    """Columns of ``TrialRecord.steps``; each holds one value per optimizer step.

    A duration that a clock stepping backwards made negative is null. The first records lack ``block`` and
    ``is_outlier``.
    """

    is_warm_up: tuple[bool, ...]
    """Whether the step came before the measured ones."""
    block: tuple[Count, ...]
    """Which synchronised block the step belongs to, from 0, those of warm-up counted."""
    num_examples: tuple[Count, ...]
    """Examples of the step."""
    num_micro_batches: tuple[Count, ...]
    """Forward and backward passes of the step."""
    valid_pixels: tuple[Pixels, ...]
    """Sum of height x width of the examples."""
    padded_pixels: tuple[Pixels, ...]
    """Sum of the canvases' pixels, padding included."""
    canvas_height: tuple[Pixels, ...]
    """Largest canvas height of the step."""
    canvas_width: tuple[Pixels, ...]
    """Largest canvas width of the step."""
    step_time_s: tuple[Seconds | None, ...]
    """From the start of the step to the start of the next one."""
    data_wait_s: tuple[Seconds | None, ...]
    """The training process waiting for the loader."""
    h2d_s: tuple[Seconds | None, ...]
    """Copy to the device and conversion there."""
    forward_s: tuple[Seconds | None, ...]
    """Forward passes with the loss."""
    backward_s: tuple[Seconds | None, ...]
    """Backward passes."""
    optimizer_s: tuple[Seconds | None, ...]
    """Zeroing of gradients and the optimizer's update."""
    loss: tuple[Number | None, ...]
    """Loss of the step; null where it was not finite."""
    is_skipped_by_scaler: tuple[bool, ...]
    """Whether the gradient scaler left the update out."""
    is_outlier: tuple[bool, ...]
    """Whether the step took far longer or shorter than the others; it counts nevertheless."""


STEP_COLUMNS = tuple(StepColumns.__annotations__)
"""Their names, in the order of a record."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cause:
    """Why a trial did not end ``ok``."""

    kind: CauseKind
    """Closed list, for programs."""
    message: str
    """One line, for people."""
    detail: str | None = None
    """Traceback or last output lines, where there are any."""


WarningCode = Literal[
    "alloc-retries",  # the caching allocator ran full: times are not valid
    "scaler-skipped-steps",  # the gradient scaler left updates out
    "few-steps",  # too few measured steps to tell their spread
    "noisy",  # a cap ended measuring before the noise target was reached
    "outliers",  # steps far from the others
    "data-wait",  # the training process waited for its loader
    "clock-stepped",  # the clock went backwards
    "device-shared",  # other processes computed on the GPU
    "throttled",  # the GPU lowered its clocks
    "busy-cores",  # other programs used the CPU cores
    "many-workers",  # more loader workers than CPU cores
    "large-tensor-unchecked",  # a pass with more than 2^31 elements was not held against smaller ones
]
WARNING_CODES: tuple[WarningCode, ...] = get_args(WarningCode)

DISTURBANCES: tuple[WarningCode, ...] = ("device-shared", "throttled", "busy-cores")
"""Warnings of something outside the trial that may be gone when it is tried again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialWarning:
    """A reason to doubt a figure, with its numbers and the next thing to try."""

    code: WarningCode
    """Closed list, for programs."""
    message: str
    """One line, for people."""
    figures: Mapping[str, int | float] = field(default_factory=dict)
    """The message's numbers by name, in base units."""


class SchemaVersionError(ValueError):
    """A record of another version of the schema."""

    def __init__(self, version: object) -> None:
        """Name the version."""
        super().__init__(f"schema version {version!r}, not {SCHEMA_VERSION}")
        self.version = version


@dataclass(frozen=True, kw_only=True, slots=True, weakref_slot=True)
class TrialRecord(Generic[Spec]):
    """One trial as it was observed."""

    spec: Spec
    """What was asked."""
    replicate: Count
    """Which repetition of the spec, from 0."""
    attempt: Count
    """Which try at this repetition, from 0."""
    status: Status
    """How it ended."""
    cause: Cause | None
    """Why, unless ``ok``."""
    environment: Environment
    """The machine and software that it ran on."""
    started_at: str
    """UTC, ISO 8601."""
    elapsed_s: SignedSeconds
    """Wall clock of the whole process, start to end."""
    steps: Mapping[str, tuple[Any, ...]] | None = None
    """Raw values per optimizer step, warm-up included (StepColumns); None where none ended."""
    block: Block | None = None
    """Totals of the measured blocks."""
    stop: Stop | None = None
    """Why measuring ended (``training``)."""
    canvases: tuple[CanvasReading, ...] = field(default=())
    """What was seen of each canvas, in the order measured (``compute``)."""
    stages: tuple[LoaderStage, ...] = field(default=())
    """What was seen of each stage, in the order measured (``loader``)."""
    measured_span_s: tuple[SignedSeconds, SignedSeconds] | None = None
    """Start and end of the measured blocks, in seconds after the start of the process; warm-up lies before."""
    batching: BatchingAccount | None = None
    """Padding accounts of the plan of all training examples, of which the trial measured a subset."""
    memory: MemoryReading | None = None
    """Peak memory."""
    equality: EqualityReading | None = None
    """How far one step is from the plain configuration's (``compute``, ``training``)."""
    large_tensors: LargeTensorReading | None = None
    """The largest pass, where a tensor of it has more than 2^31 elements."""
    forecast: ForecastReading | None = None
    """What was forecast of it before it ran; None where nothing was."""
    probe: ProbeReading | None = None
    """How fast the machine computes (``probe``)."""
    choices: SweepChoices | None = None
    """What the sweep chose by it (``probe``)."""
    telemetry: Telemetry | None = None
    """What was seen from outside in the measured span."""
    warnings: tuple[TrialWarning, ...] = field(default=())
    """Reasons for doubt."""

    @property
    def kind(self) -> TrialKind:
        """What was measured."""
        return self.spec.kind

    @property
    def corpus_id(self) -> str | None:
        """Digest of the corpus that it read; None for a kind that reads no image files."""
        return self.spec.corpus_id if isinstance(self.spec, ImagesSpec) else None

    @property
    def spec_id(self) -> str:
        """Hash of the canonical spec."""
        return self.spec.spec_id

    @property
    def trial_id(self) -> str:
        """Identity of this execution, unique in a results file."""
        return trial_id(self.spec_id, replicate=self.replicate, attempt=self.attempt)

    def to_json(self) -> str:
        """Return the record as one line of strict JSON (no NaN), without the line end."""
        identity = {
            "schema_version": SCHEMA_VERSION,
            "spec_id": self.spec_id,
            "replicate": self.replicate,
            "attempt": self.attempt,
            "trial_id": self.trial_id,
            "kind": self.kind,
        }
        values = identity | asdict(self) | {"spec": self.spec.flat()}
        line = _ENCODER.encode(values)
        return _ENCODER.encode(_told(values)) if "\\ud" in line else line

    @staticmethod
    def from_json(line: str | bytes) -> TrialRecord:
        """Return the record that ``to_json`` wrote, without fields that a later version added.

        Raises:
            SchemaVersionError: not a record of SCHEMA_VERSION.
            ValueError: not JSON, a field does not fit, which is named, or the identity does not match the spec.
        """
        try:
            found = _LINE.decode(line)
        except (msgspec.DecodeError, RecursionError) as error:
            _check_version(line)
            raise ValueError(f"not a trial record: {refusal(error)}") from error
        try:
            # Facts that a later version added are kept, and those of this one have to fit.
            msgspec.convert(found.environment, Environment)
        except msgspec.ValidationError as error:
            raise ValueError(f"not a trial record: {refusal(error, where='environment')}") from error
        values = msgspec.structs.asdict(found)
        version, told = values.pop("schema_version"), values.pop("trial_id")
        if version != SCHEMA_VERSION:
            raise SchemaVersionError(version)
        try:
            datetime.fromisoformat(found.started_at)
        except ValueError as error:
            raise ValueError(f"not a trial record: started_at {found.started_at!r} is no time") from error
        values["spec"] = _spec_of(bytes(found.spec))
        record: TrialRecord = TrialRecord(**values)
        if told != record.trial_id:
            raise ValueError(f"trial_id {told!r} does not match its spec ({record.trial_id})")
        return record


Kind = TypeVar("Kind", bound=TrialSpec)


def is_of_kind(record: TrialRecord, kind: type[Kind]) -> TypeGuard[TrialRecord[Kind]]:
    """Return whether a record is of a kind of trial, named by the class of its specs."""
    return isinstance(record.spec, kind)


def of_kind(records: Iterable[TrialRecord], kind: type[Kind]) -> list[TrialRecord[Kind]]:
    """Return the records of a kind of trial, in their order."""
    return [record for record in records if is_of_kind(record, kind)]


def _check_version(line: str | bytes) -> None:
    """Refuse a line of another version of the schema, whatever else does not fit.

    Raises:
        SchemaVersionError: it is one.
    """
    with contextlib.suppress(msgspec.DecodeError, RecursionError):
        values = msgspec.json.decode(line)
        if isinstance(values, dict) and (version := values.get("schema_version")) != SCHEMA_VERSION:
            raise SchemaVersionError(version)


@functools.lru_cache(maxsize=4096)
def _spec_of(text: bytes) -> TrialSpec:
    """Return the spec of a text. The trials of a file share few: each is read, checked and named once."""
    return TrialSpec.from_dict(_SPEC.decode(text))


def _line_type() -> type:
    """Return what a line holds: the fields of a record, its spec as text, and what identifies it."""
    kinds = get_type_hints(TrialRecord, include_extras=True)
    kinds |= {"spec": msgspec.Raw, "environment": dict[str, Any], "steps": StepColumns | None}
    needed = [(one.name, kinds[one.name]) for one in fields(TrialRecord) if one.default is MISSING]
    others = [(one.name, kinds[one.name], one.default) for one in fields(TrialRecord) if one.default is not MISSING]
    identity = [("schema_version", Any, None), ("trial_id", Any, None)]
    return msgspec.defstruct("Line", [*needed, *others, *identity])


_LINE: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_line_type())
_SPEC = msgspec.json.Decoder(dict[str, Any])

_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))

LONE_SURROGATE = re.compile("[\ud800-\udfff]")
"""What Python makes of a byte in a file name that is no UTF-8, and no text of other programs may hold."""


def _told(value: Any) -> Any:
    r"""Return a value with such bytes as people write them: ``\xe9``."""
    if isinstance(value, str):
        return LONE_SURROGATE.sub(lambda found: f"\\x{ord(found[0]) & 0xFF:02x}", value)
    if isinstance(value, dict):
        return {key: _told(one) for key, one in value.items()}
    return [_told(one) for one in value] if isinstance(value, list | tuple) else value
