"""Define the record of one trial, which is one JSON line of a results file.

Schema history:
    1  first version
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from datetime import datetime
from typing import Any, Generic, Literal, TypeGuard, TypeVar, get_args, get_type_hints

import msgspec

from vnbench.records.audit_reading import AuditReading
from vnbench.records.machine_keys import Environment, Telemetry
from vnbench.records.probe_reading import ProbeReading, SweepChoices
from vnbench.records.readings import (
    BatchingAccount,
    Block,
    CanvasReading,
    CardForecast,
    EqualityReading,
    ForecastReading,
    LargeTensorReading,
    LoaderStage,
    MemoryReading,
    ObservedReading,
    ParityReading,
    SnapshotReading,
    Stop,
    WeightsReading,
)
from vnbench.records.spec.trial_spec import ImagesSpec, Spec, TrialSpec
from vnbench.records.spec.words import TrialKind
from vnbench.records.step_columns import StepColumns, UnreadSteps, without_steps
from vnbench.records.values.identity import trial_id
from vnbench.records.values.strict import Count, SignedSeconds, refusal

SCHEMA_VERSION = 1

Status = Literal["ok", "oom", "timeout", "crashed", "skipped", "wrong"]
STATUSES: tuple[Status, ...] = get_args(Status)

CauseKind = Literal[
    "torch-out-of-memory",  # the caching allocator could not serve a request
    "library-allocation",  # cuDNN, cuBLAS or the driver could not allocate
    "library-error",  # cuDNN or cuBLAS failed internally, with memory left on the device
    "host-allocation",  # the CPU allocator could not serve a request
    "host-killed",  # the operating system killed the process for its memory
    "index-overflow",  # a kernel refused a tensor of 2^31 elements or more
    "deadline",  # the trial ran past its time limit
    "worker-died",  # a loader worker was killed or ended
    "worker-hung",  # a loader worker sent no batch for too long
    "shared-memory",  # /dev/shm has no room for the loader's batches
    "unusable-image",  # an image or mask file cannot be decoded, or has changed
    "open-files",  # the process may not open more files
    "exception",  # an error was raised in the trial
    "exit-code",  # the process ended with a non-zero code and no record
    "signal",  # the process was killed
    "no-record",  # the process ended normally, without a record
    "garbage",  # the process sent something other than a record of this trial
    "larger-than-out-of-memory",  # a smaller member of the family ran out of memory
    "non-finite-loss",  # the loss was NaN or infinite
    "unequal-step",  # loss or gradient of a step differ from those of the plain configuration
    "unequal-loop",  # a framework's loop trains otherwise than the own one
    "large-tensor",  # a pass with more than 2^31 elements differs from the same examples in smaller passes
    "broken-loop",  # an audited training loop breaks its contract
    "traced-peak",  # the tensors of a traced step need more than the available memory
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Cause:
    """Why a trial did not end ``ok``."""

    kind: CauseKind
    """Cause from a closed list, for programs."""
    message: str
    """One line, for people."""
    detail: str | None = None
    """Traceback or last lines of output, if any."""


WarningCode = Literal[
    "alloc-retries",  # the caching allocator ran full: times are not valid
    "scaler-skipped-steps",  # the gradient scaler skipped updates
    "few-steps",  # too few measured steps to estimate their spread
    "noisy",  # a limit ended measuring before the noise target was reached
    "outliers",  # some steps took far longer or shorter than the others
    "data-wait",  # the training process waited for its loader
    "clock-stepped",  # the clock went backwards
    "device-shared",  # other processes computed on the GPU
    "throttled",  # the GPU lowered its clocks
    "busy-cores",  # other programs used the CPU cores
    "many-workers",  # more loader workers than CPU cores
    "large-tensor-unchecked",  # a pass with more than 2^31 elements was not compared with smaller passes
    "short-window",  # a framework divides the losses of a short window by the passes of a whole one
    "same-epoch",  # a sampler never heard of a new epoch
    "benchmark-canvases",  # cuDNN tries all algorithms anew on each of many canvases
]
WARNING_CODES: tuple[WarningCode, ...] = get_args(WarningCode)

DISTURBANCES: tuple[WarningCode, ...] = ("device-shared", "throttled", "busy-cores")
"""Warnings about causes outside the trial, which may be gone at the next attempt."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialWarning:
    """A reason to doubt a measurement, with its numbers and the next thing to try."""

    code: WarningCode
    """Code from a closed list, for programs."""
    message: str
    """One line, for people."""
    figures: Mapping[str, int | float] = field(default_factory=dict)
    """The message's numbers by name, in base units."""


class SchemaVersionError(ValueError):
    """A record of another version of the schema."""

    def __init__(self, version: object) -> None:
        """Create the error for a version that was read."""
        super().__init__(f"schema version {version!r}, not {SCHEMA_VERSION}")
        self.version = version


@dataclass(frozen=True, kw_only=True, slots=True, weakref_slot=True)
class TrialRecord(Generic[Spec]):
    """The record of one trial."""

    spec: Spec
    """The spec that was measured."""
    replicate: Count
    """Repetition of the spec, from 0."""
    attempt: Count
    """Attempt at this repetition, from 0."""
    status: Status
    """How the trial ended."""
    cause: Cause | None
    """Why it did not end ``ok``; None if it did."""
    environment: Environment
    """Machine and software of the trial."""
    started_at: str
    """Start time, UTC, ISO 8601."""
    elapsed_s: SignedSeconds
    """Wall-clock seconds of the whole process."""
    steps: Mapping[str, tuple[Any, ...]] | None = None
    """Raw values per optimizer step, warm-up included (StepColumns); None if no step ended."""
    block: Block | None = None
    """Totals of the measured blocks."""
    stop: Stop | None = None
    """Why measuring ended (``training``)."""
    canvases: tuple[CanvasReading, ...] = field(default=())
    """Readings on each canvas, in the order measured (``compute``)."""
    stages: tuple[LoaderStage, ...] = field(default=())
    """Readings of each stage, in the order measured (``loader``)."""
    measured_span_s: tuple[SignedSeconds, SignedSeconds] | None = None
    """Start and end of the measured blocks, in seconds after the start of the process, without warm-up."""
    batching: BatchingAccount | None = None
    """Padding account of the plan of all training examples, of which the trial measured a subset."""
    memory: MemoryReading | None = None
    """Peak memory."""
    weights: WeightsReading | None = None
    """Weights after the first measured epoch (``training``); None before."""
    parity: ParityReading | None = None
    """Comparison of a framework's loop with the own one; None for the own one, or if it was not reached."""
    equality: EqualityReading | None = None
    """Error of one step against the plain configuration (``compute``, ``training``)."""
    snapshot: SnapshotReading | None = None
    """What snapshots and going on from one cost (``snapshot``)."""
    observed: ObservedReading | None = None
    """What was seen of an epoch beside its steps (``observed``)."""
    large_tensors: LargeTensorReading | None = None
    """Error of the largest pass; None unless one of its tensors has more than 2^31 elements."""
    forecast: ForecastReading | None = None
    """Forecast made before the trial ran; None without one."""
    card: CardForecast | None = None
    """Forecast for a card that is not at hand (``forecast``)."""
    audit: AuditReading | None = None
    """What was found in a training loop (``audit``)."""
    probe: ProbeReading | None = None
    """Speed of the machine (``probe``)."""
    choices: SweepChoices | None = None
    """The sweep's choices after the probe (``probe``)."""
    telemetry: Telemetry | None = None
    """Readings of the machine during the measured span, taken by the parent process."""
    warnings: tuple[TrialWarning, ...] = field(default=())
    """Reasons to doubt the measurement."""
    images: Mapping[str, str] | None = None
    """Options that named the images and masks of its sweep, as they were written; None where none is known."""

    @property
    def kind(self) -> TrialKind:
        """The kind of trial."""
        return self.spec.kind

    @property
    def corpus_id(self) -> str | None:
        """The digest of its corpus; None for a kind that reads no image files."""
        return self.spec.corpus_id if isinstance(self.spec, ImagesSpec) else None

    @property
    def disturbances(self) -> tuple[WarningCode, ...]:
        """The codes of its warnings about causes outside the trial."""
        return tuple(warning.code for warning in self.warnings if warning.code in DISTURBANCES)

    @property
    def spec_id(self) -> str:
        """The hash of the canonical spec."""
        return self.spec.spec_id

    @property
    def trial_id(self) -> str:
        """The identity of this execution, unique in a results file."""
        return trial_id(self.spec_id, replicate=self.replicate, attempt=self.attempt)

    def to_json(self) -> str:
        """Return the record as one line of strict JSON (no NaN), without a newline."""
        identity = {
            "schema_version": SCHEMA_VERSION,
            "spec_id": self.spec_id,
            "replicate": self.replicate,
            "attempt": self.attempt,
            "trial_id": self.trial_id,
            "kind": self.kind,
        }
        # asdict would copy the steps value by value.
        steps = None if self.steps is None else dict(self.steps)
        values = identity | asdict(replace(self, steps=None)) | {"spec": self.spec.flat(), "steps": steps}
        line = _ENCODER.encode(values)
        return _ENCODER.encode(_told(values)) if "\\ud" in line else line

    @staticmethod
    def from_json(line: str | bytes, *, where: str | None = None) -> TrialRecord:
        """Return the record that ``to_json`` wrote, without fields that a later version added.

        If ``where`` names the file and the line, plain steps are read when they are used.

        Raises:
            SchemaVersionError: the schema version is not SCHEMA_VERSION.
            ValueError: the line is not JSON, a field is invalid (the message names it), or the identity does not match
                the spec.
        """
        try:
            found = _found(line, where=where)
        except (msgspec.DecodeError, RecursionError) as error:
            _check_version(line)
            raise ValueError(f"not a trial record: {refusal(error)}") from error
        try:
            # Facts that a later version added are kept; those of this version must be valid.
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
            raise ValueError(f"not a trial record: started_at {found.started_at!r} is not an ISO 8601 time") from error
        values["spec"] = _spec_of(bytes(found.spec))
        record: TrialRecord = TrialRecord(**values)
        if told != record.trial_id:
            raise ValueError(f"trial_id {told!r} does not match its spec ({record.trial_id})")
        return record


Kind = TypeVar("Kind", bound=TrialSpec)


def is_of_kind(record: TrialRecord, kind: type[Kind]) -> TypeGuard[TrialRecord[Kind]]:
    """Return whether a record's spec is of this class, which stands for a kind of trial."""
    return isinstance(record.spec, kind)


def of_kind(records: Iterable[TrialRecord], kind: type[Kind]) -> list[TrialRecord[Kind]]:
    """Return the records of one kind of trial, in their order."""
    return [record for record in records if is_of_kind(record, kind)]


def _check_version(line: str | bytes) -> None:
    """Check the schema version of a line that could not be read as a record.

    Raises:
        SchemaVersionError: the line has another version.
    """
    with contextlib.suppress(msgspec.DecodeError, RecursionError):
        values = msgspec.json.decode(line)
        if isinstance(values, dict) and (version := values.get("schema_version")) != SCHEMA_VERSION:
            raise SchemaVersionError(version)


def _found(line: str | bytes, *, where: str | None) -> Any:
    """Return the fields of a line; its steps unread if they are plain and ``where`` is known.

    Raises:
        msgspec.DecodeError: the line is not JSON, or a field is invalid.
        RecursionError: the line is nested too deeply.
    """
    if where is None or not isinstance(line, bytes) or not (parts := without_steps(line)):
        return _LINE.decode(line)
    steps, rest = parts
    try:
        found = _LINE.decode(rest)
    except msgspec.DecodeError:
        return _LINE.decode(line)  # which tells the place in the whole line
    if found.steps is None:
        found.steps = UnreadSteps(steps, where=where)
        return found
    return _LINE.decode(line)  # other steps had been cut out


@functools.lru_cache(maxsize=4096)
def _spec_of(text: bytes) -> TrialSpec:
    """Return the spec from its JSON text. Trials of a file share few specs, so each is read and checked once."""
    return TrialSpec.from_dict(_SPEC.decode(text))


def _line_type() -> type:
    """Return the type of a line: the fields of a record, with the spec as text, and its identity."""
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
"""What Python makes of a byte in a file name that is not UTF-8; other programs reject it in text."""


def _told(value: Any) -> Any:
    r"""Return a value with lone surrogates written as bytes such as ``\xe9``."""
    if isinstance(value, str):
        return LONE_SURROGATE.sub(lambda found: f"\\x{ord(found[0]) & 0xFF:02x}", value)
    if isinstance(value, dict):
        return {key: _told(one) for key, one in value.items()}
    return [_told(one) for one in value] if isinstance(value, list | tuple) else value
