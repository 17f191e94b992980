"""How far a search for the largest micro-batch is, on stderr, one line per probe."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from vnbench.analysis.models.max_batch import probes_left, result
from vnbench.output.console import say
from vnbench.output.progress import ANNOUNCED_S, describe_outcome, describe_trial
from vnbench.records.record import TrialRecord, of_kind
from vnbench.records.spec.trial_spec import MemorySpec, TrialSpec
from vnbench.units import count, format_duration


class SearchProgress:
    """Tells of each probe as it ends: what is known then, and about how long its configuration still takes."""

    def __init__(self, *, num_configurations: int, most: int, console: Console) -> None:
        self._num_configurations = num_configurations
        self._most = most
        self._console = console
        self._seen: list[str] = []
        self._before: tuple[TrialRecord[MemorySpec], ...] = ()

    def started(self, spec: TrialSpec, records: Sequence[TrialRecord[MemorySpec]]) -> None:
        """Take note that a probe starts, after those of ``records``."""
        if spec.lever_key not in self._seen:
            self._seen.append(spec.lever_key)
        self._before = tuple(records)
        last_s = records[-1].elapsed_s if records else 0.0
        if last_s >= ANNOUNCED_S:
            say(self._console, f"{describe_trial(spec)}: the probe before it took {format_duration(last_s)}")

    def finished(self, record: TrialRecord) -> None:
        """Take note of how a probe ended."""
        outcome = f"{record.status}, {record.cause.kind}" if record.cause else describe_outcome(record)
        place = f"[{len(self._seen)}/{self._num_configurations}]"
        say(self._console, f"{place} {describe_trial(record.spec)}: {outcome} ({self._known(record)})")

    def _known(self, record: TrialRecord) -> str:
        """Return what the probes of a configuration tell with the one that has ended."""
        records = (*self._before, *of_kind([record], MemorySpec))
        found = result(records)
        above = f", {found.blocker.spec.micro_batch_size} does not" if found.blocker else ""
        fits = f"{found.largest} fits{above}" if found.largest else "nothing fits yet"
        num_left = probes_left(records, most=self._most)
        if not num_left:
            return f"{fits}: done" if found.largest else "not one image fits"
        left_s = num_left * record.elapsed_s
        return f"{fits}; about {count(num_left, 'more probe')}, {format_duration(left_s)}"
