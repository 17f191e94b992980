"""The levers by name, as the fields of a class declare them, and in groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from vnbench.records.spec.lever import Lever
from vnbench.records.spec.levers import Levers


def words_by_field(cls: type) -> dict[str, tuple[str, ...]]:
    """Return what each field of a class may hold that holds one of some words."""
    return {
        name: get_args(one)
        for name, hint in get_type_hints(cls).items()
        for one in (hint, *(get_args(hint) if get_origin(hint) is not tuple else ()))
        if get_origin(one) is Literal
    }


def declared_levers(cls: Any) -> Iterator[Lever]:
    """Yield the levers that the fields of a dataclass declare, in their order."""
    hints = get_type_hints(cls, include_extras=True)
    words = words_by_field(cls)
    for field in fields(cls):
        for lever in getattr(hints[field.name], "__metadata__", ()):
            default = None if field.default is MISSING else field.default
            yield lever.bound(field.name, words=words.get(field.name, ()), default=default)


AXES: Mapping[str, Lever] = {lever.name: lever for lever in declared_levers(Levers)}
"""Levers that a sweep can vary, by the name of their field."""

COMPUTING_LEVERS = tuple(name for name, lever in AXES.items() if lever.part == "computing")
"""Fields of levers that act on computing, the batch apart."""

LOADING_LEVERS = tuple(name for name, lever in AXES.items() if lever.part == "loading")
"""Fields of levers that act on loading, the batch apart."""

FLAG_FIELDS = tuple(name for name in COMPUTING_LEVERS if AXES[name].is_switch)
"""Fields of switches of torch and its libraries, each at its default unless asked for."""

LOADER_FIELDS = tuple(name for name in LOADING_LEVERS if AXES[name].is_switch)
"""Fields of the loader's switches, each at its default unless asked for."""
