"""Disturbances of a trial found in its telemetry: a shared GPU, lowered clocks, busy cores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vnbench.measure.host import busy_threshold
from vnbench.measure.nvml import POWER_CAP, SLOWDOWNS
from vnbench.records.machine_keys import DeviceTelemetry, HostTelemetry, Telemetry
from vnbench.records.record import TrialRecord, TrialWarning
from vnbench.records.spec.words import TrialKind
from vnbench.units import count, format_percent

LOW_CLOCK_RATIO = 0.75
"""Mean SM clock relative to the card's maximum below which the software power cap counts as throttling; nvbench's
threshold. Above it, the cap is normal for a datacentre card at full load and equal in every run."""


def find_disturbances(telemetry: Telemetry, *, kind: TrialKind) -> tuple[TrialWarning, ...]:
    """Return a warning for each disturbance of a trial, with codes of record.DISTURBANCES.

    Memory does not depend on clocks or load: only other processes on its GPU disturb a ``memory`` trial.
    """
    device, host = telemetry.get("device") or {}, telemetry.get("host") or {}
    found = [*_shared(device)]
    if kind != "memory":
        found += [*_throttled(device), *_busy(host)]
    return tuple(found)


def is_disturbed(record: TrialRecord) -> bool:
    """Return whether a finished trial was disturbed from outside, so that another try may succeed."""
    return record.status == "ok" and bool(record.disturbances)


def _shared(device: DeviceTelemetry) -> Iterator[TrialWarning]:
    num_processes = device.get("num_processes")
    if num_processes is None or num_processes["max"] <= 1:
        return
    num_others = num_processes["max"] - 1
    yield TrialWarning(
        code="device-shared",
        message=(
            f"{count(round(num_others), 'other process')} on the GPU during the trial: times and free memory are not "
            "its own; end what nvidia-smi lists, or choose another GPU with CUDA_VISIBLE_DEVICES"
        ),
        figures={"num_other_processes": float(num_others)},
    )


def _throttled(device: DeviceTelemetry) -> Iterator[TrialWarning]:
    shares: Mapping[str, float] = device.get("throttle_shares") or {}
    clock_mhz, max_clock_mhz = device.get("sm_clock_mhz"), device.get("max_sm_clock_mhz")
    ratio = clock_mhz["mean"] / max_clock_mhz if clock_mhz and max_clock_mhz else None
    is_capped = POWER_CAP in shares and ratio is not None and ratio < LOW_CLOCK_RATIO
    reasons = [name for name in shares if name in SLOWDOWNS or is_capped]
    if not reasons:
        return
    told = ", ".join(f"{name} in {format_percent(shares[name])} of the readings" for name in reasons)
    figures = {"share_of_readings": max(shares[name] for name in reasons)}
    clock = ""
    if ratio is not None and clock_mhz is not None:
        figures |= {"sm_clock_mhz": float(clock_mhz["mean"]), "max_sm_clock_mhz": float(max_clock_mhz or 0.0)}
        clock = f"; the SM clock was {clock_mhz['mean']:.0f} MHz on average, of {max_clock_mhz:.0f}"
    slowed = any(name in SLOWDOWNS for name in reasons)
    remedy = "let the card cool and look at its fans and power supply" if slowed else "raise its power limit"
    yield TrialWarning(
        code="throttled",
        message=f"the GPU lowered its clocks: {told}{clock}; {remedy} (see vnbench env)",
        figures=figures,
    )


def _busy(host: HostTelemetry) -> Iterator[TrialWarning]:
    other, stolen, num_cpus = host.get("other_busy_cores"), host.get("stolen_cores"), host.get("num_cpus")
    if other is None or stolen is None or num_cpus is None:
        return
    threshold = busy_threshold(num_cpus)
    if other + stolen < threshold:
        return
    guests = f", other guests of this machine {stolen:.2f}" if stolen >= 0.01 else ""
    yield TrialWarning(
        code="busy-cores",
        message=(
            f"other programs used {other:.2f}{guests} of {num_cpus} CPU cores while the trial measured: "
            "end them (top lists them), or measure when they are done"
        ),
        figures={
            "other_busy_cores": float(other),
            "stolen_cores": float(stolen),
            "num_cpus": float(num_cpus),
            "threshold_cores": threshold,
        },
    )
