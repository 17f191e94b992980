from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from vnbench.model.loss import tversky_loss_sum
from vnbench.model.normalization import ExplicitGroupNorm
from vnbench.model.split_norm import split_group_norm
from vnbench.model.veernet import build_model
from vnbench.records.spec.words import NORM_KERNELS, NormKernel, NormPrecision, Padding

CHANNELS = 32

SIZE = (2, CHANNELS, 12, 50)


def group_norm(
    kernel: NormKernel, *, precision: NormPrecision = "fp32", num_groups: int = 2, wide: bool = False
) -> ExplicitGroupNorm:
    norm = ExplicitGroupNorm(CHANNELS, num_groups=num_groups, precision=precision, kernel=kernel)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2, CHANNELS))
        norm.bias.copy_(torch.linspace(-1, 1, CHANNELS))
    return norm.double() if wide else norm


def drawn(seed: int, *, mean: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 1.5 * torch.randn(*SIZE, dtype=torch.float64, generator=generator) + mean


def mask() -> Tensor:
    """Return which pixels are valid: of one example a corner, of the other all rows but the last."""
    valid = torch.zeros(SIZE[0], 1, *SIZE[2:], dtype=torch.bool)
    valid[0, :, :7, :33] = True
    valid[1, :, :-1] = True
    return valid


def computed(norm: ExplicitGroupNorm, x: Tensor, mask_B1HW: Tensor | None = None) -> list[Tensor]:
    """Return the output and the gradients of map, weight and bias."""
    x = x.clone().requires_grad_()
    y = norm(x, mask_B1HW)
    y.backward(drawn(1).to(y.dtype))
    assert x.grad is not None
    assert norm.weight.grad is not None
    assert norm.bias.grad is not None
    assert x.grad.dtype == x.dtype
    return [y.detach(), x.grad, norm.weight.grad, norm.bias.grad]


def errors(found: list[Tensor], expected: list[Tensor]) -> list[float]:
    return [float((one.double() - other).norm() / other.norm()) for one, other in zip(found, expected, strict=True)]


@pytest.mark.parametrize("mean", [0.0, 1.5])
@pytest.mark.parametrize("num_groups", [1, 2, 32])
@pytest.mark.parametrize("is_masked", [False, True])
def test_in_fp32_it_is_the_native_norm_to_a_millionth(mean: float, num_groups: int, is_masked: bool) -> None:
    x, valid = drawn(0, mean=mean).float(), mask() if is_masked else None
    native, split = (computed(group_norm(kernel, num_groups=num_groups), x, valid) for kernel in NORM_KERNELS)
    assert max(errors(split, [one.double() for one in native])) < 1e-6


@pytest.mark.parametrize("mean", [0.0, 3.0])
@pytest.mark.parametrize("is_masked", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "input"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_low_precision_it_is_off_by_rounding_alone(
    dtype: torch.dtype, precision: NormPrecision, is_masked: bool, mean: float
) -> None:
    x, valid = drawn(0, mean=mean).to(dtype), mask() if is_masked else None
    expected = computed(group_norm("native", wide=True), x.double(), valid)
    native, split = (computed(group_norm(kernel, precision=precision), x, valid) for kernel in NORM_KERNELS)
    assert [one.dtype for one in split] == [one.dtype for one in native]
    for of_native, of_split in zip(errors(native, expected), errors(split, expected), strict=True):
        assert of_split < 3 * max(of_native, 1e-6)


@pytest.mark.parametrize("is_masked", [False, True])
def test_its_gradient_is_the_derivative_of_its_output(is_masked: bool) -> None:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(2, 4, 3, 5, dtype=torch.float64, generator=generator).requires_grad_()
    weight, bias = (torch.randn(4, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(2))
    valid = torch.ones(2, 1, 3, 5, dtype=torch.bool)
    valid[0, :, 2:] = valid[1, :, :, 3:] = False

    def norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return split_group_norm(
            x,
            weight_C=weight,
            bias_C=bias,
            num_groups=2,
            epsilon=1e-5,
            dtype=x.dtype,
            mask_B1HW=valid if is_masked else None,
        )

    assert torch.autograd.gradcheck(norm, (x, weight, bias))


def test_a_large_mean_leaves_the_variance_of_an_fp32_map() -> None:
    x = drawn(0, mean=3000.0).float()
    native, split = (computed(group_norm(kernel), x) for kernel in NORM_KERNELS)
    expected = computed(group_norm("native", wide=True), x.double())
    for of_native, of_split in zip(errors(native, expected), errors(split, expected), strict=True):
        assert of_split < 3 * max(of_native, 1e-6)


def test_a_gradient_near_the_least_of_fp16_is_not_lost() -> None:
    norm = group_norm("split", precision="input")
    x = (0.01 * drawn(0)).half().requires_grad_()
    norm(x).backward((1e-5 * drawn(1)).half())
    wide = group_norm("native", wide=True)
    exact = x.detach().double().requires_grad_()
    wide(exact).backward((1e-5 * drawn(1)).half().double())
    assert norm.weight.grad is not None
    assert wide.weight.grad is not None
    assert (norm.weight.grad - wide.weight.grad).norm() < 0.01 * wide.weight.grad.norm()


@pytest.mark.parametrize("beyond", [float("inf"), float("nan"), 1e30])
def test_what_lies_beyond_the_mask_is_not_read(beyond: float) -> None:
    x, valid = drawn(0).float(), mask()
    expected = computed(group_norm("split"), x.where(valid, 0), valid)
    found = computed(group_norm("split"), x.where(valid, beyond), valid)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert not found[0].masked_select(~valid).any()
    assert not found[1].masked_select(~valid).any()


@pytest.mark.parametrize("is_masked", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "input"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_maps_laid_out_channels_last_stay_so(dtype: torch.dtype, precision: NormPrecision, is_masked: bool) -> None:
    x = drawn(0).to(dtype)
    valid = mask() if is_masked else None
    expected = computed(group_norm("split", precision=precision), x, valid)
    output, gradient, *rest = computed(
        group_norm("split", precision=precision), x.to(memory_format=torch.channels_last), valid
    )
    for one in (output, gradient):
        assert one.is_contiguous(memory_format=torch.channels_last)
    assert max(errors([output, gradient, *rest], [one.double() for one in expected])) < (
        1e-6 if dtype == torch.float32 else 2e-3
    )


def kept_bytes(norm: ExplicitGroupNorm, x: Tensor) -> int:
    storages: dict[int, int] = {}

    def pack(one: Tensor) -> Tensor:
        storages[one.untyped_storage().data_ptr()] = one.untyped_storage().nbytes()
        return one

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda one: one):
        norm(x.requires_grad_())
    return sum(storages.values())


def test_it_keeps_its_input_as_it_was_given_and_little_else() -> None:
    x = drawn(0).bfloat16()
    assert kept_bytes(group_norm("split"), x) < 1.1 * x.nbytes
    assert kept_bytes(group_norm("native"), x) > 2 * x.nbytes, "the native one keeps a copy in fp32"


@pytest.mark.parametrize("precision", ["fp32", "input"])
def test_a_recomputed_norm_has_the_same_gradient(precision: NormPrecision) -> None:
    norm, x = group_norm("split", precision=precision), drawn(0).bfloat16().requires_grad_()
    gradients = []
    for run in (norm, lambda x: checkpoint(norm, x, use_reentrant=False)):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = run(x)
        gradients.append(torch.autograd.grad(y, (x, norm.weight, norm.bias), drawn(1).to(y.dtype)))
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


@pytest.mark.parametrize("padding", ["plain", "exact"])
@pytest.mark.parametrize("norm_groups", ["half-or-16", "16"])
def test_a_network_trains_with_it_as_with_the_native_one(norm_groups: str, padding: Padding) -> None:
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(2, 1, 64, 96, dtype=torch.float64, generator=generator)
    targets = torch.randint(3, (2, 64, 96), generator=generator)
    valid = torch.zeros(2, 64, 96, dtype=torch.bool)
    valid[0], valid[1, :50, :70] = True, True
    gradients = []
    for kernel in NORM_KERNELS:
        torch.manual_seed(0)
        model = build_model(
            "veernet-tiny",
            num_classes=3,
            norm_groups=norm_groups,
            norm_precision="fp32",
            checkpointing="none",
            padding=padding,
            norm_kernel=kernel,
        ).double()
        tversky_loss_sum(model(images, valid), targets, valid).backward()
        gradients.append(torch.cat([one.grad.flatten() for one in model.parameters() if one.grad is not None]))
    assert (gradients[1] - gradients[0]).norm() < 1e-10 * gradients[0].norm()


def test_its_name_is_shown() -> None:
    assert "kernel=split" in repr(group_norm("split"))
    assert "kernel" not in repr(group_norm("native"))
