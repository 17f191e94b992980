"""What a gate in turn would measure, told before it does."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vnbench.analysis.comparison.blocks import PairedSpec
from vnbench.analysis.comparison.sequential import MIN_BLOCKS
from vnbench.output.progress import describe_trial
from vnbench.sweep.estimate import TrialTimes
from vnbench.units import count, format_duration


@dataclass(frozen=True, kw_only=True, slots=True)
class DryRun:
    """What a gate in turn would measure, and with what."""

    sides: tuple[str, str]
    """What baseline and candidate are called."""
    pythons: tuple[Path, Path]
    """The interpreter of each side."""
    notes: tuple[str, ...]
    """What would be made or installed, and what there is to know of the images."""
    definition: str
    """Where it is said what is measured."""
    specs: tuple[PairedSpec, ...]
    """The configurations."""
    has_times: bool
    """Whether times are compared."""
    corpus: str
    """The images in one line."""
    times: TrialTimes
    """Estimates of how long trials take."""
    is_known: bool
    """Whether the estimates rest on trials of these images on this machine."""
    time_cap_s: float
    """No pair of trials begins after so many seconds."""
    out: Path
    """Folder of the records."""

    @property
    def later(self) -> tuple[PairedSpec, ...]:
        """The configurations of every block after the first."""
        return tuple(one for one in self.specs if self.has_times and one.is_timed)

    def block_s(self, specs: Collection[PairedSpec]) -> float:
        """Return the estimated seconds of a block of some configurations."""
        return self.times.total(spec for one in specs for spec in one.sides)

    def lines(self) -> Iterator[str]:
        """Yield what there is to tell, line by line."""
        yield from (f"{name}: {told}" for name, told in zip(("baseline", "candidate"), self.sides, strict=True))
        there, here = self.pythons
        yield f"interpreter: {here}" + ("" if there == here else f"; of the baseline {there}")
        yield from self.notes
        yield f"images: {self.corpus}"
        yield f"measured on each side: {self.definition}"
        yield from (f"    {describe_trial(one.candidate)}" for one in self.specs)
        yield f"block 1: {self._told(self.specs)}"
        if self.later:
            yield f"each further block: {self._told(self.later)}"
        yield (
            "these times are those of earlier gates here"
            if self.is_known
            else "these times are a rough guess, because no gate has measured these images here yet"
        )
        yield f"it ends as soon as it is decided, {self._ends()}"
        yield f"records: {self.out}"

    def _ends(self) -> str:
        cap = f"after --time-cap ({format_duration(self.time_cap_s)}) at the latest"
        return f"after block {MIN_BLOCKS} at the earliest and {cap}" if self.later else cap

    def _told(self, specs: Sequence[PairedSpec]) -> str:
        trials, configurations = count(2 * len(specs), "trial"), count(len(specs), "configuration")
        return f"{trials}, {configurations} a side, about {format_duration(max(1.0, self.block_s(specs)))}"

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "baseline": self.sides[0],
            "candidate": self.sides[1],
            "pythons": [str(python) for python in self.pythons],
            "notes": list(self.notes),
            "images": self.corpus,
            "definition": self.definition,
            "configurations": [describe_trial(one.candidate) for one in self.specs],
            "first_block_s": self.block_s(self.specs),
            "further_block_s": self.block_s(self.later),
            "is_guess": not self.is_known,
            "time_cap_s": self.time_cap_s,
            "out": str(self.out),
        }
