"""How far a search for the largest micro-batch is, on stderr, one line per probe."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from vnbench.analysis.models.max_batch import probes_left, result
from vnbench.output.console import say
from vnbench.output.progress import describe_outcome, describe_trial
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import MemorySpec, TrialSpec
from vnbench.units import count, format_duration


class SearchProgress:
    """Tells of each probe as it starts and ends, and about how long its configuration still takes."""

    def __init__(self, *, num_configurations: int, most: int, console: Console) -> None:
        self._num_configurations = num_configurations
        self._most = most
        self._console = console
        self._seen: list[str] = []
        self._last_s: float | None = None

    def started(self, spec: TrialSpec, records: Sequence[TrialRecord[MemorySpec]]) -> None:
        """Take note that a probe starts, after those of ``records``."""
        if spec.lever_key not in self._seen:
            self._seen.append(spec.lever_key)
            self._last_s = None
        found = result(records)
        above = found.blocker.spec.micro_batch_size if found.blocker else None
        known = f"{found.largest} fits" + (f", {above} does not" if above else "")
        num_left = probes_left(records, most=self._most)
        left = "" if self._last_s is None else f", about {format_duration(num_left * self._last_s)}"
        place = f"[configuration {len(self._seen)}/{self._num_configurations}]"
        say(self._console, f"{place} {describe_trial(spec)} ({known}; {count(num_left, 'probe')} left{left})")

    def finished(self, record: TrialRecord) -> None:
        """Take note of how a probe ended."""
        self._last_s = record.elapsed_s
        outcome = f"{record.status}, {record.cause.kind}" if record.cause else describe_outcome(record)
        say(self._console, f"    {outcome}")
