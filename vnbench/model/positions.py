"""Positions of the bottleneck's tokens: fixed sinusoids of row and column."""

from __future__ import annotations

import torch
from torch import Tensor

POSITION_BASE = 10_000.0
"""Wavelengths grow geometrically from 2 pi towards 2 pi times this, as in Vaswani et al."""


def token_positions(height: int, width: int, *, dim: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return positions_ND, the position of each token of a ``height`` x ``width`` map, row by row.

    The first half of the ``dim`` features encodes the row, the second half the column, each as sines, then cosines of
    the index (Vaswani et al. 2017, arXiv 1706.03762, section 3.5, once per axis). A token's position depends only on
    its row and column, so it is the same on every canvas that holds the token.

    Raises:
        ValueError: ``dim`` is not a multiple of 4.
    """
    if dim % 4:
        raise ValueError(f"dim {dim}: must be a multiple of 4, for a sine and a cosine per axis")
    # bf16 cannot represent every integer above 256: compute in at least fp32, convert last.
    wide = torch.promote_types(dtype, torch.float32)
    exponents = torch.arange(dim // 4, device=device, dtype=wide) / (dim // 4)
    frequencies = POSITION_BASE**-exponents

    def axis_positions(length: int) -> Tensor:
        angles = torch.arange(length, device=device, dtype=wide)[:, None] * frequencies
        return torch.cat((angles.sin(), angles.cos()), dim=1)

    rows = axis_positions(height)[:, None].expand(height, width, dim // 2)
    columns = axis_positions(width)[None].expand(height, width, dim // 2)
    return torch.cat((rows, columns), dim=2).flatten(0, 1).to(dtype)
