"""Figures for people: no more digits than their intervals support."""

from __future__ import annotations

import math

from vnbench.analysis.statistics.estimate import Estimate

MISSING = "-"
"""Stands for a figure that was not measured."""


def format_estimate(value: float | None, half_width: float | None, *, is_difference: bool = False) -> str:
    """Return ``value ± half_width`` with no more digits than the half-width supports.

    The half-width keeps one significant digit, two if the first is a 1, and the value ends at the same place, but a
    positive one never before its own second significant digit: 9.4 ± 4, not 9 ± 4. A difference, which may be
    none, has no such digit. Without a half-width the value keeps two significant digits; without a value the answer is
    MISSING.

    What is no difference cannot be negative: an interval that reaches below zero is told by its ends, 0.064 (0 to 0.4),
    and without a value that is not positive, 0 to 0.2.
    """
    text = supported(value, half_width, is_difference=is_difference)
    if value is None or half_width is None:
        return text
    if not is_difference and value - half_width < 0 <= value + half_width:
        ends = f"0 to {fixed(value + half_width, decimals=_decimals(half_width))}"
        return f"{text} ({ends})" if value > 0 else ends
    return f"{text} ± {fixed(half_width, decimals=_decimals(half_width)) if half_width else 0}"


def told(estimate: Estimate | None, *, is_difference: bool = False) -> str:
    """Return an estimate with its half-width, as ``format_estimate`` writes them; MISSING for none."""
    if estimate is None:
        return MISSING
    return format_estimate(estimate.value, estimate.half_width, is_difference=is_difference)


def supported(value: float | None, half_width: float | None, *, is_difference: bool = False) -> str:
    """Return a value with the digits that its half-width supports, as ``format_estimate`` writes it."""
    if value is None:
        return MISSING
    if half_width is None:
        return significant(value, digits=2)
    if half_width == 0:
        return significant(value, digits=3)
    decimals = _decimals(half_width)
    if value > 0 and not is_difference:
        decimals = max(decimals, 1 - _exponent(value))
    return fixed(value, decimals=decimals)


def fixed(value: float, *, decimals: int) -> str:
    """Return a number rounded at a place: decimals after the point, or before it where negative."""
    return f"{round(value, decimals) + 0.0:.{max(decimals, 0)}f}"  # + 0.0 takes the sign from a zero


def significant(value: float | None, *, digits: int = 3) -> str:
    """Return a number to so many significant digits, never in powers of ten; MISSING for none."""
    return MISSING if value is None else fixed(value, decimals=digits - 1 - _exponent(value))


def roughly(value: float) -> str:
    """Return a number to two significant digits."""
    return significant(value, digits=2)


def times(value: float | None, factor: float | None) -> float | None:
    """Return the product, or None where a part of it is missing."""
    return None if value is None or factor is None else value * factor


def scaled(estimate: Estimate | None, factor: float) -> Estimate | None:
    """Return an estimate in another unit; None for none."""
    return None if estimate is None else estimate * factor


def time_unit(longest_s: float) -> tuple[str, float]:
    """Return the unit for times up to ``longest_s``, and its seconds: the largest that leaves it at three or more."""
    units = (("d", 86400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0))
    return next((unit for unit in units if longest_s >= 3 * unit[1]), units[-1])


def _decimals(half_width: float) -> int:
    """Return the place of the last digit of a half-width that is told."""
    leading = half_width / 10.0 ** _exponent(half_width)
    return (1 if leading < 1.95 else 0) - _exponent(half_width)


def _exponent(value: float) -> int:
    """Return the power of ten of the first significant digit."""
    return 0 if value == 0 else math.floor(math.log10(abs(value)))
