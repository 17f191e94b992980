from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from vnbench.records.step_trace import Capability
from vnbench.trial.tracing.attention_rules import Backend, attention_backend
from vnbench.trial.tracing.cuda_rules import cuda_rules

VOLTA, TURING, AMPERE, ADA, HOPPER, BLACKWELL = (7, 0), (7, 5), (8, 0), (8, 9), (9, 0), (12, 0)
HALF, BF16, FP32 = torch.float16, torch.bfloat16, torch.float32

CHOICES: list[tuple[Capability, torch.dtype, bool, int, bool, Backend]] = [
    (HOPPER, BF16, False, 32, False, "flash"),
    (HOPPER, BF16, False, 32, True, "cudnn"),
    (ADA, BF16, False, 32, True, "flash"),
    (BLACKWELL, BF16, False, 32, True, "flash"),
    (HOPPER, BF16, True, 32, False, "efficient"),
    (HOPPER, FP32, False, 32, True, "efficient"),
    (AMPERE, HALF, False, 36, False, "flash"),
    (AMPERE, HALF, True, 36, False, "math"),
    (AMPERE, FP32, False, 36, False, "efficient"),
    (AMPERE, FP32, False, 34, False, "math"),
    (AMPERE, HALF, False, 264, False, "efficient"),
    (ADA, HALF, False, 200, False, "efficient"),
    (AMPERE, HALF, False, 200, False, "flash"),
    (TURING, HALF, False, 32, False, "efficient"),
    (VOLTA, BF16, False, 32, False, "math"),
    (AMPERE, torch.float64, False, 32, False, "math"),
]


@pytest.mark.parametrize(("capability", "dtype", "has_mask", "head_dim", "may_use_cudnn", "expected"), CHOICES)
def test_the_kernel_follows_from_card_dtype_mask_and_heads(
    capability: Capability, dtype: torch.dtype, has_mask: bool, head_dim: int, may_use_cudnn: bool, expected: Backend
) -> None:
    query = torch.empty(1, 2, 5, head_dim, dtype=dtype)
    mask = torch.ones(1, 1, 1, 5, dtype=torch.bool) if has_mask else None
    assert attention_backend(query, query, query, mask, capability, may_use_cudnn=may_use_cudnn) == expected


class Names(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


def attend(capability: Capability, *, dtype: torch.dtype, head_dim: int, mask: Tensor | None = None) -> list[str]:
    """Return the operators of attention and of its backward pass."""
    with cuda_rules(capability), FakeTensorMode(), Names() as seen:
        query, key, value = (torch.empty(2, 3, 10, head_dim, dtype=dtype, requires_grad=True) for _ in range(3))
        allowed = None if mask is None else torch.ones(2, 1, 1, 10, dtype=torch.bool)
        gathered = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
        assert gathered.shape == query.shape
        gathered.sum().backward()
        assert query.grad is not None
    return seen.names


@pytest.mark.parametrize(
    ("dtype", "head_dim", "is_masked", "kernel"),
    [
        (BF16, 32, False, "flash"),
        (BF16, 36, False, "flash"),
        (BF16, 32, True, "efficient"),
        (FP32, 32, True, "efficient"),
    ],
)
def test_forward_and_backward_run_in_that_kernel(
    dtype: torch.dtype, head_dim: int, is_masked: bool, kernel: str
) -> None:
    mask = torch.ones(1) if is_masked else None
    names = attend(AMPERE, dtype=dtype, head_dim=head_dim, mask=mask)
    assert f"aten::_scaled_dot_product_{kernel}_attention" in names
    assert f"aten::_scaled_dot_product_{kernel}_attention_backward" in names
    # Heads are padded to eights for the one, rows of masks for the other.
    assert ("aten::constant_pad_nd" in names) == (head_dim % 8 > 0 or is_masked)


def test_without_a_kernel_for_it_attention_is_products_of_matrices() -> None:
    names = attend(VOLTA, dtype=BF16, head_dim=32)
    assert "aten::bmm" in names
    assert any("softmax" in name for name in names)
