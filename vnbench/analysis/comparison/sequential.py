"""Decide on times that were measured in pairs, block by block, after every block and without inflating the error rate.

A block runs every configuration on both sides in direct succession, so what drifts slowly cancels in the logarithm of
candidate over baseline. One configuration's logarithm in a block is one observation of its row; their mean over the
configurations is one observation of the mean row.

The margin is that of the t test by Bayes factors with a normal prior of variance PRIOR_VARIANCE on the effect size
(Rouder, Speckman, Sun, Morey and Iverson 2009, Psychonomic Bulletin & Review 16:225-237). Under the null hypothesis the
Bayes factor is a test martingale for every variance (Hendriksen, de Heide and Gruenwald 2021, Bayesian Analysis 16;
Perez-Ortiz, Lardy, de Heide and Gruenwald 2024, Annals of Statistics 52), so by Ville's inequality it ever reaches 1/a
with a probability of at most a, however often one looks.

Another program slows single trials of a busy machine several times. So a row's logarithms are winsorized first: what
lies further from their median than CALM_RANGE robust standard deviations is put there, and margins grow by the inverse
share of what was left alone (as for the trimmed mean, Tukey and McLaughlin 1963, Sankhya A 25:331-352). With that the
error rates hold by simulation (tests/analysis/test_sequential.py).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from vnbench.analysis.comparison.rows import ALL_ROWS, Doubt, Row, Verdict
from vnbench.analysis.statistics.estimate import student_t
from vnbench.analysis.statistics.ratio import POWER
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.units import count

MEAN_ERROR = 0.005
"""Probability that the mean of unchanged code is ever called worse."""

ROWS_ERROR = 0.005
"""Probability that any single row of unchanged code is ever called worse; the rows share it evenly."""

PASS_ERROR = 0.05
"""Probability that an upper bound below the tolerance ever hides a slowdown of the tolerance."""

PRIOR_VARIANCE = 1.0
"""Variance of the effect size, in squared standard deviations of an observation, under the alternative."""

WIDEST = math.log(100)
"""Half-width from which an interval tells nothing: with just enough pairs to be finite it can exceed a float."""

CALM_RANGE = 2.5
"""Distance from the median, in robust standard deviations (1.4826 times the median distance), up to which a pair counts
as it is."""

CALM_BLOCKS = 6
"""Fewest blocks that show which pair is far from the others."""

MIN_BLOCKS = 3
"""Fewest blocks that anything is decided after."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedTimes:
    """The times of one configuration on both sides, by block."""

    identity: str
    """Identity of its row: the spec_id of the baseline."""
    candidate_spec_id: str
    """The spec_id of the candidate."""
    spec: TrialSpec | None = None
    """The spec of the baseline; None for times of anything else."""
    baseline_s: tuple[float, ...]
    """Its time on the baseline in each block."""
    candidate_s: tuple[float, ...]
    """Its time on the candidate in each block."""

    @property
    def logs(self) -> tuple[float, ...]:
        """The logarithm of candidate over baseline in each block."""
        return tuple(math.log(c / b) for b, c in zip(self.baseline_s, self.candidate_s, strict=True))


def margin(num_pairs: int, deviation: float, *, error: float) -> float:
    """Return the half-width of the always-valid interval of a mean logarithm; infinite while there are too few pairs.

    ``deviation`` is the sample standard deviation of the pairs, ``error`` the probability that the interval ever misses
    the mean, on either side.
    """
    if num_pairs < 2:
        return math.inf
    freedom = num_pairs - 1
    a = 1 + num_pairs * PRIOR_VARIANCE
    k = (math.sqrt(a) / error) ** (2 / (freedom + 1))
    if k >= a:
        return math.inf
    half_width = math.sqrt(freedom * (k - 1) / (1 - k / a)) * deviation / math.sqrt(num_pairs)
    return half_width if half_width < WIDEST else math.inf


def time_rows(pairs: Sequence[PairedTimes], *, tolerance: float) -> tuple[Row, ...]:
    """Return the rows of times, that of the mean first where there are several; all have the same number of blocks.

    Worse: the interval lies above 1 and the estimate reaches the tolerance; better: the same on the other side. Same:
    a bound with PASS_ERROR lies below the tolerance, or the interval is so narrow that it would have shown a slowdown
    of the tolerance and the estimate is below it; so a slowdown of between one and two tolerances is seen or passes,
    and one of twice the tolerance is seen. Ambiguous: all other cases; that it is slower than chance explains with
    PASS_ERROR, shared by the rows, is said as a doubt of its own.
    """
    if not pairs:
        return ()
    calm = [winsorized(pair.logs) for pair in pairs]
    rows = [
        replace(
            _row(
                pair.identity,
                (pair.baseline_s, pair.candidate_s),
                logs,
                kept=kept,
                error=(ROWS_ERROR if len(pairs) > 1 else MEAN_ERROR + ROWS_ERROR) / len(pairs),
                hold_error=PASS_ERROR / len(pairs),
                tolerance=tolerance,
            ),
            spec=pair.spec,
            candidate_spec_id=pair.candidate_spec_id,
        )
        for pair, (logs, kept) in zip(pairs, calm, strict=True)
    ]
    if len(pairs) == 1:
        return tuple(rows)
    blocks = [statistics.fmean(block) for block in zip(*(logs for logs, _ in calm), strict=True)]
    kept = statistics.fmean(kept for _, kept in calm)
    sides = (
        tuple(second for pair in pairs for second in pair.baseline_s),
        tuple(second for pair in pairs for second in pair.candidate_s),
    )
    mean = _row(ALL_ROWS, sides, blocks, kept=kept, error=MEAN_ERROR, hold_error=PASS_ERROR, tolerance=tolerance)
    return (mean, *rows)


def winsorized(logs: Sequence[float]) -> tuple[tuple[float, ...], float]:
    """Return the logarithms with those that are far from the others put nearer, and the share that was left alone."""
    if len(logs) < CALM_BLOCKS:
        return tuple(logs), 1.0
    middle = statistics.median(logs)
    reach = CALM_RANGE * 1.4826 * statistics.median(abs(log - middle) for log in logs)
    if reach == 0:
        return tuple(logs), 1.0
    low, high = middle - reach, middle + reach
    return tuple(min(high, max(low, log)) for log in logs), sum(low <= log <= high for log in logs) / len(logs)


def blocks_to_see(row: Row, *, num_rows: int, tolerance: float) -> int | None:
    """Return after how many blocks the mean row would show a slowdown of the tolerance, with the deviation seen so far.

    ``num_rows`` is the number of configurations with times. None while it has no interval.
    """
    if row.interval is None or row.ratio is None:
        return None
    error = 2 * (MEAN_ERROR if num_rows > 1 else MEAN_ERROR + ROWS_ERROR)
    num_blocks = row.num_processes[0]
    deviation = math.log(row.interval[1] / row.ratio) / margin(num_blocks, 1.0, error=error)
    while margin(num_blocks, deviation, error=error) > math.log1p(tolerance):
        num_blocks += max(1, num_blocks // 10)
    return num_blocks


def _row(
    identity: str,
    sides: tuple[Sequence[float], Sequence[float]],
    logs: Sequence[float],
    *,
    kept: float,
    error: float,
    hold_error: float,
    tolerance: float,
) -> Row:
    """Return the row of some paired logarithms, of which the share ``kept`` is as it was measured.

    Errors are one-sided, ``hold_error`` that of looking slower.
    """
    mean, deviation = _mean_and_deviation(logs)
    deviation /= kept
    half_width = margin(len(logs), deviation, error=2 * error)
    highest = mean + margin(len(logs), deviation, error=2 * PASS_ERROR)
    limit = math.log1p(tolerance)
    is_known = len(logs) >= MIN_BLOCKS and math.isfinite(half_width)
    told = f"{_percent(mean)} in {count(len(logs), 'block')}"
    verdict: Verdict = "ambiguous"
    doubt: Doubt | None = None
    if is_known and mean >= limit and mean > half_width:
        verdict, reason = "worse", f"slower: {told} ({_percent(mean - half_width)} to {_percent(mean + half_width)})"
    elif is_known and mean <= -limit and mean < -half_width:
        verdict, reason = "better", f"faster: {told} ({_percent(mean - half_width)} to {_percent(mean + half_width)})"
    elif len(logs) >= MIN_BLOCKS and highest < limit:
        verdict, reason = "same", f"no slowdown of {_share(tolerance)}: {told}, at most {_percent(highest)}"
    elif is_known and half_width <= limit and mean < limit:
        verdict, reason = "same", f"no slowdown of {_share(tolerance)}: {told}, and less would have been seen"
    elif mean >= limit and mean > margin(len(logs), deviation, error=2 * hold_error):
        doubt, reason = "slower", f"slower than chance explains: {told}; more blocks will tell"
    elif is_known:
        doubt = "looks slower" if mean >= limit else "noise"
        reason = f"noise hides a slowdown of {_share(tolerance)}: {told}, at most {_percent(highest)}"
    else:
        doubt = "noise"
        reason = f"{count(len(logs), 'block')} are too few to tell" if len(logs) > 1 else "one block is too few to tell"
    return Row(
        spec_id=identity,
        spec=None,
        metric="time",
        baseline=_geometric_mean(sides[0]),
        candidate=_geometric_mean(sides[1]),
        ratio=math.exp(mean),
        interval=(math.exp(mean - half_width), math.exp(mean + half_width)) if math.isfinite(half_width) else None,
        smallest_detectable=_detectable(len(logs), deviation, half_width, limit),
        verdict=verdict,
        reason=reason,
        num_processes=(len(logs), len(logs)),
        doubt=doubt,
    )


def _detectable(num_pairs: int, deviation: float, half_width: float, limit: float) -> float | None:
    """Return the smallest slowdown, relative, that so many pairs call worse with probability POWER."""
    if not math.isfinite(half_width):
        return None
    # One-sided Student's t at POWER.
    noise = student_t(num_pairs - 1, 2 * POWER - 1) * deviation / math.sqrt(num_pairs)
    return math.expm1(max(half_width, limit) + noise)


def _mean_and_deviation(logs: Sequence[float]) -> tuple[float, float]:
    mean = statistics.fmean(logs)
    if len(logs) < 2:
        return mean, 0.0
    # statistics.stdev computes with fractions, which takes a hundred times as long.
    return mean, math.sqrt(math.fsum((log - mean) ** 2 for log in logs) / (len(logs) - 1))


def _geometric_mean(seconds: Sequence[float]) -> float:
    return math.exp(statistics.fmean(map(math.log, seconds)))


def _percent(log: float) -> str:
    change = 100 * math.expm1(log)
    return f"{change:+.2g} %" if abs(change) < 10 else f"{change:+.0f} %"


def _share(ratio: float) -> str:
    return f"{100 * ratio:.2g} %"
