"""Whether processes of one configuration trained to the same weights, to the bit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import TrialSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class Reproduced:
    """The processes of one spec that took the same steps."""

    spec: TrialSpec
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
    by_spec: dict[str, list[TrialRecord]] = {}
    for record in latest:
        if record.weights is not None:
            by_spec.setdefault(record.spec_id, []).append(record)
    found = []
    for records in by_spec.values():
        steps = Counter(record.weights.num_updates for record in records if record.weights is not None)
        usual, num_processes = steps.most_common(1)[0]
        digests = Counter(one.weights.digest for one in records if one.weights and one.weights.num_updates == usual)
        if num_processes > 1:
            spec = records[0].spec
            found.append(Reproduced(spec=spec, num_processes=num_processes, num_equal=max(digests.values())))
    return tuple(found)
