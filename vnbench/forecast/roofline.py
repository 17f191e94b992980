"""Seconds of a training step on a card that is not at hand: no operator is faster than what it moves and computes.

An operator takes at least the larger of its bytes over the card's bandwidth and its operations over the card's rate
(Williams and others, Roofline, CACM 2009). Five things make a step slower:

- Kernels reach neither figure of a datasheet. Six networks of timm's table for the RTX 3090 (AMP, NHWC) took 1.17 to
  1.34 times their roofline, 1.25 in the mean.
- Convolutions in groups lie far from it. In the same table depthwise ones took 5 to 11 times their roofline (four
  networks), those in 32 or 64 groups 1.6 to 3.9 times (five ResNeXts), and those in any other number of groups 12 to
  40 times (eleven RegNets): cuDNN has fast kernels only for some. What uses so little of the bandwidth does not wait
  for it, but for the multiprocessors: profiles of depthwise kernels show stalls on instructions
  (pytorch/pytorch#18631). So another card is as much faster at these as it has more cycles (multiprocessors times
  clock).
- Tensor cores convolve maps in NHWC. Maps in NCHW are copied, there and back (``workspaces`` has the same copies). With
  them and the factors above, twelve networks of timm's table for AMP, NCHW come out 11 % too fast to 13 % too slow;
  without them most are 14 to 36 % too fast.
- A launch takes microseconds, whatever it launches.
- A reduction with fewer blocks than the card has multiprocessors leaves the others idle. ATen's GroupNorm has one block
  for each group of each example. What one multiprocessor reads is published or derived as 10 to 100 GB/s.

So a forecast has three numbers: the roofline itself, where nothing goes wrong; a central value; and an upper end.
"""

from __future__ import annotations

from collections.abc import Mapping

from vnbench.forecast.cards import Card, parse_card
from vnbench.records.readings import TimeRange
from vnbench.records.spec.precisions import PRECISIONS
from vnbench.records.spec.words import Precision
from vnbench.records.step_trace import Convolution, Operator

CENTRAL_FACTOR = 1.25
"""Time over roofline in the middle of what was published."""

HIGHEST_FACTOR = 1.6
"""Time over roofline at the upper end: twice as far from 1 as the slowest of those six networks."""

DEPTHWISE, EVEN_GROUPS, OTHER_GROUPS = (6.0, 12.0), (3.0, 6.0), (25.0, 50.0)
"""The same of convolutions in groups, central and at the upper end: with a group for each channel, with a multiple of
EVEN groups, and with any other number."""

EVEN = 32
"""Number of groups for whose multiples cuDNN has fast kernels, as far as those networks tell."""

OF_THE_FACTORS = parse_card("RTX 3090", "the card of the factors")
"""The card off which those factors were read."""

FEWER_LANES, LANES = {(7, 0): 64, (7, 2): 64, (7, 5): 64, (8, 0): 64}, 128
"""Multiply-adds in fp32 per cycle of a multiprocessor, by compute capability (CUDA C++ Programming Guide, throughput of
native arithmetic instructions); the number of instructions that it can start is the same for all of these."""

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
    moving = reducing = TimeRange(0.0, 0.0, 0.0)
    for operator, count in counts.items():
        at_least_s = _at_least_s(operator, card, precision)
        arithmetic = _arithmetic(operator, precision)
        has_tensor_cores = arithmetic != "fp32" and arithmetic in card.rates
        usual_s = at_least_s + (_copied_bytes(operator.convolution) / card.bandwidth if has_tensor_cores else 0.0)
        launch_s = max(0.0, LAUNCH_S - at_least_s)
        central_s, highest_s = CENTRAL_FACTOR * usual_s, HIGHEST_FACTOR * usual_s
        if operator.convolution is not None and operator.convolution.groups > 1:
            central, highest = _factors_of_groups(operator.convolution)
            paced_s = _paced_s(operator, card, precision)
            central_s, highest_s = max(central_s, central * paced_s), highest * max(at_least_s, paced_s)
        moving += TimeRange(
            count * at_least_s,
            count * (central_s + launch_s),
            count * (highest_s + 2 * launch_s),
        )
        if operator.num_blocks is not None:
            one = _reduction(
                operator.bytes_read, operator.num_blocks, bandwidth=card.bandwidth, multiprocessors=card.multiprocessors
            )
            reducing += TimeRange(count * one.low, count * one.central, count * one.high)
    return moving, reducing


def _copied_bytes(convolution: Convolution | None) -> int:
    """Return the bytes that copies of a convolution's maps to NHWC, and back, read and write in all of its kernels.

    Convolutions in groups were seen to need none.
    """
    if convolution is None or convolution.is_channels_last or convolution.groups > 1:
        return 0
    num_kernels = max(1, len(convolution.gradients))
    return num_kernels * 2 * (convolution.input_bytes + convolution.output_bytes)


def _factors_of_groups(convolution: Convolution) -> tuple[float, float]:
    """Return time over roofline, central and at the upper end, of a convolution in groups on the RTX 3090."""
    if convolution.groups == convolution.in_channels:
        return DEPTHWISE
    return OTHER_GROUPS if convolution.groups % EVEN else EVEN_GROUPS


def _at_least_s(operator: Operator, card: Card, precision: Precision) -> float:
    """Return the seconds in which a card whose speed is known moves and computes what an operator does."""
    assert card.bandwidth is not None
    assert card.rates is not None
    return max(
        (operator.bytes_read + operator.bytes_written) / card.bandwidth,
        operator.flops / _rate(card.rates, _arithmetic(operator, precision)),
    )


def _paced_s(operator: Operator, card: Card, precision: Precision) -> float:
    """Return the seconds in which the card of the factors would do an operator's work if it had a card's cycles.

    Of a card whose cycles are unknown, those in which it does the work itself.
    """
    cycles, own = _cycles(OF_THE_FACTORS), _cycles(card)
    if cycles is None or own is None:
        return _at_least_s(operator, card, precision)
    return _at_least_s(operator, OF_THE_FACTORS, precision) * cycles / own


def _cycles(card: Card) -> float | None:
    """Return the cycles per second of all multiprocessors; None where they are unknown."""
    rate = None if card.rates is None else card.rates.get("fp32")
    if rate is None or card.compute_capability is None:
        return None
    return rate / (2 * FEWER_LANES.get(card.compute_capability, LANES))


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
