"""Build parsers of option values; a parser takes a text and the place where it was written, and checks the text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from vnbench.errors import InputError
from vnbench.meant import closest
from vnbench.units import parse_int, parse_int_list, split_list

Parser = Callable[[str, str], Any]
"""``(text, where) -> value``; raises an InputError that names ``where``."""


@dataclass(frozen=True, slots=True)
class OneOf:
    """Parses one of some words."""

    allowed: tuple[str, ...]
    """The words."""

    def __call__(self, text: str, where: str) -> str:
        """Return the word.

        Raises:
            InputError: another one.
        """
        if text not in self.allowed:
            raise InputError(
                where,
                text,
                allowed=f"must be one of {', '.join(self.allowed)}",
                remedy=f"write {closest(text, self.allowed) or 'one of these'}",
            )
        return text


@dataclass(frozen=True, slots=True)
class SomeOf:
    """Parses a comma list of some words, each taken once."""

    allowed: tuple[str, ...]
    """The words."""

    def __call__(self, text: str, where: str) -> tuple[str, ...]:
        """Return the words, in the order given.

        Raises:
            InputError: another one among them.
        """
        return several(OneOf(self.allowed))(text, where)


def word(allowed: Sequence[str]) -> OneOf:
    """Return a parser of one of the allowed words."""
    return OneOf(tuple(allowed))


def words(allowed: Sequence[str]) -> SomeOf:
    """Return a parser of a comma list of allowed words; repeats are dropped."""
    return SomeOf(tuple(allowed))


def whole(minimum: int, maximum: int) -> Callable[[str, str], int]:
    """Return a parser of a whole number, ``minimum <= n <= maximum``."""

    def parse(text: str, where: str) -> int:
        value = parse_int(text, where=where, minimum=minimum)
        _refuse_above(value, maximum, text=text, where=where)
        return value

    return parse


def wholes(minimum: int, maximum: int) -> Callable[[str, str], tuple[int, ...]]:
    """Return a parser of a comma list of whole numbers, ``minimum <= n <= maximum``; repeats are dropped."""

    def parse(text: str, where: str) -> tuple[int, ...]:
        values = parse_int_list(text, where=where, minimum=minimum)
        _refuse_above(max(values), maximum, text=text, where=where)
        return values

    return parse


def word_or(name: str, value: Any, parse: Parser) -> Parser:
    """Return a parser that maps the word ``name`` to ``value`` and passes any text with digits to ``parse``."""

    def parse_either(text: str, where: str) -> Any:
        if text == name:
            return value
        if not any(character.isdigit() for character in text):
            raise InputError(where, text, allowed=f"must be a number, or {name}", remedy=f"write {name}")
        return parse(text, where)

    return parse_either


def several(parse: Parser) -> Callable[[str, str], tuple[Any, ...]]:
    """Return a parser of a comma list whose entries go to ``parse``; repeats are dropped."""
    return lambda text, where: tuple(dict.fromkeys(parse(part, where) for part in split_list(text, where=where)))


def _refuse_above(value: int, maximum: int, *, text: str, where: str) -> None:
    if value > maximum:
        raise InputError(where, text, allowed=f"{value} is above {maximum}", remedy=f"write at most {maximum}")
