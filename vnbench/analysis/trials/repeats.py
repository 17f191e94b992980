"""Whether runs of one spec computed the same to the bit, and what differs first where they did not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Step = Mapping[str, Any]
"""Of an optimizer step: its loss, and pairs of name and digest of ``outputs``, ``gradients`` and ``weights``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """What differs first between two runs."""

    step: int
    """Optimizer step, from 1."""
    parameter: str | None
    """The first parameter whose gradient differs, or else whose weights do; None where only outputs do."""
    operator: str | None
    """The first module whose output differs; None where the forward passes are equal: it is in the backward pass of
    the parameter's module, or later in its update."""
    losses: tuple[float, float]
    """Losses of that step."""
    run: int
    """Which run differs from the first, from 2."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RepeatReport:
    """What some runs of one spec showed."""

    num_runs: int
    """Runs, each in a process of its own."""
    num_steps: int
    """Optimizer steps of each."""
    first: Difference | None
    """What differs first; None where all is equal to the bit."""
    losses: tuple[float, ...]
    """Loss of the last step of each run."""

    @property
    def exit_code(self) -> int:
        """0, or 1 where the runs differ."""
        return 0 if self.first is None else 1

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "is_bitwise_equal": self.first is None,
            "first_difference": None if self.first is None else asdict(self.first),
            "runs": self.num_runs,
            "steps": self.num_steps,
            "last_losses": list(self.losses),
        }


def compare_runs(runs: Sequence[Sequence[Step]]) -> RepeatReport:
    """Return what differs first between the first of some runs and any other, by step and within one."""
    found = [
        one for number, other in enumerate(runs[1:], start=2) if (one := _first(runs[0], other, run=number)) is not None
    ]
    return RepeatReport(
        num_runs=len(runs),
        num_steps=len(runs[0]),
        first=min(found, key=lambda one: (one.step, one.run), default=None),
        losses=tuple(steps[-1]["loss"] for steps in runs),
    )


def _first(one: Sequence[Step], other: Sequence[Step], *, run: int) -> Difference | None:
    for number, (here, there) in enumerate(zip(one, other, strict=True), start=1):
        operator, gradient, weight = (
            _first_name(here[name], there[name]) for name in ("outputs", "gradients", "weights")
        )
        if (operator, gradient, weight) != (None, None, None) or here["loss"] != there["loss"]:
            return Difference(
                step=number,
                parameter=gradient or weight,
                operator=operator,
                losses=(here["loss"], there["loss"]),
                run=run,
            )
    return None


def _first_name(here: Sequence[Sequence[str]], there: Sequence[Sequence[str]]) -> str | None:
    """Return the first name whose digest differs, or which stands in one of them only."""
    for mine, theirs in zip(here, there, strict=False):
        if list(mine) != list(theirs):
            return str(mine[0])
    longer = max(here, there, key=len)
    return str(longer[min(len(here), len(there))][0]) if len(here) != len(there) else None
