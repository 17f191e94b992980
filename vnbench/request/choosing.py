"""Which values of a sweep are chosen for the machine at hand, because nobody asked for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vnbench.records.spec.axes import AXES
from vnbench.records.spec.precisions import preferred_first
from vnbench.records.spec.words import DeviceType, Precision
from vnbench.request.reading import Request

SETTLING = {
    "subset",
    "max-epochs",
    "replicates",
    "reference-runs",
    "kind",
    "soak",
    "snapshot-mode",
    "snapshot-target",
    "warm-up-steps",
    "noise-target",
    "min-steps",
    "max-steps",
    "measuring-time",
}
"""Options that say how much is measured: where one of them is given, nothing is chosen."""


def default_precisions(precisions: Sequence[Precision], environment: Mapping[str, Any]) -> tuple[Precision, ...]:
    """Return those of the default precisions that a GPU has units for, the one that is expected to be fastest first.

    A CPU is timed in all of them: what its flags say is no measure of it.
    """
    native = environment.get("native_precisions")
    if native is None or environment["device_type"] == "cpu":
        return tuple(precisions)
    return preferred_first(one for one in precisions if one in native)


def precisions_without_units(swept: Sequence[Precision], *, device: DeviceType) -> tuple[str, ...]:
    """Return those of the device's default precisions that ``default_precisions`` left out."""
    return tuple(one for one in AXES["precision"].swept_on(device).split(",") if one not in swept)


def chooses_precision(request: Request, values: Mapping[str, Any]) -> bool:
    """Return whether the precision axis is chosen by what the machine computes fast. ``values`` are over defaults."""
    is_asked = bool(request.values.keys() & {"precision", "center"})
    return not request.is_from_file and not is_asked and not values.get("find-max-batch", False)


def chooses_size(request: Request, values: Mapping[str, Any], *, device: DeviceType) -> bool:
    """Return whether examples, epochs and processes are chosen so that the sweep fits its time budget.

    A definition in a file is the same everywhere, and a GPU takes the defaults in minutes.
    """
    return (
        device == "cpu"
        and "time-budget" in values
        and values["design"] == "one-at-a-time"
        and not request.is_from_file
        and not request.values.keys() & SETTLING
        and not values.get("find-max-batch", False)
    )
