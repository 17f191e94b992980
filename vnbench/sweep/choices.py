"""Settings that a sweep chooses for its machine: precisions, and on a CPU as much work as fits into the time budget.

A processor without bf16 units takes thirty times as long for the same trial, so no fixed design suits every machine.
Only settings that the user left open are chosen, and only once: the results file keeps them, so that the same command
continues with the same trials.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from vnbench.records.probe_reading import ProbeReading, SweepChoices
from vnbench.records.spec.precisions import REDUCED_PRECISIONS
from vnbench.records.spec.words import Precision
from vnbench.request.config import SweepConfig
from vnbench.sweep.design import Design

EQUAL_PACE = 1.1
"""Convolutions whose times differ by at most a tenth count as equally fast; the preferred precision wins."""

RESERVED_SHARE = 0.12
"""Share of the budget kept in reserve: estimates are inexact, and disturbed trials are run again."""


PLANNED_PROCESSES = 2
"""Processes per configuration that must fit into the budget before more images are measured. Processes differ by more
than the steps of one process: two of each of seven configurations give the spread between processes to a third, three
of the centre alone only to a half, and Student's t is 2.3 instead of 4.3."""

MOST_PROCESSES = 4
"""Processes per configuration if the budget has room. The budget is used up, and the same command continues later."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Rung:
    """Amount that one process measures."""

    batches: int
    """Examples of an epoch, in units of the largest batch."""
    max_epochs: int
    """Epochs."""


LADDER = (
    _Rung(batches=1, max_epochs=1),
    _Rung(batches=2, max_epochs=1),
    _Rung(batches=3, max_epochs=1),
    _Rung(batches=3, max_epochs=2),
    _Rung(batches=6, max_epochs=2),
    _Rung(batches=12, max_epochs=2),
    _Rung(batches=12, max_epochs=4),
)
"""Amounts to measure, from the least informative to the most."""


def precisions_to_sweep(probe: ProbeReading) -> tuple[Precision, ...]:
    """Return fp32 and the precisions that are no slower, with the preferred one first."""
    base_s = probe.convolution_s["fp32"]
    worth = [one for one, seconds in probe.convolution_s.items() if one == "fp32" or seconds <= base_s]
    first = preferred_precision({one: probe.convolution_s[one] for one in worth})
    return (first, *(one for one in worth if one != first))


def preferred_precision(convolution_s: Mapping[Precision, float]) -> Precision:
    """Return the first precision whose convolution is as fast as the fastest."""
    fastest_s = min(convolution_s.values())
    return next(one for one, seconds in convolution_s.items() if seconds <= EQUAL_PACE * fastest_s)


def choose(
    config: SweepConfig,
    *,
    precision: tuple[Precision, ...],
    budget_s: float,
    num_train: int,
    design_of: Callable[[SweepConfig], Design],
    takes_s: Callable[[Design], float],
) -> SweepChoices:
    """Return the choices of the highest rung of LADDER whose PLANNED_PROCESSES fit into ``budget_s``, else the lowest.

    An epoch holds at most ``num_train`` training examples.
    """
    largest_batch = max(config.axes["batch_size"])
    most = max(1, num_train // largest_batch)
    found: SweepChoices | None = None
    for rung in LADDER:
        one = SweepChoices(
            precision=precision,
            subset_size=min(rung.batches, most) * largest_batch,
            max_epochs=rung.max_epochs,
            replicates=MOST_PROCESSES,
            reference_runs=MOST_PROCESSES,
            memory_by="step" if "memory_by" in config.asked else "trace",
        )
        planned = replace(one, replicates=PLANNED_PROCESSES, reference_runs=PLANNED_PROCESSES)
        if found is not None and takes_s(design_of(chosen_config(config, planned))) > (1 - RESERVED_SHARE) * budget_s:
            break
        found = one
    assert found is not None
    return found


def chosen_config(config: SweepConfig, choices: SweepChoices) -> SweepConfig:
    """Return the sweep with the choices applied.

    Without a reduced precision, norms have only one precision, so the other is dropped unless the user asked for it.
    """
    axes = {**config.axes, "precision": choices.precision}
    if "norm_precision" not in config.asked and not set(choices.precision) & set(REDUCED_PRECISIONS):
        axes["norm_precision"] = ("fp32",)
    config = replace(config, axes=axes)
    if not config.chooses_size:  # the user's values win over what an earlier command chose
        return config
    return replace(
        config,
        subset_size=choices.subset_size,
        max_epochs=choices.max_epochs,
        replicates=choices.replicates,
        reference_runs=choices.reference_runs,
        memory_by=choices.memory_by,
    )
