"""The share of a sweep that one of several machines measures: ``--shard 3/16``."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from vnbench.errors import InputError

MOST_SHARDS = 10_000

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """One of several shares."""

    number: int
    """Its number, from 1."""
    count: int
    """How many there are."""

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def own(self, weights: Mapping[Key, int]) -> frozenset[Key]:
        """Return the groups that belong to this share; ``weights`` holds the number of trials of each group.

        The heaviest group goes first, each to the share with the least so far (Graham, Bounds on multiprocessing timing
        anomalies, SIAM Journal on Applied Mathematics 17 (1969)). Equal groups keep their order, so that every machine
        cuts alike.
        """
        loads = [0] * self.count
        found = []
        for key in sorted(weights, key=lambda one: -weights[one]):
            place = loads.index(min(loads))
            loads[place] += weights[key]
            if place == self.number - 1:
                found.append(key)
        return frozenset(found)


def parse_shard(text: str, where: str) -> Shard:
    """Return the share of ``3/16``.

    Raises:
        InputError: the text has another form, or there is no such share.
    """
    match = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]) <= MOST_SHARDS:
        raise InputError(
            where,
            text,
            allowed=f"a share is I/N, with I from 1 to N, and N at most {MOST_SHARDS:,}",
            remedy="write 1/4 for the first of four",
        )
    return Shard(number=int(match[1]), count=int(match[2]))
