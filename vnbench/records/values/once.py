"""Cache a function of an immutable object."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def once_per_object(function: Callable[[T], R]) -> Callable[[T], R]:
    """Return the function with a cache: it keeps the result for each object for as long as the object lives.

    The key is the identity of the object, because a record's columns cannot be hashed. Neither the object nor the
    result may change.
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
