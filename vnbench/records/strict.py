"""JSON that anybody can read again, and numbers that could have been measured."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

LARGEST_NUMBER = 1e18
"""Seconds, bytes and pixels above this are none: the age of the universe, an exabyte."""

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def strict_json(line: str | bytes) -> Any:
    """Return the value of a JSON text without NaN, infinity or half characters.

    Raises:
        ValueError: it is none.
    """
    try:
        value = json.loads(line, parse_constant=_refuse_constant)
        # A lone surrogate is JSON, but no text that could be written anywhere.
        if _SURROGATE.search(line if isinstance(line, str) else line.decode()):
            json.dumps(value, ensure_ascii=False).encode()
    except (json.JSONDecodeError, UnicodeError) as error:
        raise ValueError(f"not JSON: {error}") from error
    except RecursionError as error:
        raise ValueError("not JSON: nested too deeply") from error
    return value


def check_numbers(where: str, values: Mapping[str, Any]) -> None:
    """Refuse numbers that could not have been measured, in columns or single.

    Raises:
        ValueError: text for a number, or one beyond LARGEST_NUMBER.
    """
    for name, found in values.items():
        column = found if isinstance(found, list) else [found]
        if name == "instrument":
            continue
        known = [value for value in column if value is not None] if None in column else column
        try:
            is_small = not known or (min(known) > -LARGEST_NUMBER and max(known) < LARGEST_NUMBER)
        except TypeError as error:
            raise ValueError(f"{where}: {name} holds what is no number") from error
        if not is_small:
            raise ValueError(f"{where}: {name} holds a number that nobody measured")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number in strict JSON")
