"""``vnbench fit``: the wall-clock model of every family in some results, as a table or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vnbench.analysis.models.composition import Composition, compose_measured
from vnbench.analysis.models.fit import FamilyFit, fit_families, why_unfitted
from vnbench.analysis.models.linearity import count_steps, linearity_of
from vnbench.analysis.models.step_fit import CONFIDENCE
from vnbench.analysis.trials.loading import summarize_loading
from vnbench.analysis.trials.summary import latest_attempts
from vnbench.errors import InputError
from vnbench.output.console import say, stderr_console, stdout_console
from vnbench.output.tables.fit import fit_table
from vnbench.output.words.commands import with_command
from vnbench.output.words.provenance import Provenance, note_on_peaks, provenance
from vnbench.records.one_corpus import load_one_corpus
from vnbench.records.record import TrialRecord, is_of_kind
from vnbench.records.spec.trial_spec import ForecastSpec
from vnbench.units import count


@dataclass(frozen=True, kw_only=True, slots=True)
class FitReport:
    """What was fitted."""

    families: tuple[FamilyFit, ...]
    """The models."""
    left_out: dict[str, str]
    """Families without one, and why."""
    compositions: tuple[Composition, ...]
    """Training trials beside what their parts let expect."""
    origin: Provenance
    """Where the records were measured."""

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "device": self.origin.device_name,
            "models": [_as_json(family) for family in self.families],
            "left_out": self.left_out,
            "step_counting": [
                {
                    "lever_key": one.families[0].spec.lever_key,
                    "pixels_per_example": one.pixels_per_example,
                    "micro_batch_size": [family.spec.micro_batch_size for family in one.families],
                    "time_per_example_s": list(one.times_per_example_s),
                    "error": list(one.errors),
                }
                for one in count_steps(self.families)
            ],
            "compositions": [
                {
                    "spec": one.spec.canonical(),
                    "computing_s": one.computing.value,
                    "loading_s": one.loading_s,
                    "bracket_s": list(one.expected.bracket_s),
                    "expected_s": one.expected.total_s,
                    "measured_s": one.measured_s,
                    "error": one.error,
                    "is_extrapolated": one.is_extrapolated,
                }
                for one in self.compositions
            ],
        }


def run_fit_command(results: Sequence[Path], *, corpus_id: str | None = None, as_json: bool) -> FitReport:
    """Fit the records of some results files and tell of it, on stdout unless that is kept for JSON.

    Raises:
        InputError: a file cannot be read, the records come from several devices, versions of torch or corpora, or
            nothing in them can be fitted.
    """
    loaded = load_one_corpus(results, corpus_id=corpus_id)
    console = stderr_console()
    for note in (*loaded.notes, *note_on_peaks(loaded.records)):
        say(console, note)
    measured = [record for record in loaded.records if not is_of_kind(record, ForecastSpec)]
    where = ", ".join(map(str, results))
    if not measured:
        raise InputError(
            where,
            allowed="these are forecasts, and a fit is to steps that were measured",
            remedy="name a file with compute or training trials; vnbench plan and report take forecasts",
        )
    if num_forecasts := len(loaded.records) - len(measured):
        say(console, f"{count(num_forecasts, 'forecast')} left out: a fit is to steps that were measured")
    report = fit_records(measured, where=where)
    if not as_json:
        stdout_console().print(
            fit_table(report.families, left_out=report.left_out, compositions=report.compositions, origin=report.origin)
        )
    return report


def fit_records(records: Sequence[TrialRecord], *, where: str) -> FitReport:
    """Return the fits of some records, which ``where`` names.

    Raises:
        InputError: as ``run_fit_command``.
    """
    origin = provenance(records)
    if len(origin.torch_versions) > 1:
        raise InputError(
            where,
            f"(torch {', '.join(origin.torch_versions)})",
            allowed="one model holds for one version of torch",
            remedy="give the files of one version at a time",
        )
    families, left_out = fit_families(records)
    if not families:
        reasons = "; ".join(why_unfitted(left_out))
        raise InputError(
            where,
            allowed=f"there is nothing to fit ({reasons or 'no compute or training trial'})",
            remedy=f"measure more sizes {with_command(records, {'kind': 'compute'})}",
        )
    return FitReport(
        families=families,
        left_out=left_out,
        compositions=compose_measured(latest_attempts(records), families=families, loading=summarize_loading(records)),
        origin=origin,
    )


def _as_json(family: FamilyFit) -> dict[str, Any]:
    fit, counted, memory = family.fit, family.step_count, family.memory
    middle = (fit.model.smallest_pixels + fit.model.largest_pixels) / 2
    forecast = fit.forecast([middle])
    band = forecast.interval(CONFIDENCE)
    linearity = linearity_of(family)
    return {
        "family": family.family,
        "spec": family.spec.canonical(),
        "source": family.source,
        "num_sizes": fit.num_sizes,
        "num_processes": fit.num_processes,
        "form": fit.model.form,
        "overhead_s": fit.model.overhead_s,
        "s_per_pixel": fit.model.s_per_pixel,
        "coefficients": list(fit.model.coefficients),
        "hinge_pixels": fit.model.hinge_pixels,
        "smallest_pixels": fit.model.smallest_pixels,
        "largest_pixels": fit.model.largest_pixels,
        "optimizer_s": family.optimizer_s,
        "first_seen_s": family.first_seen_s,
        "bytes_fixed": None if memory is None else memory.bytes_fixed,
        "bytes_per_pixel": None if memory is None else memory.bytes_per_pixel,
        "memory_loo_error_median": None if memory is None else memory.loo_error_median,
        "memory_loo_error_max": None if memory is None else memory.loo_error_max,
        "loo_error_median": fit.loo_error_median,
        "loo_error_max": fit.loo_error_max,
        "loo_errors": [{"padded_pixels": one.padded_pixels, "error": one.error} for one in fit.left_out],
        "size_error": fit.size_error,
        "between": fit.between,
        "is_between_measured": fit.is_between_measured,
        "forecast": None
        if band is None
        else {
            "padded_pixels": middle,
            "step_time_s": forecast.value,
            "low_s": max(0.0, band[0]),
            "high_s": band[1],
            "confidence": CONFIDENCE,
        },
        "bend": {"cause": linearity.cause, "rate_ratio": linearity.rate_ratio, "slope_ratio": linearity.slope_ratio},
        "step_count_model": {
            "s_per_step": counted.model.overhead_s,
            "loo_error_median": counted.loo_error_median,
            "loo_error_max": counted.loo_error_max,
        },
    }
