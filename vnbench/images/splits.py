"""Choice of the validation examples of a corpus that names none."""

from __future__ import annotations

import numpy as np

from vnbench.batching.sizes import SizeArray

VALIDATION_SHARE = 0.2


def validation_indices(sizes_N2: SizeArray) -> set[int]:
    """Return the indices of the validation examples: every fifth by width, then by height.

    Each is the middle one of its five, so that both splits span the sizes and the largest example is for training.
    """
    num_examples = len(sizes_N2)
    num_validation = max(round(VALIDATION_SHARE * num_examples), min(1, num_examples - 1))
    by_width = np.lexsort((sizes_N2[:, 0], sizes_N2[:, 1]))
    ranks = [((2 * k + 1) * num_examples - 1) // (2 * num_validation) for k in range(num_validation)]
    return set(by_width[ranks].tolist())
