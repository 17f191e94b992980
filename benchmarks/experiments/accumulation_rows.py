"""Rows from the records of accumulation_report.py's sweep, one for each way to divide an optimizer step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from vnbench.analysis.comparison.ratios import compare_times
from vnbench.analysis.comparison.sides import side_of
from vnbench.analysis.findings import Findings
from vnbench.analysis.statistics.estimate import CONFIDENCE, Estimate
from vnbench.analysis.statistics.means import mean
from vnbench.analysis.statistics.ratio import Ratio
from vnbench.analysis.trials.process import why_not_timed
from vnbench.analysis.trials.steps import steps_of
from vnbench.analysis.trials.summary import TrialSummary
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.trial.instruments.timing import PHASES

STEP, SHARE, VALID, PADDED = "step_time_s", "optimizer_share", "valid_px_per_s", "padded_px_per_s"
"""Names of a row's figures besides those of its phases."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """Figures of one way to divide a step."""

    summary: TrialSummary
    figures: Mapping[str, Estimate]
    """Seconds per step of each phase and of the whole step (STEP), the optimizer's share of it (SHARE), pixels per
    second
    (VALID, PADDED): means over processes. Empty without times."""
    ratio: Ratio | None
    """Time for the same examples over that of the largest micro-batch; None for that micro-batch and without times."""

    @property
    def micro_batch_size(self) -> int:
        return self.summary.spec.micro_batch_size


def rows_of(records: Sequence[TrialRecord]) -> list[Row]:
    """Return a row per training spec by descending micro-batch; those as drawn come last."""
    findings = Findings(records)
    processes: dict[str, list[TrialRecord]] = {}
    for record in findings.latest:
        if record.kind == "training" and why_not_timed(record) is None:
            processes.setdefault(record.spec_id, []).append(record)
    summaries = sorted(findings.training, key=lambda one: (is_as_drawn(one.spec), -one.spec.micro_batch_size))
    ratios = ratios_to_largest(findings)
    return [
        Row(
            summary=summary,
            figures=over_processes([figures_of(one) for one in processes.get(summary.spec.spec_id, [])]),
            ratio=ratios.get(summary.spec.spec_id),
        )
        for summary in summaries
    ]


def ratios_to_largest(findings: Findings) -> dict[str, Ratio]:
    """Return the time for the same examples over that of the largest timed micro-batch, by spec_id.

    The largest is the whole batch, unless it did not fit. The intervals are simultaneous.
    """
    timed = sorted(
        (one.spec for one in findings.training if one.num_processes),
        key=lambda spec: (-spec.micro_batch_size, is_as_drawn(spec)),
    )
    sides = side_of(findings.latest).configurations
    times = [sides[spec.spec_id].figures["time"] for spec in timed]
    ratios = compare_times([(times[0], other) for other in times[1:]], family_error=1 - CONFIDENCE).rows
    return dict(zip([spec.spec_id for spec in timed[1:]], ratios, strict=True))


def is_as_drawn(spec: TrialSpec) -> bool:
    """Return whether a step could have been grouped by size and was not."""
    return spec.sampler == "random" and 1 < spec.micro_batch_size < spec.batch_size


def figures_of(record: TrialRecord) -> dict[str, float]:
    """Return the figures of one process from its measured steps."""
    steps = steps_of(record).measured

    def column(name: str) -> list[float]:
        # A clock that stepped backwards leaves gaps.
        return [value for value in steps[name].tolist() if not math.isnan(value)]

    total_s = sum(column(STEP))
    return {phase: fmean(column(f"{phase}_s")) for phase in PHASES} | {
        STEP: fmean(column(STEP)),
        SHARE: sum(column("optimizer_s")) / total_s,
        VALID: sum(column("valid_pixels")) / total_s,
        PADDED: sum(column("padded_pixels")) / total_s,
    }


def over_processes(processes: Sequence[Mapping[str, float]]) -> dict[str, Estimate]:
    """Return the mean of each figure over processes.

    Each process is one observation: all run the same steps, so differences between steps are not an uncertainty.
    """
    return {name: mean([one[name] for one in processes]) for name in processes[0]} if processes else {}
