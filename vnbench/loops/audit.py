"""Watch a training loop through hooks: which backward passes flow into which optimizer step, and what is wrong.

::

    with vnbench.loops.audit.watch(optimizer, steps=20) as watched:
        train()
    assert not watched.findings

No reference run is needed. torch has no hook for clipping and unscaling, so two functions of it are wrapped while the
loop is watched. Every gradient is looked at in every pass: audit a loop, do not time it.
"""

from __future__ import annotations

from types import TracebackType

from torch.optim import Optimizer

from vnbench.errors import InputError
from vnbench.loops.history import History, find_faults
from vnbench.loops.recorder import Recorder
from vnbench.records.audit_reading import Finding

DEFAULT_STEPS = 20
"""Steps that are watched: a few epochs' ends of a short loop, a second of a long one."""


def watch(*optimizers: Optimizer, steps: int = DEFAULT_STEPS) -> Watched:
    """Return a context in which a loop is watched for some optimizer steps, in any process that trains.

    Name the optimizers of the loop; others that step meanwhile are judged too.

    Raises:
        InputError: there is no optimizer, or something else than one, or no step to watch.
    """
    if not optimizers:
        raise InputError("watch", allowed="it needs an optimizer", remedy="write watch(optimizer)")
    for one in optimizers:
        if not isinstance(one, Optimizer):
            raise InputError(
                "watch", type(one).__name__, allowed="this is no torch.optim.Optimizer", remedy="write watch(optimizer)"
            )
    if steps < 1:
        raise InputError("watch", f"steps={steps}", allowed="it needs a step", remedy="write steps=20")
    return Watched(Recorder(optimizers, max_steps=steps))


class Watched:
    """A loop that is watched while the context lasts, for at most the steps that were asked for."""

    def __init__(self, recorder: Recorder) -> None:
        """Take what records the loop."""
        self._recorder = recorder

    def __enter__(self) -> Watched:
        self._recorder.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop watching.

        Raises:
            InputError: no step ran, and nothing else failed.
        """
        self.end(has_failed=error is not None)
        if error is None and not self.num_steps:
            raise InputError(
                "watch",
                allowed="no optimizer stepped while it watched",
                remedy="put the loop inside of the with block, and give it a batch",
            )

    def end(self, *, has_failed: bool = False) -> None:
        """Stop watching; what a loop that failed left unfinished is not held against it."""
        self._recorder.stop(has_failed=has_failed)

    @property
    def history(self) -> History:
        """What was seen."""
        return self._recorder.history()

    @property
    def num_steps(self) -> int:
        """Optimizer steps that were seen."""
        return len(self._recorder.steps)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is wrong, in the order of steps; empty if nothing was found."""
        return find_faults(self.history)

    @property
    def contributions(self) -> tuple[tuple[float, ...], ...]:
        """The contribution matrix: for each step the weight of each pass in its gradient."""
        return self.history.contributions()
