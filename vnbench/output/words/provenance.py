"""Where and when records were measured, in words that stand under every table and figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vnbench.errors import InputError
from vnbench.forecast.cards import is_called
from vnbench.records.machine_keys import SPEED_KEYS, Environment, fact_text
from vnbench.records.record import TrialRecord, is_of_kind, of_kind
from vnbench.records.spec.trial_spec import AuditSpec, ForecastSpec
from vnbench.records.spec.words import DeviceType

CPU_LABEL = "CPU figures: they rank levers on this machine, not on a GPU"
"""Stands under every table and figure of CPU records."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """What the records of one device share."""

    device_type: DeviceType | None
    """Where the trials ran; None where there are no records."""
    device_name: str | None
    """Name of the device, as its driver or the operating system gives it; None where no record holds one."""
    torch_versions: tuple[str, ...]
    """Versions of torch, sorted."""
    dates: tuple[str, ...]
    """First and last date (UTC, ISO 8601) of a trial; one where they are equal."""
    is_forecast: bool = False
    """Whether nothing was measured: all records are forecasts."""
    has_forecasts: bool = False
    """Whether some records are forecasts."""

    @property
    def planned_from(self) -> str:
        """What a plan of them rests on."""
        if self.is_forecast:
            return "planned from forecasts: nothing was measured"
        return f"planned from measured trials{' and forecasts' if self.has_forecasts else ''}"

    def parts(self) -> tuple[str, ...]:
        """Return the device, torch and dates as phrases; what is unknown is said to be."""
        device = self.device_name or f"unknown {self.device_type or 'device'}"
        return (
            f"CPU {device}" if self.device_type == "cpu" else device,
            f"torch {' and '.join(self.torch_versions) or 'unknown'}",
            " to ".join(self.dates) or "unknown date",
        )

    def line(self, trials: str) -> str:
        """Return one line of device, torch, dates and ``trials`` (as ``7 trials``)."""
        return ", ".join((*self.parts(), trials))

    @property
    def is_cpu(self) -> bool:
        """Whether CPU_LABEL applies."""
        return self.device_type == "cpu"


def measured_on(environment: Environment, *, date: str) -> Provenance:
    """Return the origin of figures that were measured in one go on the machine that ``environment`` describes."""
    return Provenance(
        device_type=environment["device_type"],
        device_name=str(environment["device_name"]),
        torch_versions=(str(environment["torch_version"]),),
        dates=(date,),
    )


def provenance(records: Sequence[TrialRecord]) -> Provenance:
    """Return what ``records`` share; forecasts for the card that was measured stand beside its trials.

    Raises:
        InputError: they come from more than one device, or from machines that differ in what times depend on; one table
            or figure compares trials of one machine only.
    """
    measured = [record for record in records if not is_of_kind(record, ForecastSpec)]
    told = measured or records
    devices = {(record.spec.device, name) for record in measured if (name := record.environment.get("device_name"))}
    forecasts = of_kind(records, ForecastSpec)
    devices |= {
        ("cuda", forecast_of(card))
        for card in dict.fromkeys(record.spec.card for record in forecasts)
        if not any(is_called(name, card) for _, name in devices)
    }
    types = {record.spec.device for record in records}
    if len(devices) > 1 or len(types) > 1:
        names = sorted(f"{name} ({kind})" for kind, name in devices) or sorted(types)
        raise InputError(
            "RESULTS",
            f"({', '.join(names)})",
            allowed="a table or figure holds the trials of one device",
            remedy="give the files of one device at a time",
        )
    difference = _difference_of_speed(records)
    if difference is not None:
        raise InputError(
            "RESULTS",
            f"({difference})",
            allowed="a table or figure holds times of one machine, used in one way",
            remedy="give the files of one at a time",
        )
    return Provenance(
        device_type=next(iter(types), None),
        device_name=next((str(name) for _, name in devices), None),
        torch_versions=_torch_versions(told),
        dates=_dates(told),
        is_forecast=bool(forecasts) and not measured,
        has_forecasts=bool(forecasts),
    )


def note_on_peaks(records: Sequence[TrialRecord]) -> tuple[str, ...]:
    """Return what to say of peaks that older revisions counted too high; nothing if there are none."""
    held = [record for record in records if record.memory is not None and record.memory.holds_old_gradients]
    if not held:
        return ()
    revisions = sorted({str(record.environment.get("revision") or "unknown") for record in held})
    return (
        f"Peaks of tensors are those of revision {', '.join(revisions)}, whose count also held the gradients of the "
        "step before: they are too high by four bytes per parameter (1.46 MiB for veernet-tiny, 8.66 MiB for veernet), "
        "and so is the fixed part of a memory law.",
    )


def provenance_of_cards(forecasts: Sequence[TrialRecord[ForecastSpec]]) -> Provenance:
    """Return what forecasts share, which may be for several cards."""
    cards = list(dict.fromkeys(record.spec.card for record in forecasts))
    return Provenance(
        device_type="cuda",
        device_name=forecast_of(" and ".join(filter(None, (", ".join(cards[:-1]), cards[-1])))),
        torch_versions=_torch_versions(forecasts),
        dates=_dates(forecasts),
        is_forecast=True,
        has_forecasts=True,
    )


def provenance_of_audits(audits: Sequence[TrialRecord[AuditSpec]]) -> Provenance:
    """Return what audits share, whose machines may differ: they measure no cost."""
    names = {str(name) for record in audits if (name := record.environment.get("device_name"))}
    return Provenance(
        device_type=None,
        device_name=" and ".join(sorted(names)) or None,
        torch_versions=_torch_versions(audits),
        dates=_dates(audits),
    )


def origin_of(records: Sequence[TrialRecord]) -> Provenance:
    """Return what records share, or what forecasts share if there is nothing else.

    Raises:
        InputError: as ``provenance``.
    """
    return provenance_of_cards(of_kind(records, ForecastSpec)) if is_all_forecast(records) else provenance(records)


def is_all_forecast(records: Sequence[TrialRecord]) -> bool:
    """Return whether there are records, and none was measured."""
    return bool(records) and all(is_of_kind(record, ForecastSpec) for record in records)


def forecast_of(cards: str) -> str:
    """Return what stands for the name of a device, where some cards were forecast."""
    return f"{cards} (forecast)"


def _torch_versions(records: Sequence[TrialRecord]) -> tuple[str, ...]:
    return tuple(sorted({str(version) for record in records if (version := record.environment.get("torch_version"))}))


def _dates(records: Sequence[TrialRecord]) -> tuple[str, ...]:
    """Return the first and the last date of some records; one where they are equal."""
    dates = sorted(record.started_at[:10] for record in records)
    return tuple(dict.fromkeys((dates[0], dates[-1]))) if dates else ()


def _difference_of_speed(records: Sequence[TrialRecord]) -> str | None:
    """Return in what the machines of some records differ that their times depend on; None where they are one."""
    environments = [record.environment for record in records if record.spec.kind != "memory"]
    found = {
        key: sorted({fact_text(told) for environment in environments if (told := environment.get(key)) is not None})
        for key in SPEED_KEYS
    }
    return "; ".join(f"{key} {' and '.join(told)}" for key, told in found.items() if len(told) > 1) or None
