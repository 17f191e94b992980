"""Collect the levers that fields declare, by name and in groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from vnbench.records.spec.lever import Lever
from vnbench.records.spec.levers import Levers


def words_by_field(cls: type) -> dict[str, tuple[str, ...]]:
    """Return the allowed words of each field of a class whose type is a Literal."""
    return {
        name: get_args(one)
        for name, hint in get_type_hints(cls).items()
        for one in (hint, *(get_args(hint) if get_origin(hint) is not tuple else ()))
        if get_origin(one) is Literal
    }


def declared_levers(cls: Any) -> Iterator[Lever]:
    """Yield the levers that the fields of a dataclass declare, in field order."""
    hints = get_type_hints(cls, include_extras=True)
    words = words_by_field(cls)
    for field in fields(cls):
        for lever in getattr(hints[field.name], "__metadata__", ()):
            default = None if field.default is MISSING else field.default
            yield lever.bound(field.name, words=words.get(field.name, ()), default=default)


AXES: Mapping[str, Lever] = {lever.name: lever for lever in declared_levers(Levers)}
"""Levers that a sweep can vary, by field name."""

COMPUTING_LEVERS = tuple(name for name, lever in AXES.items() if lever.part == "computing")
"""Field names of the levers that act on computing, except the batch and micro-batch."""

LOADING_LEVERS = tuple(name for name, lever in AXES.items() if lever.part == "loading")
"""Field names of the levers that act on loading, except the batch and micro-batch."""

LOOPING_LEVERS = ("loop", "loop_features")
"""Field names of the levers that say who runs a step: they change no kernel, only what happens between."""

FLAG_FIELDS = tuple(name for name in COMPUTING_LEVERS if AXES[name].is_switch)
"""Field names of the switches of torch and its libraries."""

LOADER_FIELDS = tuple(name for name in LOADING_LEVERS if AXES[name].is_switch)
"""Field names of the switches of the loader."""
