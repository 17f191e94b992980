"""Define the task that a trial's process receives."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Generic

from vnbench.records.spec.trial_spec import Spec, TrialSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialTask(Generic[Spec]):
    """One execution of a spec, with the folder of its image files. Only the spec determines what is measured."""

    spec: Spec
    """What to measure."""
    replicate: int
    """Repetition of the spec, from 0."""
    attempt: int
    """Attempt at this repetition, from 0."""
    corpus_directory: str | None
    """Folder of the image files; None for a kind that reads no image files."""
    worker_timeout_s: float = 120.0
    """Seconds without a batch after which a loader worker counts as hung."""

    def to_json(self) -> str:
        """Return the task as JSON, without spec fields at their defaults, so that older versions can read it."""
        return json.dumps(asdict(self) | {"spec": self.spec.canonical()})

    @staticmethod
    def from_json(text: str) -> TrialTask:
        """Return the task that ``to_json`` wrote."""
        values = json.loads(text)
        return TrialTask(**(values | {"spec": TrialSpec.from_dict(values["spec"])}))
