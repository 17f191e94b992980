"""What the process that a drill kills is told to do, and the lines in which it says where it is."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

from vnbench.records.spec.trial_spec import ImagesSpec
from vnbench.records.spec.words import SnapshotMode
from vnbench.records.task import TrialTask

Word = Literal["imported", "ready", "begin", "fetched", "loading", "step", "writing", "saved", "probed", "end"]
"""Where the process is: it imported its modules; has a network; goes on from a step; has its first batch; waits for
the batch of a step; ended a step; writes a snapshot after a step; has one on the disk; measured writing and reading of
one; ended, with a digest of all that it trained."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DrillTask:
    """A run that is to be killed, or to end."""

    trial: TrialTask[ImagesSpec]
    """Network, images, batches and precision."""
    num_epochs: int
    """Epochs of the run."""
    folder: str
    """Folder of the snapshots."""
    mode: SnapshotMode
    """How they are written."""
    interval: int | None
    """Optimizer steps between snapshots; None for a run without."""
    probe_at: int | None = None
    """Step after which a snapshot is written and read a few times, to measure it; None for no step."""
    most_bytes: int | None = None
    """Size from which no file can grow, as on a disk that fills up; None without such a limit."""

    def to_json(self) -> str:
        """Return the task as JSON."""
        return json.dumps(asdict(self) | {"trial": self.trial.to_json()})

    @staticmethod
    def from_json(text: str) -> DrillTask:
        """Return the task that ``to_json`` wrote."""
        values = json.loads(text)
        return DrillTask(**(values | {"trial": TrialTask.from_json(values["trial"])}))


@dataclass(frozen=True, kw_only=True, slots=True)
class DrillLine:
    """A line of the process."""

    word: Word
    """Where it is."""
    step: int
    """Optimizer steps that were done by then, over all epochs."""
    at_s: float
    """The system's monotonic clock, in seconds."""
    values: tuple[str, ...] = ()
    """What else it says: seconds of writing, seconds of reading and bytes of a snapshot, or a digest."""

    def to_text(self) -> str:
        """Return the line, without its end."""
        return " ".join((self.word, str(self.step), f"{self.at_s:.6f}", *self.values))

    @staticmethod
    def from_text(text: str) -> DrillLine:
        """Return the line that ``to_text`` wrote.

        Raises:
            ValueError: it is none.
        """
        word, step, at_s, *values = text.split()
        return DrillLine(word=word, step=int(step), at_s=float(at_s), values=tuple(values))  # type: ignore[arg-type]
