"""Seconds of a training step on a card that is not at hand: no operator is faster than what it moves and computes.

An operator takes at least the larger of its bytes over the card's bandwidth and its operations over the card's rate
(Williams and others, Roofline, CACM 2009). Four things make a step slower:

- Kernels reach neither figure of a datasheet. Six networks of timm's table for the RTX 3090 (AMP, NHWC) took 1.17 to
  1.34 times their roofline, 1.25 in the mean.
- Convolutions in groups lie far from it: 5 to 11 times in four networks with depthwise ones of the same table.
- A launch takes microseconds, whatever it launches.
- A reduction with fewer blocks than the card has multiprocessors leaves the others idle. ATen's GroupNorm has one block
  for each group of each example. What one multiprocessor reads is published or derived as 10 to 100 GB/s.

So a forecast has three numbers: the roofline itself, where nothing goes wrong; a central value; and an upper end.
"""

from __future__ import annotations

from collections.abc import Mapping

from vnbench.forecast.cards import Card
from vnbench.records.readings import TimeRange
from vnbench.records.spec.precisions import PRECISIONS
from vnbench.records.spec.words import Precision
from vnbench.records.step_trace import Operator

CENTRAL_FACTOR = 1.25
"""Time over roofline in the middle of what was published."""

HIGHEST_FACTOR = 1.6
"""Time over roofline at the upper end: twice as far from 1 as the slowest of those six networks."""

CENTRAL_GROUPED, HIGHEST_GROUPED = 6.0, 12.0
"""The same of convolutions in groups, central and at the upper end."""

LAUNCH_S = 5e-6
"""Seconds between the starts of two kernels that an eager program launches, in the middle; a card that is kept busy by
larger ones hides them."""

SLOWEST_SHARE, FASTEST_SHARE = 10e9, 100e9
"""Bytes per second that one multiprocessor reads in a reduction: both ends of what is known."""

CENTRAL_SHARES = 1.5
"""Central value of the same, over an equal share of the card's bandwidth: one multiprocessor can draw somewhat more
than its share."""


def step_times(
    counts: Mapping[Operator, int], card: Card, *, precision: Precision
) -> tuple[TimeRange, TimeRange] | None:
    """Return the seconds of operators that run so many times each, and what reductions of few blocks take beyond that.

    ``precision`` tells what fp32 convolutions and products run in: TF32 is no dtype. Of a card of which only the memory
    is known, there is nothing to tell.
    """
    if card.bandwidth is None or card.rates is None or card.multiprocessors is None:
        return None
    roofline_s = grouped_s = launches_s = 0.0
    reducing = TimeRange(0.0, 0.0, 0.0)
    for operator, count in counts.items():
        at_least_s = max(
            (operator.bytes_read + operator.bytes_written) / card.bandwidth,
            operator.flops / _rate(card.rates, _arithmetic(operator, precision)),
        )
        is_grouped = operator.convolution is not None and operator.convolution.groups > 1
        roofline_s += 0.0 if is_grouped else count * at_least_s
        grouped_s += count * at_least_s if is_grouped else 0.0
        launches_s += count * max(0.0, LAUNCH_S - at_least_s)
        if operator.num_blocks is not None:
            one = _reduction(
                operator.bytes_read, operator.num_blocks, bandwidth=card.bandwidth, multiprocessors=card.multiprocessors
            )
            reducing += TimeRange(count * one.low, count * one.central, count * one.high)
    moving = TimeRange(
        roofline_s + grouped_s,
        CENTRAL_FACTOR * roofline_s + CENTRAL_GROUPED * grouped_s + launches_s,
        HIGHEST_FACTOR * roofline_s + HIGHEST_GROUPED * grouped_s + 2 * launches_s,
    )
    return moving, reducing


def _arithmetic(operator: Operator, precision: Precision) -> Precision:
    """Return the arithmetic of an operator's products."""
    reduced = [name for name, one in PRECISIONS.items() if one.autocast == operator.dtype]
    if precision in reduced or (not reduced and PRECISIONS[precision].is_tf32):
        return precision
    return reduced[0] if reduced else "fp32"


def _rate(rates: Mapping[str, float], arithmetic: Precision) -> float:
    """Return the rate of an arithmetic; where the card has no units for it, that of fp32, to which it converts."""
    return rates.get(arithmetic, rates["fp32"])


def _reduction(num_bytes: int, num_blocks: int, *, bandwidth: float, multiprocessors: int) -> TimeRange:
    """Return the seconds in which so many blocks read some bytes once, besides the reading that their operator does.

    ATen's kernel reads what it normalises twice, for the statistics and for the result.
    """
    num_busy = min(num_blocks, multiprocessors)
    fair_share = bandwidth / multiprocessors

    def seconds(share: float) -> float:
        return num_bytes / min(num_busy * share, bandwidth)

    central = min(max(CENTRAL_SHARES * fair_share, SLOWEST_SHARE), FASTEST_SHARE)
    return TimeRange(seconds(FASTEST_SHARE), seconds(central), seconds(SLOWEST_SHARE))
