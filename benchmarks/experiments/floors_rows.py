"""Rows that compare a step of each configuration with its two floors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from floors_traffic import is_countable, step_traffic

from vnbench.analysis.statistics.process_spread import PooledFigure
from vnbench.analysis.trials.compute import ComputeSummary
from vnbench.output.words.levers import describe, varying, worth_naming
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.records.spec.words import Precision


@dataclass(frozen=True, kw_only=True)
class Ceilings:
    """Maximum rates of a machine."""

    flop_per_s: Mapping[Precision, float]
    """Floating-point operations per second of a large matrix product, by precision."""
    bytes_per_s: float
    """Bytes per second, read and written, of a large copy."""


def ceilings_of(document: Mapping[str, Any]) -> Ceilings:
    """Return the highest rates in a document of floors_report.py."""
    return Ceilings(
        flop_per_s={precision: max(rates) for precision, rates in document["flop_per_s"].items()},
        bytes_per_s=max(document["bytes_per_s"]),
    )


@dataclass(frozen=True, kw_only=True)
class Row:
    """One configuration on its largest measured canvas."""

    spec: TrialSpec
    height: int
    """Of the canvas, in pixels."""
    width: int
    """Of the canvas, in pixels."""
    valid_pixels: float
    """Valid pixels per step."""
    step_time: PooledFigure
    """Seconds per step."""
    arithmetic_s: float
    """Seconds for its operations, without recomputation, at the rate of matrix products in its precision."""
    traffic_s: float | None
    """Seconds to move its operators' bytes at the rate of a copy; None if the bytes cannot be counted."""
    num_processes: int

    @property
    def floor_s(self) -> float:
        """The larger of the two floors."""
        return max(self.arithmetic_s, self.traffic_s or 0.0)

    @property
    def over_floor(self) -> float:
        """The time of a step over the larger floor."""
        return self.step_time.value / self.floor_s


def rows_of(summaries: Iterable[ComputeSummary], ceilings: Ceilings) -> list[Row]:
    """Return a row for each configuration whose operations were counted, the fastest by valid pixels first."""
    rows = []
    for one in summaries:
        spec = one.spec
        known = [canvas for canvas in one.canvases if canvas.flop_per_step]
        if not known or spec.precision not in ceilings.flop_per_s:
            continue
        canvas = max(known, key=lambda canvas: canvas.padded_pixels)
        assert canvas.flop_per_step is not None
        traffic = step_traffic(spec, height=canvas.height, width=canvas.width) if is_countable(spec) else None
        rows.append(
            Row(
                spec=spec,
                height=canvas.height,
                width=canvas.width,
                valid_pixels=canvas.valid_pixels,
                step_time=canvas.step_time,
                arithmetic_s=canvas.flop_per_step / ceilings.flop_per_s[spec.precision],
                traffic_s=None if traffic is None else traffic / ceilings.bytes_per_s,
                num_processes=one.num_processes,
            )
        )
    return sorted(rows, key=lambda row: row.step_time.value / row.valid_pixels)


def shared(rows: Sequence[Row]) -> str:
    """Return what all rows have in common, in words."""
    specs = [row.spec for row in rows]
    varied = varying(specs)
    return describe(specs[0], names=[name for name in ("model", "task") if name not in varied])


def configuration(row: Row, rows: Sequence[Row]) -> str:
    """Return what distinguishes a row from the others, in words."""
    specs = [one.spec for one in rows]
    varied = varying(specs)
    names = [name for name in worth_naming(specs) if name in varied]
    return describe(row.spec, names=names or ("batch_size", "precision"))
