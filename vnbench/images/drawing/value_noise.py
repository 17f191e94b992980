"""Random paths in integer arithmetic, equal on every machine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def value_noise(rng: np.random.Generator, *, length: int, spacing: int, swing: int) -> NDArray[np.int64]:
    """Return a path of ``length`` steps that turns at each multiple of ``spacing``, within -swing to swing.

    It is linear between the turns. Integer arithmetic is used because floating point may round differently elsewhere.
    """
    knots = rng.integers(-swing, swing, length // spacing + 2, endpoint=True)
    position = np.arange(length)
    knot, step = np.divmod(position, spacing)
    path: NDArray[np.int64] = (knots[knot] * (spacing - step) + knots[knot + 1] * step) // spacing
    return path
