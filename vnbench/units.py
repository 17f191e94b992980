"""Convert between values for people (12h, 24GiB, 3200:12800) and base units (seconds, bytes, pixels)."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from vnbench.errors import InputError
from vnbench.meant import meant_duration, meant_list, meant_pixels, meant_range, meant_share, meant_size, meant_whole

BYTES_PER_UNIT = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
SECONDS_PER_UNIT = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

LONGEST_IN_HOURS = 72
"""Durations of at least this many hours are written in days."""

MAX_NAMED = 3
"""Most names that a message lists; it counts the rest."""

MAX_SIDE_PIXELS = 200_000
"""Longest side accepted for an image: ten times the longest raster log ever reported."""

PIXELS_PER_MPX = 1_000_000

MAX_PIXELS = 10**12
"""Largest number of pixels accepted for a micro-batch: no device holds a thousandth of it."""

MAX_LIST_LENGTH = 64
"""Longest comma list of an axis: a longer one is probably a mistake, and its sweep would take days."""


THOUSANDS = {"": 1, "k": 1_000, "M": 1_000_000}
"""What may follow a whole number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelRange:
    """An inclusive range of pixels, ``start <= n <= stop``."""

    start: int
    """Smallest length in pixels, at least 1."""
    stop: int
    """Largest length in pixels, at most MAX_SIDE_PIXELS."""

    def __str__(self) -> str:
        return f"{self.start}:{self.stop}"


def parse_pixels(text: str, where: str) -> int:
    """Return the pixels of ``N``, ``X.YMpx`` or ``[COUNTx]HEIGHTxWIDTH`` (such as ``2x640x12800``).

    Raises:
        InputError: the text has another form, or the number is below 1 or above MAX_PIXELS.
    """
    compact = text.replace(" ", "")
    megapixels = re.fullmatch(r"(\d{1,18}(?:\.\d{0,18})?)Mpx", compact)
    factors = re.fullmatch(r"\d{1,18}(?:x\d{1,18}){0,2}", compact)
    pixels = 0
    if megapixels is not None:
        pixels = round(float(megapixels[1]) * PIXELS_PER_MPX)
    elif factors is not None:
        pixels = math.prod(int(factor) for factor in compact.split("x"))
    if not 1 <= pixels <= MAX_PIXELS:
        raise InputError(
            where,
            text,
            allowed="pixels are a positive number such as 16384000, 16.4Mpx or 2x640x12800",
            remedy=f"write {meant_pixels(text)}",
        )
    return pixels


def parse_pixel_range(text: str, where: str) -> PixelRange:
    """Return the inclusive range ``A:B``; ``A`` alone means ``A:A``.

    Raises:
        InputError: not whole numbers, a bound below 1 or above MAX_SIDE_PIXELS, or a start greater than the stop.
    """
    match = re.fullmatch(r"\s*([+-]?\d{1,18})\s*(?::\s*([+-]?\d{1,18})\s*)?", text)
    if match is None:
        raise InputError(
            where,
            text,
            allowed="a range is two whole numbers of pixels",
            remedy=f"write {meant_range(text)}",
        )
    start = int(match[1])
    stop = int(match[2]) if match[2] is not None else start
    for bound in (start, stop):
        if bound < 1:
            raise InputError(
                where,
                text,
                allowed=f"a side is at least 1 px, not {bound} px",
                remedy="write positive numbers",
            )
        if bound > MAX_SIDE_PIXELS:
            raise InputError(
                where,
                text,
                allowed=f"{bound} px is above the largest side, {MAX_SIDE_PIXELS} px",
                remedy="write pixels, not bytes or millimetres",
            )
    if start > stop:
        raise InputError(where, text, allowed="start is greater than stop", remedy=f"write {stop}:{start}")
    return PixelRange(start=start, stop=stop)


def parse_int_list(text: str, *, where: str, minimum: int) -> tuple[int, ...]:
    """Return the whole numbers of a comma list in the order given, without repeats.

    Raises:
        InputError: an empty list or entry, or an entry that is not a whole number of at least ``minimum``.
    """
    values: list[int] = []
    for part in split_list(text, where=where):
        if re.fullmatch(r"[+-]?\d{1,18}", part) is None or int(part) < minimum:
            raise InputError(
                where,
                text,
                allowed=f"{part!r} is not a whole number of at least {minimum}",
                remedy="write " + ",".join(meant_list(text, minimum=minimum)),
            )
        values.append(int(part))
    return tuple(dict.fromkeys(values))


def split_list(text: str, *, where: str) -> tuple[str, ...]:
    """Return the entries of a comma list, stripped.

    Raises:
        InputError: an entry is empty, or there are more than MAX_LIST_LENGTH.
    """
    parts = tuple(part.strip() for part in text.split(","))
    if not all(parts):
        raise InputError(
            where,
            repr(text),
            allowed="an entry of the comma list is empty",
            remedy="write VALUE or VALUE,VALUE",
        )
    if len(parts) > MAX_LIST_LENGTH:
        raise InputError(
            where,
            f"({count(len(parts), 'entry')})",
            allowed=f"a list holds at most {MAX_LIST_LENGTH} entries",
            remedy="split the sweep",
        )
    return parts


def parse_int(text: str, *, where: str, minimum: int) -> int:
    """Return the whole number that the text holds, as 15000, 15,000, 15_000 or 15k.

    Raises:
        InputError: the text is not a whole number of at least ``minimum``.
    """
    plain = re.sub(r"(?<=\d)[,_](?=\d{3}(?!\d))", "", text.strip())
    match = re.fullmatch(r"([+-]?\d{1,18})([kM]?)", plain)
    number = int(match[1]) * THOUSANDS[match[2]] if match else None
    if number is None or number < minimum:
        raise InputError(
            where,
            text,
            allowed=f"a whole number of at least {minimum} is needed",
            remedy=f"write {meant_whole(text, minimum=minimum)}",
        )
    return number


def parse_duration(text: str, where: str) -> float:
    """Return the seconds of ``90s``, ``90m``, ``12h``, ``1.5d`` or a bare number of seconds.

    Raises:
        InputError: the text has another form, or the duration is not positive.
    """
    match = re.fullmatch(r"\s*(\d{1,18}(?:\.\d{1,18})?)\s*([smhd]?)\s*", text)
    seconds = float(match[1]) * SECONDS_PER_UNIT[match[2] or "s"] if match else 0.0
    if seconds <= 0:
        raise InputError(
            where,
            text,
            allowed="a duration is a positive number with s, m, h or d",
            remedy=f"write {meant_duration(text, seconds_per_unit=SECONDS_PER_UNIT)}",
        )
    return seconds


def parse_ratio(text: str, where: str) -> float:
    """Return the ratio of ``1.5%`` or ``0.015``, above 0 and below 1.

    Raises:
        InputError: the text has another form, or the ratio lies outside this range.
    """
    match = re.fullmatch(r"\s*(\d{1,18}(?:\.\d{1,18})?|\.\d{1,18})\s*(%?)\s*", text)
    ratio = float(match[1]) / (100.0 if match[2] else 1.0) if match else 0.0
    if not 0 < ratio < 1:
        raise InputError(
            where, text, allowed="a share is above 0 % and below 100 %", remedy=f"write {meant_share(text)}"
        )
    return ratio


def parse_amount(text: str, where: str) -> float:
    """Return a number of at least 0, such as a price.

    Raises:
        InputError: the text is not such a number.
    """
    if re.fullmatch(r"\s*(\d{1,18}(?:\.\d{1,18})?|\.\d{1,18})\s*", text) is None:
        raise InputError(where, text, allowed="a number of at least 0 is needed", remedy="write 2.5")
    return float(text)


def parse_positive(text: str, where: str) -> float:
    """Return a number above 0, such as a factor.

    Raises:
        InputError: the text is not such a number.
    """
    value = parse_amount(text, where=where)
    if value <= 0:
        raise InputError(where, text, allowed="a number above 0 is needed", remedy="write 1.5")
    return value


def parse_bytes(text: str, where: str) -> int:
    """Return the bytes of a size such as ``24GiB`` or ``512MiB``.

    Raises:
        InputError: the text is not a positive number followed by B, KiB, MiB, GiB or TiB.
    """
    match = re.fullmatch(r"\s*(\d{1,18}(?:\.\d{0,18})?)\s*(B|KiB|MiB|GiB|TiB)\s*", text)
    size = round(float(match[1]) * BYTES_PER_UNIT[match[2]]) if match else 0
    if size < 1:
        raise InputError(
            where,
            text,
            allowed="a size is a positive number with B, KiB, MiB, GiB or TiB",
            remedy=f"write {meant_size(text)}",
        )
    return size


def first_few(names: Sequence[str], total: int | None = None) -> str:
    """Return the first MAX_NAMED names and the number of the others; ``total`` counts all, if not all are given."""
    total = total or len(names)
    more = f" and {total - MAX_NAMED:,} more" if total > MAX_NAMED else ""
    return f"{', '.join(names[:MAX_NAMED])}{more}"


def count(number: int, noun: str) -> str:
    """Return a number and its noun, which may be a phrase: ``1 trial``, ``2 short passes``, ``0 families``."""
    return f"{number:,} {noun if number == 1 else _plural(noun)}"


def _plural(noun: str) -> str:
    if re.search("(s|x|tch|sh)$", noun):
        return f"{noun}es"
    return f"{noun[:-1]}ies" if re.search("[^aeiou]y$", noun) else f"{noun}s"


def format_duration(seconds: float) -> str:
    """Return a duration for people: ``35 ms``, ``4.2 s``, ``3 min 20 s``, ``9 h 10 min``, ``4 d 2 h``."""
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours >= LONGEST_IN_HOURS:
        days, hours = divmod(round(seconds / 3600), 24)
        return f"{days:,} d {hours} h" if hours else f"{days:,} d"
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def format_bytes(num_bytes: float) -> str:
    """Return a size for people, in binary units with three significant digits: ``512 B``, ``1.25 GiB``."""
    value, unit = float(num_bytes), "B"
    for candidate, factor in BYTES_PER_UNIT.items():
        if abs(num_bytes) >= factor:
            value, unit = num_bytes / factor, candidate
    return f"{value:.0f} B" if unit == "B" else f"{_three_digits(value)} {unit}"


def format_byte_range(low: float, high: float) -> str:
    """Return a range of sizes for people, in the unit of its upper end: ``0.500 to 1.25 GiB``."""
    number, _, unit = format_bytes(high).partition(" ")
    factor = BYTES_PER_UNIT[unit]
    return f"{_three_digits(low / factor) if factor > 1 else f'{low:.0f}'} to {number} {unit}"


def memory_unit(most_bytes: float) -> str:
    """Return the unit for sizes up to ``most_bytes``, a key of BYTES_PER_UNIT: GiB, or MiB below one."""
    return "GiB" if most_bytes >= BYTES_PER_UNIT["GiB"] else "MiB"


def gib(num_bytes: float) -> float:
    """Return bytes as GiB."""
    return num_bytes / BYTES_PER_UNIT["GiB"]


def mpx(num_pixels: float) -> float:
    """Return pixels as megapixels (1e6 pixels)."""
    return num_pixels / PIXELS_PER_MPX


def format_percent(ratio: float) -> str:
    """Return a ratio as a percentage with one decimal."""
    return f"{100 * ratio:.1f} %"


def _three_digits(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
