"""What ``vnbench forecast --widths`` found, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vnbench.analysis.comparison.residuals import Residual, residuals
from vnbench.analysis.findings import Findings
from vnbench.analysis.planning.capacity import Asked, PlannedRun
from vnbench.analysis.planning.configurations import Measured
from vnbench.analysis.planning.run_planning import plan_runs
from vnbench.commands.plan.on_card import on_the_card
from vnbench.output.tables.forecast import Row
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import ForecastSpec
from vnbench.sweep.forecasts.on_cards import Forecasts

RunKey = tuple[str, int]
"""Family and batch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ForecastReport:
    """What was forecast, and the run that is planned with it."""

    forecasts: Forecasts
    """What cards take."""
    runs: Mapping[str, Mapping[RunKey, PlannedRun]]
    """By card: the fastest run with each family and batch."""
    out: Path | None
    """File of the records; None where none was written."""
    asked_as: Mapping[str, str]
    """How each card was asked for, by its name."""
    measured: tuple[Residual, ...]
    """What was measured of the same configurations on the cards themselves."""

    @classmethod
    def of(
        cls,
        forecasts: Forecasts,
        *,
        asked: Asked,
        out: Path | None,
        asked_as: Mapping[str, str],
        measured: Sequence[TrialRecord],
    ) -> ForecastReport:
        """Return the report with a run planned from the forecasts of each card; ``measured`` are of any device."""
        return cls(
            forecasts=forecasts,
            runs={card: _runs(forecasts.on(card), asked=asked) for card in asked_as},
            out=out,
            asked_as=asked_as,
            measured=tuple(
                one for card in asked_as for one in residuals(forecasts.on(card), on_the_card(measured, card))
            ),
        )

    @property
    def exit_code(self) -> int:
        """0, or 3 where nothing could be forecast."""
        return 0 if any(record.card is not None for record in self.forecasts.records) else 3

    def rows(self) -> tuple[Row, ...]:
        """Return a row for each setting of the levers on each card: that of its fastest batch that fits."""
        groups: dict[tuple[str, str], list[TrialRecord[ForecastSpec]]] = {}
        for record in self.forecasts.records:
            groups.setdefault((record.spec.card, record.spec.lever_key), []).append(record)
        return tuple(self._row(key, members) for key, members in groups.items())

    def run_of(self, record: TrialRecord[ForecastSpec]) -> PlannedRun | None:
        """Return the run with a forecast's configuration; None where none was planned."""
        return self.runs[record.spec.card].get((record.spec.family, record.spec.batch_size))

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "cards": [self._as_json(record) for record in self.forecasts.records],
            "largest_micro_batches": [
                {"card": self.asked_as[card], "levers": key, "micro_batch_size": size}
                for (card, key), size in self.forecasts.largest.items()
            ],
            "left_out": list(self.forecasts.left_out),
            "out": None if self.out is None else str(self.out),
        }

    def _row(self, key: tuple[str, str], members: Sequence[TrialRecord[ForecastSpec]]) -> Row:
        def rank(record: TrialRecord[ForecastSpec]) -> tuple[bool, float]:
            run = self.run_of(record)
            does_fit = record.card is not None and record.card.verdict == "fits"
            return not does_fit, run.finish.p50 if does_fit and run is not None else record.spec.micro_batch_size

        best = min(members, key=rank)
        return Row(record=best, largest=self.forecasts.largest.get(key), run=self.run_of(best))

    def _as_json(self, record: TrialRecord[ForecastSpec]) -> dict[str, Any]:
        card, run = record.card, self.run_of(record)
        spec = {name: value for name, value in record.spec.flat().items() if value is not None}
        told: dict[str, Any] = {"card": self.asked_as[record.spec.card], "spec": spec}
        if card is None:
            reason = None if record.cause is None else record.cause.message
            return (
                told
                | dict.fromkeys(("allocated_bytes", "reserved_bytes", "device_bytes", "verdict", "step_time_s"))
                | {"reason": reason}
            )
        step = card.worst_case
        return told | {
            "allocated_bytes": asdict(step.allocated_bytes),
            "reserved_bytes": asdict(step.reserved_bytes),
            "device_bytes": asdict(card.device_bytes),
            "card_bytes": card.card_bytes,
            "verdict": card.verdict,
            "num_retries": card.num_retries,
            "step_time_s": None if step.step_time_s is None else asdict(step.step_time_s),
            "wall_clock_s": None
            if run is None
            else {"p10": run.finish.p10, "p50": run.finish.p50, "p90": run.finish.p90},
            "notes": list(card.notes),
            "measured": [one.to_json() for one in self.measured if one.spec == record.spec],
        }


def _runs(records: Sequence[TrialRecord[ForecastSpec]], *, asked: Asked) -> dict[RunKey, PlannedRun]:
    found = Findings(records)
    if not found.families:
        return {}
    measured = Measured.of(found.latest, families=found.families, loading=())
    runs: dict[RunKey, PlannedRun] = {}
    for run in plan_runs(asked, measured):  # the fastest first
        runs.setdefault((run.family.family, run.levers["batch_size"]), run)
    return runs
