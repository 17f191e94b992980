"""Cache a function of an object that never changes."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def once_per_object(function: Callable[[T], R]) -> Callable[[T], R]:
    """Keep what a function returned of an object for as long as the object lives.

    By identity, as a record's columns have no hash. The object must never change, nor what is returned of it.
    """
    known: dict[int, tuple[weakref.ref[T], R]] = {}

    @functools.wraps(function)
    def remembered(one: T) -> R:
        key = id(one)
        if key not in known:
            answer = function(one)
            known[key] = (weakref.ref(one, lambda _: known.pop(key, None)), answer)
        return known[key][1]

    return remembered
