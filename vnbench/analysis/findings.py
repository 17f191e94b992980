"""Collect the results of one sweep; each part is computed at first use and cached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

from vnbench.analysis.comparison.computing_effects import computing_effects
from vnbench.analysis.comparison.side_by_side import SideBySide, side_by_side
from vnbench.analysis.comparison.sweep_answer import LeverEffect, SweepAnswer, answer_of
from vnbench.analysis.models.fit import FamilyFit, fit_families, forecast_families
from vnbench.analysis.trials.compute import ComputeSummary, summarize_compute
from vnbench.analysis.trials.loading import LoaderSummary, summarize_loading
from vnbench.analysis.trials.noise import Noise, measure_noise
from vnbench.analysis.trials.summary import MemorySummary, TrialSummary, latest_attempts, summarize, summarize_memory
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import TrialSpec


class Findings:
    """The summaries and fits of the records."""

    def __init__(self, records: Sequence[TrialRecord], *, centre: TrialSpec | None = None) -> None:
        """Take the records; a repeated attempt replaces the earlier one.

        ``centre`` is the training spec that the sweep was varied from; without it the records tell it.
        """
        self.records = tuple(records)
        self._centre = centre

    @cached_property
    def latest(self) -> tuple[TrialRecord, ...]:
        """The last attempt at each trial."""
        return latest_attempts(self.records)

    @cached_property
    def noise(self) -> Noise:
        """The noise between repeated trials."""
        return measure_noise(self.latest)

    @cached_property
    def training(self) -> tuple[TrialSummary, ...]:
        """The summary of each training spec."""
        return summarize(self.latest, noise=self.noise)

    @cached_property
    def sides(self) -> SideBySide:
        """The training specs compared with the centre."""
        return side_by_side(self.latest, noise=self.noise, centre=self._centre)

    @cached_property
    def answer(self) -> SweepAnswer | None:
        """The answer of the training trials; None if fewer than two can be compared."""
        return answer_of(self.training, self.sides)

    @cached_property
    def memory(self) -> tuple[MemorySummary, ...]:
        """The summary of each family with memory trials."""
        return summarize_memory(self.latest)

    @cached_property
    def compute(self) -> tuple[ComputeSummary, ...]:
        """The summary of each compute spec."""
        return summarize_compute(self.latest, noise=self.noise)

    @cached_property
    def computing_effects(self) -> tuple[LeverEffect, ...]:
        """The effect of each computing lever on computing alone, around the centre of the training trials if any."""
        return computing_effects(self.latest, noise=self.noise, memory=self.memory, centre=self.sides.centre)

    @cached_property
    def loading(self) -> tuple[LoaderSummary, ...]:
        """The summary of each loader spec."""
        return summarize_loading(self.latest, noise=self.noise)

    @cached_property
    def _fitted(self) -> tuple[tuple[FamilyFit, ...], dict[str, str]]:
        return fit_families(self.latest, noise=self.noise, is_rough_allowed=True)

    @property
    def families(self) -> tuple[FamilyFit, ...]:
        """The fit of each family that has one, rough fits included, and of each family that was only forecast."""
        measured = {family.family for family in self._fitted[0]}
        forecast = [family for family in forecast_families(self.latest) if family.family not in measured]
        return (*self._fitted[0], *forecast)

    @property
    def fits(self) -> tuple[FamilyFit, ...]:
        """The fits to measured steps that rest on enough sizes."""
        return tuple(family for family in self._fitted[0] if not family.is_rough)

    @property
    def unfitted(self) -> Mapping[str, str]:
        """Why each other timed family has no fit."""
        return self._fitted[1]
