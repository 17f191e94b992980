"""Self-attention at the bottleneck of VeerNet.

The published accounts mention two layers on the flattened map. Our choices: pre-norm transformer blocks with heads of
HEAD_DIM features and an MLP of MLP_RATIO, no dropout, and fixed sinusoidal positions.

Shape suffixes:
    B  examples of the micro-batch
    C  channels
    H  height, in pixels of the map
    W  width, in pixels of the map
    N  tokens, one per pixel of the bottleneck map, row by row
    D  features per token: the channels of the bottleneck
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vnbench.model.normalization import NormConfig
from vnbench.model.positions import token_positions

NUM_ATTENTION_LAYERS = 2

HEAD_DIM = 32
"""Features per attention head: four heads for 128 channels. Fused attention kernels need a multiple of 8."""

MLP_RATIO = 2
"""Hidden features of a transformer block's MLP per feature of a token."""


class BottleneckAttention(nn.Module):
    """Self-attention between all pixels of the bottleneck map."""

    def __init__(self, dim: int, *, norm: NormConfig) -> None:
        super().__init__()
        self.dim = dim
        self.blocks = nn.ModuleList(TransformerBlock(dim, norm=norm) for _ in range(NUM_ATTENTION_LAYERS))

    def forward(self, x_BCHW: Tensor, mask_B1HW: Tensor | None = None) -> Tensor:
        """Return a map with the shape of ``x_BCHW``."""
        height, width = x_BCHW.shape[2:]
        positions_ND = token_positions(height, width, dim=self.dim, device=x_BCHW.device, dtype=x_BCHW.dtype)
        x_BND = x_BCHW.flatten(2).transpose(1, 2) + positions_ND
        # Keys that queries may attend to, (B, 1, 1, N): every image has at least one.
        keys_B11N = None if mask_B1HW is None else mask_B1HW.flatten(2)[:, :, None]
        for block in self.blocks:
            x_BND = block(x_BND, keys_B11N)
        if mask_B1HW is not None:
            x_BND = torch.where(mask_B1HW.flatten(1)[:, :, None], x_BND, 0)
        # A view would be channels last, and every layer of the decoder would inherit that layout.
        return x_BND.transpose(1, 2).contiguous().view(-1, self.dim, height, width)


class TransformerBlock(nn.Module):
    """Pre-norm self-attention and MLP, each added to the tokens (Xiong et al. 2020, arXiv 2002.04745).

    One matrix product makes queries, keys and values. It has no bias: the true gradient of a key's bias is zero, and
    rounding would turn it into noise.
    """

    def __init__(self, dim: int, *, norm: NormConfig) -> None:
        super().__init__()
        if dim % HEAD_DIM:
            raise ValueError(f"dim {dim}: must be a multiple of {HEAD_DIM}, the numbers of an attention head")
        self.attention_norm = norm.layer_norm(dim)
        self.query_key_value = nn.Linear(dim, 3 * dim, bias=False)
        self.projection = nn.Linear(dim, dim)
        self.mlp_norm = norm.layer_norm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, MLP_RATIO * dim), nn.GELU(), nn.Linear(MLP_RATIO * dim, dim))

    def forward(self, x_BND: Tensor, keys_B11N: Tensor | None = None) -> Tensor:
        """Return refined tokens, (B, N, D)."""
        x_BND = x_BND + self.projection(self._attend(self.attention_norm(x_BND), keys_B11N))
        refined_BND: Tensor = x_BND + self.mlp(self.mlp_norm(x_BND))
        return refined_BND

    def _attend(self, x_BND: Tensor, keys_B11N: Tensor | None) -> Tensor:
        """Return the attention output for each token over all allowed keys, (B, N, D), with heads concatenated."""
        # (B, N, 3 * D) to three tensors of shape (B, heads, N, HEAD_DIM).
        query, key, value = self.query_key_value(x_BND).unflatten(2, (3, -1, HEAD_DIM)).permute(2, 0, 3, 1, 4)
        gathered: Tensor = F.scaled_dot_product_attention(query, key, value, attn_mask=keys_B11N)
        return gathered.transpose(1, 2).flatten(2)
