"""What was observed: the record of one trial, one JSON line of a results file.

Schema history:
    1  first version
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any, Literal, get_args

from vnbench.records.identity import trial_id
from vnbench.records.probe_reading import ProbeReading, ProbeStep, SweepChoices
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
from vnbench.records.spec import TrialKind, TrialSpec
from vnbench.records.strict import check_numbers, strict_json

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

STEP_COLUMNS: Mapping[str, str] = {
    "is_warm_up": "whether the step came before the measured ones",
    "block": "which synchronised block the step belongs to, from 0, those of warm-up counted",
    "num_examples": "examples of the step",
    "num_micro_batches": "forward and backward passes of the step",
    "valid_pixels": "sum of height x width of the examples, in pixels",
    "padded_pixels": "sum of the canvases' pixels, padding included",
    "canvas_height": "largest canvas height of the step, in pixels",
    "canvas_width": "largest canvas width of the step, in pixels",
    "step_time_s": "from the start of the step to the start of the next one, in seconds",
    "data_wait_s": "the training process waiting for the loader, in seconds",
    "h2d_s": "copy to the device and conversion there, in seconds",
    "forward_s": "forward passes with the loss, in seconds",
    "backward_s": "backward passes, in seconds",
    "optimizer_s": "zeroing of gradients and the optimizer's update, in seconds",
    "loss": "loss of the step; null where it was not finite",
    "is_skipped_by_scaler": "whether the gradient scaler left the update out",
    "is_outlier": "whether the step took far longer or shorter than the others; it counts nevertheless",
}
"""Columns of ``TrialRecord.steps``; each holds one value per optimizer step. A duration that a clock stepping backwards
made negative is null. The first records lack ``block`` and ``is_outlier``."""


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
    figures: Mapping[str, float] = field(default_factory=dict)
    """The message's numbers by name, in base units."""


class SchemaVersionError(ValueError):
    """A record of another version of the schema."""

    def __init__(self, version: object) -> None:
        """Name the version."""
        super().__init__(f"schema version {version!r}, not {SCHEMA_VERSION}")
        self.version = version


@dataclass(frozen=True, kw_only=True, slots=True, weakref_slot=True)
class TrialRecord:
    """One trial as it was observed."""

    spec: TrialSpec
    """What was asked."""
    replicate: int
    """Which repetition of the spec, from 0."""
    attempt: int
    """Which try at this repetition, from 0."""
    status: Status
    """How it ended."""
    cause: Cause | None
    """Why, unless ``ok``."""
    environment: Mapping[str, Any]
    """The machine and software that it ran on (measure.environment)."""
    started_at: str
    """UTC, ISO 8601."""
    elapsed_s: float
    """Wall clock of the whole process, start to end."""
    steps: Mapping[str, tuple[Any, ...]] | None = None
    """Raw values per optimizer step, warm-up included (STEP_COLUMNS); None where none ended."""
    block: Block | None = None
    """Totals of the measured blocks."""
    stop: Stop | None = None
    """Why measuring ended (``training``)."""
    canvases: tuple[CanvasReading, ...] = field(default=())
    """What was seen of each canvas, in the order measured (``compute``)."""
    stages: tuple[LoaderStage, ...] = field(default=())
    """What was seen of each stage, in the order measured (``loader``)."""
    measured_span_s: tuple[float, float] | None = None
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
    telemetry: Mapping[str, Any] | None = None
    """What was seen from outside in the measured span: ``device`` (measure.nvml), ``host`` (measure.host)."""
    warnings: tuple[TrialWarning, ...] = field(default=())
    """Reasons for doubt."""

    @property
    def kind(self) -> TrialKind:
        """What was measured."""
        return self.spec.kind

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
        return json.dumps(identity | asdict(self), allow_nan=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str | bytes) -> TrialRecord:
        """Return the record that ``to_json`` wrote.

        Raises:
            SchemaVersionError: not a record of SCHEMA_VERSION.
            ValueError: not JSON, not a record, or its identity does not match its spec.
        """
        values = strict_json(line)
        if not isinstance(values, dict):
            raise ValueError("not a JSON object")
        if (version := values.get("schema_version")) != SCHEMA_VERSION:
            raise SchemaVersionError(version)
        try:
            record = cls._from_dict(values)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"not a trial record: {error!r}") from error
        if values.get("trial_id") != record.trial_id:
            raise ValueError(f"trial_id {values.get('trial_id')!r} does not match its spec ({record.trial_id})")
        return record

    @classmethod
    def _from_dict(cls, values: Mapping[str, Any]) -> TrialRecord:
        known = {item.name for item in fields(cls)}
        chosen = {name: values[name] for name in known if name in values}
        if chosen["status"] not in STATUSES:
            raise ValueError(f"unknown status {chosen['status']!r}")
        if not isinstance(chosen["environment"], dict):
            raise ValueError("environment is no table of names and values")
        try:
            datetime.fromisoformat(chosen["started_at"])
        except (TypeError, ValueError) as error:
            raise ValueError(f"started_at {chosen['started_at']!r} is no time") from error
        for name in ("steps", "memory"):
            check_numbers(name, chosen.get(name) or {})
        for name in ("replicate", "attempt"):
            if type(chosen[name]) is not int:
                raise ValueError(f"{name} {chosen[name]!r} is no whole number")
        chosen["spec"] = TrialSpec.from_dict(chosen["spec"])
        for name, kind in _NESTED.items():
            if chosen.get(name) is not None:
                chosen[name] = kind(**chosen[name])
        if chosen.get("steps") is not None:
            chosen["steps"] = {name: tuple(column) for name, column in chosen["steps"].items()}
        chosen["canvases"] = tuple(
            CanvasReading(**(canvas | {"stop": Stop(**canvas["stop"])})) for canvas in chosen.get("canvases", ())
        )
        chosen["stages"] = tuple(
            LoaderStage(**(stage | {"stop": Stop(**stage["stop"]), "waits_s": tuple(stage["waits_s"])}))
            for stage in chosen.get("stages", ())
        )
        if (probe := chosen.get("probe")) is not None:
            chosen["probe"] = ProbeReading(**(probe | {"steps": tuple(ProbeStep(**step) for step in probe["steps"])}))
        if (choices := chosen.get("choices")) is not None:
            chosen["choices"] = SweepChoices(**(choices | {"precision": tuple(choices["precision"])}))
        if chosen.get("measured_span_s") is not None:
            start_s, end_s = chosen["measured_span_s"]
            chosen["measured_span_s"] = (start_s, end_s)
        chosen["warnings"] = tuple(TrialWarning(**warning) for warning in chosen.get("warnings", ()))
        return cls(**chosen)


_NESTED: Mapping[str, type] = {
    "cause": Cause,
    "block": Block,
    "stop": Stop,
    "batching": BatchingAccount,
    "memory": MemoryReading,
    "equality": EqualityReading,
    "large_tensors": LargeTensorReading,
    "forecast": ForecastReading,
}
