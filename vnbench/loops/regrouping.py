"""Give a loop the same examples in other groups: a gradient that depends on the grouping has a wrong scale.

The weights of the passes cannot show it, because what a loss is divided by is part of the pass. So the loop runs again,
with weights that its steps leave alone, on windows of the same examples in batches of other sizes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from vnbench.loops.running import Grouping, Loop, Run, run_loop
from vnbench.records.audit_reading import Finding, RegroupedWindow

MIN_BATCHES = 8
"""Fewest batches that a loop is promised."""

TOLERANCE = 1e-3
"""Largest relative difference of gradients that counts as rounding: in fp32 it is below 1e-5."""

LOW_TOLERANCE = 3e-2
"""The same in bf16 and fp16, which round to 8 and 11 bits; in bf16 2e-3 was seen under autocast."""

SAME_RATIO = 0.25
"""Largest relative difference of a ratio from the one that a cause explains; means of other groups add to it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Regrouping:
    """What regrouping showed."""

    windows: tuple[RegroupedWindow, ...] = ()
    """Windows of the same examples in other groups."""
    findings: tuple[Finding, ...] = ()
    """What is wrong with the scale."""
    notes: tuple[str, ...] = ()
    """Why it was not judged."""


def regroup(loop: Loop, first: Run) -> Regrouping:
    """Return what a loop makes of the same examples in other groups; ``first`` is a run of it on equal batches."""
    in_steps = [first.batches_in(step.number) for step in first.history.steps]
    if any(one is None for one in in_steps):
        return Regrouping(notes=("the scale was not judged: it is not known which batches a step takes",))
    counts = Counter(len(one) for one in in_steps if one)
    num_batches = counts.most_common(1)[0][0] if counts else 0
    if num_batches < 2:
        return Regrouping()
    if any(sum(seen.inside_step == step.number for seen in first.history.passes) > 1 for step in first.history.steps):
        return Regrouping(notes=("the scale was not judged: the optimizer calls a closure several times a step",))
    is_one_window = num_batches == len(first.grouping)
    groupings = whole_groupings() if is_one_window else window_groupings(num_batches)
    return _judged([run_loop(loop, one, is_frozen=True) for one in groupings])


def window_groupings(num_batches: int) -> Iterator[Grouping]:
    """Yield batches for runs of a loop whose windows hold ``num_batches``: all windows have the same examples.

    The first two windows are equal, the third has uneven batches, and the last one is short.
    """
    numbers = tuple(range(2 * num_batches))
    even = [numbers[start : start + 2] for start in range(0, len(numbers), 2)]
    uneven = [numbers[: num_batches + 1], *((number,) for number in numbers[num_batches + 1 :])]
    for num_passes in {1, min(2, num_batches - 1)}:
        size = len(numbers) // num_passes
        short = [numbers[start : start + size] for start in range(0, num_passes * size, size)]
        short[-1] = numbers[(num_passes - 1) * size :]
        windows = [even, even, uneven]
        while len(windows) * num_batches + num_passes < MIN_BATCHES:
            windows.append(even)
        yield [batch for window in (*windows, short) for batch in window]


def whole_groupings() -> Iterator[Grouping]:
    """Yield batches for runs of a loop that steps once, at the end: all runs have the same examples."""
    numbers = tuple(range(2 * MIN_BATCHES))
    even = [numbers[start : start + 2] for start in range(0, len(numbers), 2)]
    yield from (even, even, [numbers[: MIN_BATCHES + 1], *((number,) for number in numbers[MIN_BATCHES + 1 :])])
    yield [(number,) for number in numbers]


@dataclass(frozen=True, slots=True)
class _Window:
    step: int
    passes: tuple[int, ...]
    sizes: tuple[int, ...]
    entries: Tensor


def _judged(runs: Sequence[Run]) -> Regrouping:
    """Return what windows of the same examples show."""
    windows = [window for run in runs for window in _windows(run, examples=_examples(runs[0]))]
    if len(windows) < 2:
        return Regrouping(notes=("the scale was not judged: the loop makes windows of its own of other examples",))
    if not all(bool(window.entries.isfinite().all()) for window in windows):
        return Regrouping(notes=("the scale was not judged: a gradient is not finite",))
    reference = windows[0]
    norm = float(reference.entries.norm())
    if not norm > 0 or any(window.entries.shape != reference.entries.shape for window in windows):
        return Regrouping(notes=("the scale was not judged: a window has no gradient, or one of other parameters",))
    tolerance = LOW_TOLERANCE if any(run.is_low for run in runs) else TOLERANCE
    readings: list[RegroupedWindow] = []
    findings: dict[bool, Finding] = {}
    for window in windows[1:]:
        reading = RegroupedWindow(
            step=window.step,
            num_examples=window.sizes,
            error=float((window.entries - reference.entries).norm()) / norm,
            ratio=float(window.entries @ reference.entries) / norm**2,
        )
        if all(reading.num_examples != one.num_examples for one in readings):
            readings.append(reading)
        if reading.error <= tolerance:
            continue
        if window.sizes == reference.sizes:
            change = f"{100 * reading.error:.2g} %"
            note = f"the scale was not judged: the gradient of the same batches changes by {change} between steps"
            return Regrouping(windows=tuple(readings), notes=(note,))
        finding = _finding(reading, window, reference)
        findings.setdefault(_is_short(reading, reference), finding)
    return Regrouping(windows=tuple(readings), findings=tuple(findings.values()))


def _examples(run: Run) -> tuple[int, ...]:
    """Return the examples of the first window that a run was given."""
    return tuple(sorted({number for batch in run.grouping for number in batch}))


def _windows(run: Run, *, examples: tuple[int, ...]) -> Iterator[_Window]:
    """Yield the steps of a run that take just these examples, each of them once."""
    for step in run.history.steps:
        batches = [run.grouping[batch] for batch in run.batches_in(step.number) or ()]
        entries = run.gradients.get(step.number)
        if entries is not None and sorted(number for batch in batches for number in batch) == list(examples):
            yield _Window(step.number, tuple(step.weights), tuple(map(len, batches)), entries)


def _is_short(reading: RegroupedWindow, reference: _Window) -> bool:
    """Return whether a window has the share of the gradient that it has of the passes."""
    share = len(reading.num_examples) / len(reference.sizes)
    return share != 1 and abs(reading.ratio / share - 1) < SAME_RATIO and abs(reading.ratio - 1) > abs(share - 1) / 2


def _finding(reading: RegroupedWindow, window: _Window, reference: _Window) -> Finding:
    told = f"{sum(reading.num_examples)} examples in batches of {_sizes(reading.num_examples)}"
    if _is_short(reading, reference):
        cause = (
            f"{told} give {reading.ratio:.2g} times the gradient that they give in {len(reference.sizes)} batches of "
            f"{reference.sizes[0]}: the loss is divided by the same number of passes in every window, or by none; "
            "divide it by what the window holds, also in a short last one"
        )
    else:
        cause = (
            f"{told} give a gradient that differs by {100 * reading.error:.2g} % from that of {len(reference.sizes)} "
            f"batches of {reference.sizes[0]}: a mean over each pass counts every pass alike; sum the loss of a pass, "
            "and divide it by the valid pixels or the examples of the whole window"
        )
    return Finding(
        code="wrong-scale", step=window.step, passes=window.passes, message=f"in a run with other batches, {cause}"
    )


def _sizes(sizes: Sequence[int]) -> str:
    """Return the sizes of batches for people: ``5, 1, 1 and 1``."""
    told = list(map(str, sizes))
    if len(told) > 6:
        return f"{', '.join(told[:3])} ... {told[-1]}"
    return told[0] if len(told) == 1 else f"{', '.join(told[:-1])} and {told[-1]}"
