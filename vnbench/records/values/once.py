"""Cache a function of an immutable object."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_ANSWERS: dict[int, tuple[weakref.ref[Any], dict[Callable[[Any], Any], Any]]] = {}
"""What functions returned for each object that lives. One reference for all functions, because thousands cost."""


def once_per_object(function: Callable[[T], R]) -> Callable[[T], R]:
    """Return the function with a cache: it keeps the result for each object for as long as the object lives.

    The key is the identity of the object, because a record's columns cannot be hashed. Neither the object nor the
    result may change.
    """

    @functools.wraps(function)
    def remembered(one: T) -> R:
        key = id(one)
        if key not in _ANSWERS:
            _ANSWERS[key] = (weakref.ref(one, lambda _: _ANSWERS.pop(key, None)), {})
        answers = _ANSWERS[key][1]
        if function not in answers:
            answers[function] = function(one)
        answer: R = answers[function]
        return answer

    return remembered
