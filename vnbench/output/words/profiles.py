"""The memory profile of one step, as it came from its process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vnbench.errors import InputError
from vnbench.output.words.levers import describe
from vnbench.records.spec.trial_spec import MemorySpec

KINDS = ("parameters", "gradients", "optimizer state", "inputs", "activations", "backward")
"""What storages are told apart by, in the order of columns and layers."""

Cells = Mapping[tuple[str, str], int]
"""Bytes by stage and kind."""

NAMED = (
    "precision",
    "norm_precision",
    "checkpointing",
    "memory_format",
    "compile",
    "norm_kernel",
    "memory_limit_bytes",
)
"""Levers that tell profiles of one command apart."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """Where the memory of one worst-case step was."""

    spec: MemorySpec
    """The memory spec that was run."""
    status: str
    """How it ended: ``ok``, ``oom`` or otherwise."""
    reason: str | None
    """Why, unless ``ok``."""
    stages: tuple[str, ...]
    """Stages in the order of the forward pass."""
    tracked_peak_bytes: int
    """Most bytes of live tensors at once."""
    measured_peak_bytes: int | None
    """The same from the instrument; None where there is none."""
    instrument: str
    """``cuda-caching-allocator``, or ``process``: the growth of the process's resident set."""
    peak_place: str
    """Phase and stage in which the peak came, as ``backward pass of decoder 1``."""
    at_peak: Cells
    """Live bytes at the peak."""
    timeline: tuple[tuple[str, Cells], ...]
    """Phase and live bytes at each change of the running stage."""
    device_name: str | None = None
    """Where it was measured; None where unknown."""

    @property
    def title(self) -> str:
        """Size and levers in one line."""
        spec = self.spec
        size = f"{spec.micro_batch_size} x {spec.worst_case_height} x {spec.worst_case_width:,} px"
        named = [name for name in NAMED if name in spec.canonical() or name in NAMED[:3]]
        return f"{spec.model}, {size}, {describe(spec, names=named)}"

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds that occur at the peak."""
        return tuple(kind for kind in KINDS if any(of == kind and size for (_, of), size in self.at_peak.items()))

    @classmethod
    def of(cls, spec: MemorySpec, answer: Mapping[str, Any]) -> Profile:
        """Return the profile in the answer of ``vnbench.trial.kinds.profile``."""
        if answer["status"] != "ok":
            return cls.failed(spec, status=answer["status"], reason=answer["cause"]["message"])
        phase, stage = answer["peak_phase"], answer["peak_stage"]
        return cls(
            spec=spec,
            status="ok",
            reason=None,
            stages=tuple(answer["stages"]),
            tracked_peak_bytes=answer["tracked_peak_bytes"],
            measured_peak_bytes=answer["measured_peak_bytes"],
            instrument=answer["instrument"],
            peak_place="optimizer's update" if phase == "optimizer" else f"{phase} pass of {stage}",
            at_peak=_cells(answer["at_peak"]),
            timeline=tuple((phase, _cells(cells)) for phase, cells in answer["timeline"]),
        )

    @classmethod
    def read(cls, path: Path) -> Profile:
        """Return the profile in a file that ``vnbench profile --out`` wrote.

        Raises:
            InputError: the file cannot be read, or is none.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                spec=MemorySpec.from_dict(values["spec"]),
                status=str(values["status"]),
                reason=values["reason"],
                stages=tuple(map(str, values["stages"])),
                tracked_peak_bytes=int(values["tracked_peak_bytes"]),
                measured_peak_bytes=values["measured_peak_bytes"],
                instrument=str(values["instrument"]),
                peak_place=str(values["peak_place"]),
                at_peak=_read_cells(values["at_peak"]),
                timeline=tuple((str(one["phase"]), _read_cells(one["cells"])) for one in values["timeline"]),
                device_name=values["device_name"],
            )
        except OSError as error:
            raise InputError(
                "--profile", path, allowed=f"cannot be read ({error.strerror})", remedy="name a profile.json"
            ) from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise InputError(
                "--profile",
                path,
                allowed="this is no profile of this version",
                remedy="name a profile.json that vnbench profile --out wrote",
            ) from error

    def to_json(self) -> dict[str, Any]:
        """Return the profile as JSON values, as ``read`` takes them."""

        def rows(cells: Cells) -> list[dict[str, Any]]:
            return [{"stage": stage, "kind": kind, "bytes": size} for (stage, kind), size in cells.items()]

        measured = self.measured_peak_bytes
        return {
            "spec": self.spec.flat(),
            "device_name": self.device_name,
            "status": self.status,
            "reason": self.reason,
            "stages": list(self.stages),
            "tracked_peak_bytes": self.tracked_peak_bytes,
            "measured_peak_bytes": measured,
            "instrument": self.instrument,
            "residual_ratio": None if not measured else 1 - self.tracked_peak_bytes / measured,
            "peak_place": self.peak_place,
            "at_peak": rows(self.at_peak),
            "timeline": [{"phase": phase, "cells": rows(cells)} for phase, cells in self.timeline],
        }

    @classmethod
    def failed(cls, spec: MemorySpec, *, status: str, reason: str) -> Profile:
        """Return a profile of a step that did not end."""
        return cls(
            spec=spec,
            status=status,
            reason=f"{status}: {reason}",
            stages=(),
            tracked_peak_bytes=0,
            measured_peak_bytes=None,
            instrument="none",
            peak_place="",
            at_peak={},
            timeline=(),
        )


def _read_cells(rows: Any) -> dict[tuple[str, str], int]:
    return {(str(row["stage"]), str(row["kind"])): int(row["bytes"]) for row in rows}


def _cells(rows: Any) -> dict[tuple[str, str], int]:
    return {(stage, kind): size for stage, kind, size in rows}
