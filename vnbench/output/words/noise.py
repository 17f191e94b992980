"""What intervals cover, and how far the machine drifted, in words that stand under tables and figures."""

from __future__ import annotations

from vnbench.analysis.statistics.estimate import Estimate
from vnbench.analysis.trials.drift import Drift
from vnbench.analysis.trials.noise import Noise
from vnbench.output.words.numbers import told
from vnbench.records.spec.words import TrialKind
from vnbench.units import count, format_duration

REPEAT_COMMAND = "--replicates 3 or --reference-runs 3"
"""Options that measure what differs between processes."""

MAX_HALF_WIDTH = 1.0
"""Half-width of a drift above which its number says nothing: three runs within minutes leave such ones."""


MIN_HOURLY_S = 600.0
"""Length of a sweep below which its drift is not told by the hour: that would be many times what was seen."""


def coverage_line(noise: Noise, *, kind: TrialKind) -> str:
    """Return what the 95 % intervals of a kind of trial cover, as a clause."""
    spread = noise.spread_for(kind)
    if spread is None:
        return f"of one process: the spread between processes is not included ({REPEAT_COMMAND} measures it)"
    source = noise.spread_kind(kind)
    trials = f"{count(spread.num_processes, 'repeated trial')} of {count(spread.num_specs, 'configuration')}"
    borrowed = "" if source == kind else f" of {source} trials"
    return f"the spread between processes included ({100 * spread.relative:.2g} %, from {trials}{borrowed})"


def bars_line(noise: Noise, *, kind: TrialKind) -> str:
    """Return what the bars of a figure are, as a sentence."""
    spread = noise.spread_for(kind)
    if spread is None:
        covered = "of one process; how far processes differ was not measured"
    else:
        source = noise.spread_kind(kind)
        borrowed = "" if source == kind else f" of {source} trials"
        covered = f"with the run-to-run spread{borrowed}, {100 * spread.relative:.2g} %"
    return f"Bars: 95 % interval {covered}.".replace(" %", "\N{NO-BREAK SPACE}%")


def drift_line(drift: Drift) -> str:
    """Return the drift of a sweep as one line, with its interval and whether any is seen."""
    length = f"the sweep's {format_duration(drift.length_s)}"
    runs = count(len(drift.reference) + len(drift.others), "repeated trial")
    per_hour, change = drift.per_hour.half_width, drift.change.half_width
    if per_hour is None or change is None:
        return f"drift: unknown, {runs} only ({REPEAT_COMMAND} measures it)."
    if change > MAX_HALF_WIDTH:
        return f"drift: unknown, {runs} over {length} are too few (raise --reference-runs)."
    is_long = per_hour <= MAX_HALF_WIDTH and drift.length_s >= MIN_HOURLY_S
    hourly = f"{signed(drift.per_hour)} % per hour, " if is_long else ""
    seen = "none seen" if not drift.is_told_apart else f"steps got {'slower' if drift.per_hour.value > 0 else 'faster'}"
    return f"drift: {seen}: {hourly}{signed(drift.change)} % over {length}, from {runs}."


def signed(share: Estimate) -> str:
    """Return a share in per cent with its sign and half-width: ``+0.4 ± 1.1``."""
    text = told(share * 100, is_difference=True)
    return text if text.startswith("-") else f"+{text}"
