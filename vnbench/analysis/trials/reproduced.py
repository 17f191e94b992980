"""Whether processes of one configuration trained to the same weights, to the bit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from vnbench.analysis.trials.summary import by_spec
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import TrainingSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class Reproduced:
    """The processes of one spec that took the same steps."""

    spec: TrainingSpec
    """The spec."""
    num_processes: int
    """Processes whose weights are known after equally many updates."""
    num_equal: int
    """The most of them that have the same weights."""

    @property
    def is_bitwise(self) -> bool:
        """Whether all have the same weights."""
        return self.num_equal == self.num_processes


def reproduced(latest: Iterable[TrialRecord]) -> tuple[Reproduced, ...]:
    """Return what the weights of each spec say that at least two processes trained, in the order of appearance."""
    found = []
    for records in by_spec(latest, TrainingSpec):
        known = [record.weights for record in records if record.weights is not None]
        by_updates = Counter(one.num_updates for one in known)
        for usual, num_processes in by_updates.most_common(1):
            if num_processes > 1:
                num_equal = max(Counter(one.digest for one in known if one.num_updates == usual).values())
                found.append(Reproduced(spec=records[0].spec, num_processes=num_processes, num_equal=num_equal))
    return tuple(found)
