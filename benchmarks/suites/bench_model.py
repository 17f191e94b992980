"""Cost of the model's own loss and norm compared with plain versions of the same arithmetic, forward and backward.

Run with: pytest benchmarks/suites/bench_model.py --benchmark-only

Every group is one comparison: its members compute equal results from equal input, which each of them asserts.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn

from vnbench.model.loss import TVERSKY_ALPHA, TVERSKY_BETA, TVERSKY_SMOOTH, tversky_loss_sum
from vnbench.model.normalization import EPSILON, ExplicitGroupNorm
from vnbench.records.spec.words import NormPrecision

NUM_CLASSES = 3
PIXELS = (1, 2)

Loss = Callable[[Tensor, Tensor], Tensor]
"""Takes logits (B, K, H, W) and targets (B, H, W); returns a scalar."""


def masked(logits_BKHW: Tensor, targets_BHW: Tensor) -> Tensor:
    """Return our loss with every pixel valid, because only then the versions without a mask compute the same.

    The time to make the mask, a byte per pixel, is negligible.
    """
    return tversky_loss_sum(logits_BKHW, targets_BHW, torch.ones_like(targets_BHW, dtype=torch.bool))


def unmasked(logits_BKHW: Tensor, targets_BHW: Tensor) -> Tensor:
    """Return our loss without the mask: the difference in time is the price of ragged batches."""
    losses_B: list[Tensor] = []
    for class_index, p_BHW in enumerate(logits_BKHW.softmax(dim=1).unbind(dim=1)):
        is_class_BHW = targets_BHW == class_index
        true_positives_B = torch.where(is_class_BHW, p_BHW, 0).sum(PIXELS)
        false_positives_B = p_BHW.sum(PIXELS) - true_positives_B
        false_negatives_B = is_class_BHW.sum(PIXELS) - true_positives_B
        errors_B = TVERSKY_ALPHA * false_positives_B + TVERSKY_BETA * false_negatives_B
        losses_B.append(1 - (true_positives_B + TVERSKY_SMOOTH) / (true_positives_B + errors_B + TVERSKY_SMOOTH))
    return torch.stack(losses_B).mean(dim=0).sum()


def one_hot(logits_BKHW: Tensor, targets_BHW: Tensor) -> Tensor:
    """Return the loss in the plain way: one-hot targets and the three sums of the paper."""
    p_BKHW = logits_BKHW.softmax(dim=1)
    g_BKHW = F.one_hot(targets_BHW, NUM_CLASSES).permute(0, 3, 1, 2).to(p_BKHW.dtype)
    true_positives_BK = (p_BKHW * g_BKHW).sum((2, 3))
    false_positives_BK = (p_BKHW * (1 - g_BKHW)).sum((2, 3))
    false_negatives_BK = ((1 - p_BKHW) * g_BKHW).sum((2, 3))
    errors_BK = TVERSKY_ALPHA * false_positives_BK + TVERSKY_BETA * false_negatives_BK
    index_BK = (true_positives_BK + TVERSKY_SMOOTH) / (true_positives_BK + errors_BK + TVERSKY_SMOOTH)
    return (1 - index_BK).mean(dim=1).sum()


@pytest.mark.parametrize("loss", [masked, unmasked, one_hot])
@pytest.mark.benchmark(group="tversky loss, 2 x 256 x 1,600 px", max_time=0.5, warmup=True)
def test_tversky_loss(benchmark: BenchmarkFixture, loss: Loss) -> None:
    generator = torch.Generator().manual_seed(0)
    logits_BKHW = torch.randn(2, NUM_CLASSES, 256, 1600, generator=generator).requires_grad_()
    targets_BHW = torch.randint(NUM_CLASSES, (2, 256, 1600), generator=generator)

    def loss_and_gradient(loss: Loss) -> tuple[Tensor, Tensor]:
        value = loss(logits_BKHW, targets_BHW)
        return value, torch.autograd.grad(value, logits_BKHW)[0]

    value, gradient_BKHW = benchmark(loss_and_gradient, loss)
    expected, expected_BKHW = loss_and_gradient(one_hot)
    torch.testing.assert_close(value, expected)
    # A pixel's gradient is about 1 / number of pixels, below any default tolerance.
    scale = expected_BKHW.abs().max().item()
    torch.testing.assert_close(gradient_BKHW, expected_BKHW, rtol=1e-4, atol=1e-4 * scale)


def norm_pair(channels: int, precision: NormPrecision, dtype: torch.dtype) -> tuple[nn.Module, nn.Module]:
    """Return our norm, and torch's with the same weights in the precision in which ours computes."""
    generator = torch.Generator().manual_seed(1)
    ours = ExplicitGroupNorm(channels, num_groups=2, precision=precision)
    # Multiples of an eighth, which are exact in bf16.
    for parameter in ours.parameters():
        parameter.data = torch.randint(1, 16, (channels,), generator=generator) / 8
    plain = nn.GroupNorm(2, channels, eps=EPSILON)
    plain.load_state_dict(ours.state_dict())
    return ours, plain.to(dtype if precision == "input" else torch.float32)


@pytest.mark.parametrize("norm", ["explicit", "torch"])
@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("fp32", torch.float32), ("fp32", torch.bfloat16), ("input", torch.bfloat16)],
    ids=["fp32", "fp32-of-bf16", "bf16"],
)
@pytest.mark.parametrize("size", [(32, 128, 800), (128, 8, 50)], ids=["large-map", "small-map"])
@pytest.mark.benchmark(max_time=0.25, warmup=True)
def test_group_norm(
    benchmark: BenchmarkFixture,
    size: tuple[int, int, int],
    precision: NormPrecision,
    dtype: torch.dtype,
    norm: str,
) -> None:
    """Time both: the large map shows the kernel, the small one the cost of switching autocast and converting."""
    channels = size[0]
    shape = " x ".join(map(str, size))
    benchmark.group = f"group norm of {str(dtype).removeprefix('torch.')}, precision {precision}, {shape}"
    generator = torch.Generator().manual_seed(0)
    x_BCHW = torch.randn(1, *size, generator=generator).to(dtype).requires_grad_()
    ours, plain = norm_pair(channels, precision, dtype)
    output_dtype = dtype if precision == "input" else torch.float32
    gradient_BCHW = torch.randn(1, *size, generator=generator).to(output_dtype)

    def output_and_gradients(module: nn.Module) -> tuple[Tensor, ...]:
        # Ours converts its input itself; torch's module gets the dtype that it computes in.
        y_BCHW = module(x_BCHW if module is ours else x_BCHW.to(output_dtype))
        return y_BCHW, *torch.autograd.grad(y_BCHW, (x_BCHW, *module.parameters()), gradient_BCHW)

    found = benchmark(output_and_gradients, ours if norm == "explicit" else plain)
    expected = output_and_gradients(plain)
    # The gradients of our parameters are in fp32, those of torch's module in its own dtype.
    torch.testing.assert_close(found, expected, rtol=0, atol=0, check_dtype=False)
