"""Audit a training loop that can be called: what flows into its steps, and whether the grouping changes it."""

from __future__ import annotations

from vnbench.errors import VnbenchError
from vnbench.loops.history import find_faults
from vnbench.loops.regrouping import MIN_BATCHES, Regrouping, regroup
from vnbench.loops.running import Loop, Run, run_loop
from vnbench.records.audit_reading import AuditReading
from vnbench.records.failures import summary_line
from vnbench.trial.step.network import mixes_examples
from vnbench.units import count

NUMBERS_OF_BATCHES = (11, 37)
"""Batches that a loop is given, and more where it ran too little of them: primes, so that any window leaves a tail."""


class LoopError(VnbenchError):
    """A loop that cannot be audited: what is wrong, and what to do."""

    def __init__(self, problem: str, remedy: str) -> None:
        """Take both."""
        super().__init__(problem)
        self.remedy = remedy


def audit_loop(loop: Loop, *, loop_id: str, batch_size: int) -> AuditReading:
    """Return what is found in a loop. What the loop raises on equal batches passes through.

    Raises:
        LoopError: the loop never steps, or ends early.
    """
    first = _first_run(loop, batch_size=batch_size)
    if mixes_examples(loop.make_network()):
        regrouped = Regrouping(notes=("the scale was not judged: a norm of the network mixes the examples of a pass",))
    else:
        try:
            regrouped = regroup(loop, first)
        except Exception as error:  # it ran on equal batches: others may be none of its business
            note = f"the scale was not judged: with batches of other sizes the loop fails ({summary_line(error)})"
            regrouped = Regrouping(notes=(note,))
    return AuditReading(
        loop_id=loop_id,
        num_batches=len(first.grouping),
        num_passes=len(first.history.passes),
        num_steps=len(first.history.steps),
        contributions=first.history.contributions(),
        findings=(*find_faults(first.history), *regrouped.findings),
        regrouped=regrouped.windows,
        notes=regrouped.notes,
    )


def _first_run(loop: Loop, *, batch_size: int) -> Run:
    """Return a run on equal batches in which the loop stepped, and took as many as it was promised at least."""
    for number in NUMBERS_OF_BATCHES:
        grouping = [tuple(range(batch_size * one, batch_size * (one + 1))) for one in range(number)]
        run = run_loop(loop, grouping)
        if run.history.steps and len(run.history.passes) >= MIN_BATCHES:
            return run
    batches = count(len(run.grouping), "batch")
    if not run.history.steps:
        ran = count(len(run.history.passes), "backward pass")
        raise LoopError(
            f"it never steps: it ran {ran} over {batches}, and no step of a torch optimizer",
            "call optimizer.step() in it, or name the function that does",
        )
    raise LoopError(
        f"it ended early: it ran {count(len(run.history.passes), 'backward pass')} over {batches}, and an audit needs "
        f"{MIN_BATCHES}",
        "let it take all batches that it is given",
    )
