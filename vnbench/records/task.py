"""What a trial's process is told."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Generic

from vnbench.records.spec.trial_spec import Spec, TrialSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialTask(Generic[Spec]):
    """One execution of a spec, and where its image files lie. Only the spec is part of what is measured."""

    spec: Spec
    """What to measure."""
    replicate: int
    """Which repetition of the spec, from 0."""
    attempt: int
    """Which try at this repetition, from 0."""
    corpus_directory: str | None
    """Folder of the image files; None for a kind that reads none."""
    worker_timeout_s: float = 120.0
    """Silence after which a loader worker is taken to hang."""

    def to_json(self) -> str:
        """Return the task as JSON, fields of its spec at their defaults left out, so that older versions read it."""
        return json.dumps(asdict(self) | {"spec": self.spec.canonical()})

    @staticmethod
    def from_json(text: str) -> TrialTask:
        """Return the task that ``to_json`` wrote."""
        values = json.loads(text)
        return TrialTask(**(values | {"spec": TrialSpec.from_dict(values["spec"])}))
