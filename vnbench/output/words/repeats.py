"""Whether a run repeats to the bit, for the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from vnbench.analysis.trials.repeats import RepeatReport
from vnbench.units import count


def repeat_lines(report: RepeatReport, *, threads: int) -> Iterator[str]:
    """Yield the answer, and where runs differ first."""
    runs, steps = count(report.num_runs, "run"), count(report.num_steps, "step")
    if report.first is None:
        yield (
            f"{runs} of {steps} are equal to the bit: losses, outputs of modules, gradients and weights. This holds "
            f"for this device, this torch, {count(threads, 'thread')} and this order of images; other threads add up "
            "in another order."
        )
        return
    first = report.first
    where = f"the output of {first.operator}" if first.operator else "a gradient, after equal forward passes"
    yield f"{runs} of {steps} differ: first in step {first.step}, between run 1 and run {first.run}, in {where}."
    if first.parameter is not None:
        yield f"First parameter: {first.parameter}."
    mine, theirs = first.losses
    apart = abs(mine - theirs) / max(abs(mine), abs(theirs), 1e-300)
    yield f"Losses of that step: {mine:.9g} and {theirs:.9g}, {apart:.2g} apart; fp32 rounds to 6e-8."
    last = max(report.losses) - min(report.losses)
    yield f"After {steps} losses lie {last:.3g} apart."
