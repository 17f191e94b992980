"""What was observed: the record of one trial, one JSON line of a results file.

Schema history:
    1  first version
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from vnbench.spec import TrialKind, TrialSpec, trial_id

SCHEMA_VERSION = 1

Status = Literal["ok", "oom", "timeout", "crashed", "skipped", "wrong"]
STATUSES: tuple[Status, ...] = get_args(Status)

CauseKind = Literal[
    "torch-out-of-memory",  # the caching allocator could not serve a request
    "library-allocation",  # cuDNN, cuBLAS or the driver could not allocate
    "host-allocation",  # the CPU allocator could not serve a request
    "host-killed",  # the operating system killed the process for its memory
    "index-overflow",  # a kernel refused a tensor of 2^31 elements or more
    "deadline",  # the trial ran past its time limit
    "exception",  # an error was raised in the trial
    "exit-code",  # the process ended with a non-zero code and no record
    "signal",  # the process was killed
    "no-record",  # the process ended in order, without a record
    "garbage",  # what the process sent is no record of this trial
    "larger-than-out-of-memory",  # a smaller member of the family ran out of memory
    "non-finite-loss",  # the loss was NaN or infinite
]
CAUSE_KINDS: tuple[CauseKind, ...] = get_args(CauseKind)

STEP_COLUMNS: Mapping[str, str] = {
    "is_warm_up": "whether the step came before the measured block",
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
}
"""Columns of ``TrialRecord.steps``; each holds one value per optimizer step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cause:
    """Why a trial did not end ``ok``."""

    kind: CauseKind
    """Closed list, for programs."""
    message: str
    """One line, for people."""
    detail: str | None = None
    """Traceback or last output lines, where there are any."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchingAccount:
    """Padding accounts of one epoch's plan."""

    num_examples: int
    """Examples in the plan."""
    num_batches: int
    """Micro-batches: forward and backward passes."""
    num_steps: int
    """Optimizer steps."""
    valid_pixels: int
    """Sum of height x width."""
    padded_pixels: int
    """Sum of the canvases' pixels."""
    padding_ratio: float
    """1 - valid_pixels / padded_pixels."""
    lower_bound_padding_ratio: float
    """No grouping into as many micro-batches pads less than this."""
    distinct_shapes: int
    """Number of different (examples, height, width) canvases."""
    repeated_pair_ratio: float | None
    """Share of the pairs within a batch that were together in the epoch before; None where there are no pairs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryReading:
    """Peak memory of a trial, in bytes. What an instrument does not see is None."""

    instrument: Literal["cuda-caching-allocator", "live-tensor-tracker", "process"]
    """Who counted. The live-tensor tracker does not see oneDNN's workspace."""
    peak_allocated_bytes: int | None
    """Most bytes held by tensors at once."""
    peak_reserved_bytes: int | None
    """Most bytes held by the caching allocator (CUDA): what has to fit on the card."""
    num_alloc_retries: int | None
    """Times that the caching allocator gave its cache back and tried again (CUDA)."""
    process_peak_rss_bytes: int | None
    """Largest resident set of the trial's process on the host."""
    capacity_bytes: int | None
    """Memory of the device; of the host, or its container, on the CPU."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """The measured block of a training trial as a whole."""

    wall_time_s: float
    """Wall clock from the synchronised start to the synchronised end."""
    num_steps: int
    """Measured optimizer steps."""
    num_examples: int
    """Measured examples."""
    valid_pixels: int
    """Valid pixels of the measured examples."""
    padded_pixels: int
    """Padded pixels of the measured examples."""


WarningCode = Literal["alloc-retries", "scaler-skipped-steps", "few-steps", "device-shared"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialWarning:
    """A reason to doubt a figure, with its numbers and the next thing to try."""

    code: WarningCode
    """Closed list, for programs."""
    message: str
    """One line, for people."""


@dataclass(frozen=True, kw_only=True, slots=True)
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
    """Totals of the measured block."""
    batching: BatchingAccount | None = None
    """Padding accounts of the plan of all training examples, of which the trial measured a subset."""
    memory: MemoryReading | None = None
    """Peak memory."""
    telemetry: Mapping[str, Any] | None = None
    """What NVML saw of the device meanwhile (measure.nvml)."""
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
            ValueError: not JSON, not a record of SCHEMA_VERSION, or its identity does not match its spec.
        """
        try:
            values = json.loads(line)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"not JSON: {error}") from error
        if not isinstance(values, dict):
            raise ValueError("not a JSON object")
        if values.get("schema_version") != SCHEMA_VERSION:
            raise ValueError(f"schema version {values.get('schema_version')!r}, not {SCHEMA_VERSION}")
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
        chosen["spec"] = TrialSpec.from_dict(chosen["spec"])
        for name, kind in _NESTED.items():
            if chosen.get(name) is not None:
                chosen[name] = kind(**chosen[name])
        if chosen.get("steps") is not None:
            chosen["steps"] = {name: tuple(column) for name, column in chosen["steps"].items()}
        chosen["warnings"] = tuple(TrialWarning(**warning) for warning in chosen.get("warnings", ()))
        return cls(**chosen)


_NESTED: Mapping[str, type] = {
    "cause": Cause,
    "block": Block,
    "batching": BatchingAccount,
    "memory": MemoryReading,
}
