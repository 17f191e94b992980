"""Guess what the user meant by a value or name that vnbench rejects."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

DIGITS = "[0-9]{1,18}"
"""Pattern of a whole number; the limit keeps it short, because Python refuses to convert thousands of digits."""

NUMBER = rf"{DIGITS}(?:[.,]{DIGITS})?"
"""Pattern of a decimal number; some countries write a comma."""


LETTERS = {"": "", "k": "k", "m": "M"}
"""Of thousands and millions."""


def closest(text: str, known: Iterable[str]) -> str | None:
    """Return the known name closest to a misspelt one; None if none is close."""
    names = {name.casefold(): name for name in known}
    close = difflib.get_close_matches(text.strip().casefold().replace("_", "-"), names, n=1)
    return names[close[0]] if close else None


def meant_pixels(text: str) -> str:
    """Return the correct spelling of the number of pixels that was probably meant; its general form if unclear."""
    sides = re.findall(DIGITS, text)
    megapixels = re.fullmatch(rf"\s*({NUMBER})\s*m\w*\s*", text, re.IGNORECASE)
    if megapixels is not None:
        return f"{_plain(megapixels[1])}Mpx"
    return "x".join(sides) if 2 <= len(sides) <= 3 else "COUNTxHEIGHTxWIDTH"


def meant_range(text: str) -> str:
    """Return the correct spelling of a range such as 3200-12800 or 3200 to 12800 px."""
    ends = re.findall(DIGITS, text)
    return ":".join(ends) if len(ends) == 2 else "START:STOP, as 3200:12800"


def meant_duration(text: str, *, seconds_per_unit: Mapping[str, float]) -> str:
    """Return the correct spelling of a duration such as 5 minutes, 1h30m or 2,5 hours."""
    # Leave out milliseconds and months.
    found = re.findall(rf"({NUMBER})\s*(m(?!s\b|o)|[shd])", text.lower())
    parts = [(float(_plain(number)), unit) for number, unit in found]
    total = sum(number * seconds_per_unit[unit] for number, unit in parts)
    if total <= 0:
        return "90s, 10m or 12h"
    return f"{parts[0][0]:g}{parts[0][1]}" if len(parts) == 1 else f"{total / 60:g}m"


def meant_share(text: str) -> str:
    """Return the correct spelling of a share such as 5 or 1,5 %."""
    match = re.fullmatch(rf"\s*({NUMBER})\s*%?\s*", text)
    percent = float(_plain(match[1])) if match else 0.0
    return f"{percent:g}%" if 0 < percent < 100 else "1% or 0.01"


def meant_size(text: str) -> str:
    """Return the correct spelling of a size such as 2GB, 512m or 2."""
    match = re.fullmatch(rf"\s*({NUMBER})\s*([kmgt]?)[a-z]*\s*", text, re.IGNORECASE)
    if match is None or not float(_plain(match[1])):
        return "24GiB"
    return f"{_plain(match[1])}{(match[2] or 'G').upper()}iB"


def meant_whole(text: str, *, minimum: int) -> str:
    """Return the same of a whole number: of 15.5, 15K or 15 000."""
    match = re.fullmatch(rf"\s*({DIGITS})(?:\.\d+)?\s*([kKmM]?)\s*", text.replace(" ", ""))
    if match is None or int(match[1]) < minimum:
        return str(max(minimum, 1))
    return f"{int(match[1])}{LETTERS[match[2].lower()]}"


def meant_list(text: str, *, minimum: int) -> list[str]:
    """Return the entries of a list of whole numbers such as 1 2 4 or 1;2;4; an example if unclear.

    Of a single number that is too small the smallest that is not: where it is written, several may be refused.
    """
    is_list = re.fullmatch(rf"\s*{DIGITS}(?:[;/|\s,]+{DIGITS})*\s*", text) is not None
    numbers = re.findall(DIGITS, text)
    if is_list and all(int(number) >= minimum for number in numbers):
        return numbers
    if is_list and len(numbers) == 1:
        return [str(minimum)]
    return [str(max(minimum, number)) for number in (1, 2, 4)]


def _plain(number: str) -> str:
    return number.replace(",", ".")
