"""Compare the training trials of a sweep with each other, on the same examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vnbench.analysis.comparison.lever_differences import centre_among, is_comparable
from vnbench.analysis.comparison.paired import Side, SweepNoise, compare_speed, sweep_noise
from vnbench.analysis.statistics.ratio import Ratio
from vnbench.analysis.trials.noise import Noise
from vnbench.analysis.trials.steps_seen import seen_process
from vnbench.analysis.trials.summary import by_spec
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import TrainingSpec, TrialSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class SideBySide:
    """The timed configurations of a sweep, ready to be compared."""

    sides: Mapping[TrialSpec, Side]
    """Processes with valid times of every training spec."""
    noise: SweepNoise
    """The noise of all of them, from repetitions."""
    centre: TrialSpec | None
    """The configuration that the others are compared with; None without valid times."""

    def speed(self, spec: TrialSpec, over: TrialSpec) -> Ratio | None:
        """Return the valid pixels per second of a spec over those of another; None if they are not comparable."""
        if spec == over or not {spec, over} <= self.sides.keys() or not is_comparable(spec, over):
            return None
        return compare_speed(self.sides[spec], self.sides[over], noise=self.noise)

    def to_centre(self, spec: TrialSpec) -> Ratio | None:
        """Return the valid pixels per second of a spec over the centre's; None for the centre or if not comparable."""
        return None if self.centre is None else self.speed(spec, self.centre)


def side_by_side(latest: Sequence[TrialRecord], *, noise: Noise, centre: TrialSpec | None = None) -> SideBySide:
    """Return the training trials of one machine, ready to be compared.

    ``latest`` must hold only the last attempt at each trial (summary.latest_attempts); ``noise`` is their noise. If
    ``centre`` is None or has no valid times, the centre is found from the trials.
    """
    sides: dict[TrialSpec, Side] = {}
    for records in by_spec(latest, TrainingSpec):
        seen = tuple(one for record in records if (one := seen_process(record)) is not None)
        if seen:
            sides[records[0].spec] = Side(processes=seen)
    if centre not in sides:
        counts = [len(side.processes) for side in sides.values()]
        centre = centre_among(list(sides), num_processes=counts)
    return SideBySide(
        sides=sides,
        noise=sweep_noise(list(sides.values()), borrowed=noise.spread_for("training")),
        centre=centre,
    )
