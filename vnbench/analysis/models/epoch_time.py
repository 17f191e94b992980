"""How computing, loading and validation make an epoch: written here for forecasts, compositions, plans and their draws.

What loads beside computing is hidden behind it or hides it; what loads in the training process adds up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

SecondsT = TypeVar("SecondsT", float, NDArray[np.float64])
"""Of one epoch, or of each draw of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochTime(Generic[SecondsT]):
    """The seconds of an epoch, or of a part of one such as a step, from those of what it is made of."""

    computing_s: SecondsT
    """Passes and updates."""
    loading_s: SecondsT
    """In which the loader alone supplies the examples; 0 where that was not measured."""
    has_workers: bool
    """Whether loading goes on beside computing."""
    validation_s: float = 0.0
    """Forward passes over the validation examples, after the others."""

    @property
    def bracket_s(self) -> tuple[SecondsT, SecondsT]:
        """Least and most that computing and loading can take together: the longer one, and their sum."""
        computing_s, loading_s = self.computing_s, self.loading_s
        if isinstance(computing_s, float) and isinstance(loading_s, float):
            return max(computing_s, loading_s), computing_s + loading_s
        return np.maximum(computing_s, loading_s), computing_s + loading_s

    @property
    def total_s(self) -> SecondsT:
        """Their sum where the training process loads, the longer one where workers load beside; validation included."""
        low, high = self.bracket_s
        return (low if self.has_workers else high) + self.validation_s
