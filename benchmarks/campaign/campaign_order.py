"""The order of a campaign's steps, and the choice of those that fit into a call."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from campaign_steps import Outcome, State, Step

GRACE_S = 20.0
"""Seconds that a step gets to save its records when it runs out of time."""


class MustPassError(Exception):
    """A step that must pass before all others failed, or does not fit into the time."""

    def __init__(self, step: Step, outcome: Outcome | None) -> None:
        super().__init__(step.name)
        self.step = step
        self.outcome = outcome
        """How it ended; None if it was not started."""


def run_steps(
    steps: Sequence[Step],
    state: State,
    *,
    run: Callable[[Step, float], Outcome],
    seconds: float,
    again: Sequence[str] = (),
    goes_on: bool = False,
    keep: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.monotonic,
    tell: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
) -> None:
    """Run the steps that end within ``seconds`` on ``clock``, the most valuable first, and note how each ended.

    ``run`` runs a step for at most the given seconds; ``keep`` is called after each step. If time is left after all
    steps, those that advanced and have more to do run again. Steps named in ``again`` run as if they never had.

    Raises:
        MustPassError: a step that must pass before all others failed, or does not fit.
    """
    deadline = clock() + seconds
    outcomes = {step.name: None if step.name in again else state.of(step.name) for step in steps}
    waiting = [step for step in steps if is_due(step, outcomes[step.name])]
    while waiting:
        ran = []
        for step in in_order(waiting, outcomes, goes_on=goes_on):
            must_pass = step.must_pass and not goes_on
            last = outcomes[step.name]
            left_s = deadline - clock() - GRACE_S
            if left_s < 60 * step.least_minutes:
                if must_pass and (last is None or is_faulty(last)):
                    raise MustPassError(step, None)
                tell(f"{step.name}: left for another time")
                continue
            limit_s = min(60 * step.minutes, left_s)
            tell(f"{step.name}: at most {limit_s:.0f} s")
            outcome = state.note(step.name, run(step, limit_s))
            keep()
            tell(f"{step.name}: {outcome}")
            if must_pass and is_faulty(outcome):
                raise MustPassError(step, outcome)
            ran.append(step)
        outcomes = {step.name: state.of(step.name) for step in ran}
        waiting = [step for step in ran if goes_further(outcomes[step.name])]


def is_due(step: Step, last: Outcome | None) -> bool:
    """Return whether a step still has to run."""
    return last is None or not last.is_done or (step.must_pass and is_faulty(last))


def is_faulty(outcome: Outcome) -> bool:
    """Return whether a step ended in a way that is not allowed for a step that must pass."""
    return bool(outcome.faults) or outcome.is_cut_short


def goes_further(last: Outcome | None) -> bool:
    """Return whether another run would advance a step."""
    return last is not None and not last.is_done and not last.exit_code and last.has_advanced


def in_order(steps: Iterable[Step], outcomes: Mapping[str, Outcome | None], *, goes_on: bool = False) -> list[Step]:
    """Return steps in the order in which a call runs them; ``outcomes`` holds their last outcomes by name.

    Steps that must pass and have not come first, unless the campaign ``goes_on`` without them. Then the priority
    decides. Within a priority, steps that never ran come first, in the order of the definition, then those that
    advanced in their last run, the one that has waited longest first. Steps that failed, or ran out of time without
    advancing, come last of all: they may do so again.
    """

    def key(step: Step) -> tuple[int, int, int, int]:
        last = outcomes.get(step.name)
        if step.must_pass and not goes_on and is_due(step, last):
            return 0, 0, 0, 0
        if last is None:
            return 1, step.priority, 0, 0
        is_stuck = bool(last.exit_code) or not last.has_advanced
        return (2, step.priority, 0, last.turn) if is_stuck and not last.is_done else (1, step.priority, 1, last.turn)

    return sorted(steps, key=key)
