"""Combine the times of computing, loading and validation into the time of an epoch.

Loading in workers overlaps with computing, so the longer of the two counts. Loading in the training process adds to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

SecondsT = TypeVar("SecondsT", float, NDArray[np.float64])
"""Seconds of one epoch, or of each of several draws of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochTime(Generic[SecondsT]):
    """The seconds of an epoch, or of a part of it such as a step, and of its parts."""

    computing_s: SecondsT
    """Seconds of passes and updates."""
    loading_s: SecondsT
    """Seconds that the loader alone needs for the examples; 0 if not measured."""
    has_workers: bool
    """Whether workers load while the training process computes."""
    validation_s: float = 0.0
    """Seconds of the forward passes over the validation examples, which come last."""

    @property
    def bracket_s(self) -> tuple[SecondsT, SecondsT]:
        """Shortest and longest possible time of computing and loading: the longer of the two, and their sum."""
        computing_s, loading_s = self.computing_s, self.loading_s
        if isinstance(computing_s, float) and isinstance(loading_s, float):
            return max(computing_s, loading_s), computing_s + loading_s
        return np.maximum(computing_s, loading_s), computing_s + loading_s

    @property
    def total_s(self) -> SecondsT:
        """Total seconds with validation: the longer of computing and loading with workers, else their sum."""
        low, high = self.bracket_s
        return (low if self.has_workers else high) + self.validation_s
