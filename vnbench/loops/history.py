"""What was seen of a loop, pass by pass and step by step, and what is wrong with it: no torch is needed to judge it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from vnbench.records.audit_reading import Finding, passes_told
from vnbench.units import count


@dataclass(frozen=True, slots=True)
class Moment:
    """Where in the loop something was noticed: before a pass, before a step, or at the end."""

    kind: Literal["pass", "step", "end"]
    """What came next."""
    number: int = 0
    """Number of that pass or step, from 1; 0 at the end."""


@dataclass(kw_only=True, slots=True)
class PassSeen:
    """One backward pass."""

    number: int
    """Its number, from 1."""
    has_gradient: bool = False
    """Whether its gradient is anything but zero: a pass without one, as on padding alone, cannot be lost."""
    is_finite: bool = True
    """Whether its gradient is; a gradient scaler drops one that is not."""
    optimizers: set[int] = field(default_factory=set)
    """Optimizers, by number, that hold a parameter which it reaches; known once an optimizer has stepped."""
    cleared: Moment | None = None
    """Where its gradient was first found cleared; None if it never was."""
    is_used_by_hand: bool = False
    """Whether the parameters changed outside of a step before its gradient was cleared."""
    inside_step: int | None = None
    """Number of the step within which it ran, as a closure does; None outside of one."""
    is_exchanging: bool = False
    """Whether it came through a DistributedDataParallel that exchanges gradients."""
    skips_exchange: bool = False
    """Whether it came around a DistributedDataParallel, or through one that does not exchange."""


@dataclass(kw_only=True, slots=True)
class StepSeen:
    """One optimizer step."""

    number: int
    """Its number, from 1, over all optimizers."""
    optimizer: int
    """Number of its optimizer."""
    last_pass: int
    """Number of the last pass that ran before it or within it; 0 for none."""
    weights: Mapping[int, float] = field(default_factory=dict)
    """Weight of each pass in its gradient; passes without a part in it are left out."""
    has_other_gradient: bool = False
    """Whether it has a gradient that no pass which was seen gave."""
    is_scaled_after_clipping: bool = False
    """Whether its gradient was scaled after it was clipped."""


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """What was seen of a loop."""

    passes: Sequence[PassSeen]
    """The backward passes, in order."""
    steps: Sequence[StepSeen]
    """The optimizer steps, in order."""
    unheld: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Parameters that no optimizer holds, by name, and the passes that reach them."""
    is_cut_off: bool = False
    """Whether the loop went on, or failed, after the last thing that was seen: what is pending is not lost then."""

    def contributions(self) -> tuple[tuple[float, ...], ...]:
        """Return the contribution matrix, a row for each step and a column for each pass, to six digits."""
        return tuple(
            tuple(float(f"{step.weights.get(one.number, 0.0):.6g}") for one in self.passes) for step in self.steps
        )


@dataclass(frozen=True, slots=True)
class _Window:
    """A step with the passes that reach its optimizer's parameters, since the optimizer's step before it."""

    step: StepSeen
    before: StepSeen | None
    passes: tuple[PassSeen, ...]

    @property
    def is_empty(self) -> bool:
        """Whether the step has no gradient."""
        return not self.step.weights and not self.step.has_other_gradient


def find_faults(history: History) -> tuple[Finding, ...]:
    """Return what is wrong with a loop: one finding for each cause, at the first step that shows it."""
    taken = _taken(history)
    found: list[Finding] = []
    explained: set[int] = set()
    for optimizer in sorted({step.optimizer for step in history.steps}):
        for one in _of_optimizer(_windows(history, optimizer), history, taken):
            found.append(one)
            if one.code in EXPLAINING:
                explained.update(one.passes)
    found += _dropped(history, taken | explained)
    found += _unheld(history)
    first: dict[str, Finding] = {}
    for one in found:
        first.setdefault(one.code, one)
    return tuple(sorted(first.values(), key=lambda one: (one.step is None, one.step or 0)))


EXPLAINING = ("zeroed-before-step", "zeroed-each-pass", "stepped-before-backward")
"""Findings that say why no step takes their passes."""


def _taken(history: History) -> set[int]:
    """Return the passes that a step takes, or need not take: a gradient scaler drops one that is not finite."""
    taken = {number for step in history.steps for number in step.weights}
    spoiled = {one.cleared for one in history.passes if not one.is_finite and one.cleared is not None}
    # A closure's passes belong to its step, unless that ended with no gradient; one that was cut off has not ended.
    ended = history.steps[:-1] if history.is_cut_off else history.steps
    empty = {step.number for step in ended if not step.weights and not step.has_other_gradient}
    return taken | {
        one.number
        for one in history.passes
        if (one.inside_step is not None and one.inside_step not in empty)
        or one.is_used_by_hand
        or not (one.has_gradient and one.is_finite)
        or one.cleared in spoiled
    }


def _windows(history: History, optimizer: int) -> list[_Window]:
    windows: list[_Window] = []
    for step in history.steps:
        if step.optimizer == optimizer:
            before = windows[-1].step if windows else None
            start = 0 if before is None else before.last_pass
            passes = tuple(one for one in history.passes[start : step.last_pass] if optimizer in one.optimizers)
            windows.append(_Window(step, before, passes))
    return windows


def _of_optimizer(windows: Sequence[_Window], history: History, taken: Collection[int]) -> Iterator[Finding]:
    """Yield what is wrong with the steps of one optimizer; of a cause at several steps, all of them."""
    late = _late_passes(windows, history, taken)
    if late:
        yield Finding(
            code="stepped-before-backward",
            step=windows[0].step.number,
            passes=late,
            message="the optimizer steps before the backward pass, so the first step has no gradient and what follows "
            "is lost or a step late; call loss.backward() before optimizer.step()",
        )
    consumed: set[int] = set()
    for window in windows:
        lost = tuple(one.number for one in window.passes if one.number not in taken)
        old = tuple(number for number in window.step.weights if number in consumed)
        if not window.passes:
            if window.before is not None and consumed:
                yield _stepped_twice(window)
        elif window.is_empty and lost and not late:
            yield Finding(
                code="zeroed-before-step",
                step=window.step.number,
                passes=lost,
                message="the gradients are cleared after the backward pass and before the step, which finds none; "
                "call zero_grad() after optimizer.step(), or before the first backward pass of the window",
            )
        elif not late and _is_cleared_each_time(window, lost):
            yield Finding(
                code="zeroed-each-pass",
                step=window.step.number,
                passes=lost,
                message=f"the gradients are cleared before each backward pass, so the step takes only the last of "
                f"{count(len(window.passes), 'pass')}; call zero_grad() once in a window, after the step",
            )
        if old and window.passes:
            yield Finding(
                code="never-zeroed",
                step=window.step.number,
                passes=old,
                message=f"the step still holds the gradients of {passes_told(old)}, which an earlier step took; call "
                "optimizer.zero_grad() after every step",
            )
        if window.step.is_scaled_after_clipping:
            yield Finding(
                code="clipped-before-unscale",
                step=window.step.number,
                passes=tuple(window.step.weights),
                message="the gradients are clipped while they hold the loss scale, and unscaled later, so the step is "
                "far smaller than the limit; call scaler.unscale_(optimizer) before clipping",
            )
        if _is_unexchanged(window, history):
            yield Finding(
                code="no-gradient-exchange",
                step=window.step.number,
                passes=tuple(window.step.weights),
                message="the passes go around DistributedDataParallel, so each rank steps on its own gradients; call "
                "the wrapper instead of the module in it, and leave no_sync() for the last pass of a window",
            )
        consumed.update(window.step.weights)
        consumed.update(one.number for one in window.passes if one.inside_step is not None)


def _late_passes(windows: Sequence[_Window], history: History, taken: Collection[int]) -> tuple[int, ...]:
    """Return the passes that a step before them should have taken; empty where the first step has a gradient."""
    first = windows[0]
    if first.passes or not first.is_empty or history.is_cut_off:
        return ()
    optimizer = first.step.optimizer
    return tuple(one.number for one in history.passes if optimizer in one.optimizers and one.number not in taken)


def _stepped_twice(window: _Window) -> Finding:
    assert window.before is not None
    return Finding(
        code="stepped-twice",
        step=window.step.number,
        passes=tuple(window.step.weights or window.before.weights),
        message=f"no backward pass ran since step {window.before.number} of this optimizer, so the same window is "
        "stepped on twice; call optimizer.step() once after the backward passes of a window",
    )


def _is_cleared_each_time(window: _Window, lost: Sequence[int]) -> bool:
    """Return whether each pass of a window but the last was cleared before the pass after it.

    Lightning's automatic optimization runs the last pass of a window inside the step.
    """
    passes = [one for one in window.passes if one.inside_step is None]
    passes += [one for one in window.passes if one.inside_step == window.step.number][: len(passes[:1])]
    if len(passes) < 2 or lost != tuple(one.number for one in passes[:-1]):
        return False
    return all(one.cleared == Moment("pass", after.number) for one, after in pairwise(passes))


def _is_unexchanged(window: _Window, history: History) -> bool:
    passes = [history.passes[number - 1] for number in window.step.weights]
    return any(one.skips_exchange for one in passes) and not any(one.is_exchanging for one in passes)


def _dropped(history: History, known: Collection[int]) -> Iterator[Finding]:
    """Yield the passes that no step takes and nothing else explains."""
    lost = [one for one in history.passes if one.optimizers and one.number not in known]
    if history.is_cut_off:
        lost = [one for one in lost if one.cleared is not None]
    if not lost:
        return
    step = next((step for step in history.steps if step.last_pass >= lost[0].number), None)
    ends = "the loop ended" if step is None else "their gradients were cleared"
    yield Finding(
        code="dropped-passes",
        step=None if step is None else step.number,
        passes=tuple(one.number for one in lost),
        message=f"no step takes {passes_told([one.number for one in lost])}: {ends} before a step; step at the end of "
        "an epoch too, and divide the loss by what that window holds",
    )


def _unheld(history: History) -> Iterator[Finding]:
    if not history.unheld:
        return
    names = list(history.unheld)
    told = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    passes = tuple(sorted({number for numbers in history.unheld.values() for number in numbers}))
    step = next((step.number for step in history.steps if step.last_pass >= passes[0]), None)
    yield Finding(
        code="unheld-parameters",
        step=step,
        passes=passes,
        message=f"no optimizer steps on {told}, though gradients reach them; make the optimizer after the last change "
        "of the network, or freeze them with requires_grad_(False)",
    )
