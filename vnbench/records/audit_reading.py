"""Define what an audit of a training loop found, which is a part of its record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vnbench.records.values.strict import Count, Number, Ratio

FindingCode = Literal[
    "never-zeroed",  # a step still holds passes that an earlier step took
    "zeroed-before-step",  # gradients are cleared between a backward pass and its step
    "zeroed-each-pass",  # gradients are cleared before every backward pass of a window
    "dropped-passes",  # no step ever takes some passes
    "stepped-before-backward",  # the step comes before the backward pass
    "stepped-twice",  # two steps for one window
    "clipped-before-unscale",  # gradients are clipped while they are still scaled
    "unheld-parameters",  # no optimizer holds parameters that get gradients
    "no-gradient-exchange",  # ranks step on their own gradients
    "wrong-scale",  # the gradient depends on how the same examples were grouped
]

AuditOutcome = Literal["pass", "broken"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One way in which a loop does not do what it says."""

    code: FindingCode
    """What is wrong, from a closed list."""
    step: Count | None
    """The first optimizer step at which it shows, from 1; None if no step does."""
    passes: tuple[Count, ...]
    """The backward passes that it concerns there, from 1."""
    message: str
    """Cause and remedy, one line."""

    def line(self) -> str:
        """Return it as one line: step, passes, code, cause and remedy."""
        place = ", ".join(
            filter(
                None,
                (
                    f"step {self.step}" if self.step is not None else "no step",
                    passes_told(self.passes) if self.passes else "",
                ),
            )
        )
        return f"{place}: {self.code}: {self.message}"


@dataclass(frozen=True, kw_only=True, slots=True)
class RegroupedWindow:
    """The gradient of one window whose examples were grouped otherwise than those of the first one."""

    step: Count
    """Its step, from 1, in the run with regrouped examples."""
    num_examples: tuple[Count, ...]
    """Examples of each of its batches."""
    error: Ratio
    """Norm of the gradient's difference from that of the first window, over the norm of the latter."""
    ratio: Number
    """Component of the gradient along that of the first window, over the norm of the latter."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditReading:
    """What an audit saw of a loop."""

    loop_id: str
    """Digest of the loop's file and of what it imports from files beside it."""
    num_batches: Count
    """Batches that the loop was given."""
    num_passes: Count
    """Backward passes that it ran."""
    num_steps: Count
    """Optimizer steps that it ran."""
    contributions: tuple[tuple[Number, ...], ...]
    """The contribution matrix: for each step the weight of each pass in its gradient; 0 for a pass not in it."""
    findings: tuple[Finding, ...] = ()
    """What is wrong; empty if nothing was found."""
    regrouped: tuple[RegroupedWindow, ...] = ()
    """Windows of the same examples, regrouped; empty if the loop takes one pass per step, or could not be judged."""
    notes: tuple[str, ...] = ()
    """What was not judged, and why."""

    @property
    def outcome(self) -> AuditOutcome:
        """Whether the loop keeps the contract."""
        return "broken" if self.findings else "pass"


def passes_told(numbers: Sequence[int]) -> str:
    """Return the numbers of passes for people: ``pass 3``, ``passes 1 to 3 and 5``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    told = [f"{run[0]} to {run[-1]}" if len(run) > 2 else " and ".join(map(str, run)) for run in runs]
    parts = told if len(told) < 4 else [*told[:3], f"{len(numbers) - sum(map(len, runs[:3]))} more"]
    joined = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return f"{'pass' if len(numbers) == 1 else 'passes'} {joined}"
