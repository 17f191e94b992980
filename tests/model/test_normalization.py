from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from vnbench.model.normalization import ExplicitGroupNorm, ExplicitLayerNorm, NormConfig, num_groups
from vnbench.records.spec.words import NormPrecision


def group_norm(precision: NormPrecision) -> ExplicitGroupNorm:
    norm = ExplicitGroupNorm(8, num_groups=2, precision=precision)
    generator = torch.Generator().manual_seed(1)
    torch.nn.init.normal_(norm.weight, generator=generator)
    torch.nn.init.normal_(norm.bias, generator=generator)
    return norm


def feature_map(dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 8, 4, 6, generator=generator, dtype=torch.float64).mul(3).add(1).to(dtype)


@pytest.mark.parametrize(
    ("channels", "rule", "expected"),
    [
        (1, "half-or-16", 1),
        (4, "half-or-16", 1),
        (8, "half-or-16", 1),
        (16, "half-or-16", 1),
        (24, "half-or-16", 1),
        (32, "half-or-16", 2),
        (33, "half-or-16", 1),
        (48, "half-or-16", 2),
        (64, "half-or-16", 2),
        (128, "half-or-16", 2),
        (4, "16", 4),
        (16, "16", 16),
        (24, "16", 12),
        (33, "16", 11),
        (128, "16", 16),
        (128, "1", 1),
        (128, "1000", 128),
        (7, "4", 1),
    ],
)
def test_number_of_groups_follows_the_rule(channels: int, rule: str, expected: int) -> None:
    assert num_groups(channels, rule) == expected


@given(channels=st.integers(1, 512), rule=st.just("half-or-16") | st.integers(1, 600).map(str))
def test_number_of_groups_divides_the_channels(channels: int, rule: str) -> None:
    groups = num_groups(channels, rule)
    assert groups >= 1
    assert channels % groups == 0
    assert groups <= (2 if rule == "half-or-16" else int(rule))


@pytest.mark.parametrize("rule", ["half", "0", "-1", "", "1.5"])
def test_unknown_group_rule_is_refused(rule: str) -> None:
    with pytest.raises(ValueError, match="half-or-16"):
        num_groups(32, rule)


def test_groups_of_no_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="channels 0"):
        num_groups(0, "half-or-16")


def test_groups_that_do_not_divide_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="must divide"):
        ExplicitGroupNorm(8, num_groups=3, precision="fp32")


@pytest.mark.parametrize(("precision", "expected"), [("fp32", torch.float32), ("input", torch.bfloat16)])
@pytest.mark.parametrize("kind", ["group", "layer"])
def test_norm_precision_sets_the_dtype_under_bf16_autocast(
    kind: str, precision: NormPrecision, expected: torch.dtype
) -> None:
    x = feature_map(torch.bfloat16).requires_grad_()
    norm = group_norm(precision) if kind == "group" else ExplicitLayerNorm(6, precision=precision)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = norm(x)
    y.sum().backward()
    assert y.dtype == expected
    assert x.grad is not None
    assert x.grad.dtype == torch.bfloat16
    assert norm.weight.grad is not None
    assert norm.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("precision", ["fp32", "input"])
def test_norm_keeps_full_precision_input_as_it_is(precision: NormPrecision, dtype: torch.dtype) -> None:
    norm = group_norm(precision).to(dtype)
    x = feature_map(dtype)
    y = norm(x)
    assert y.dtype == dtype
    assert torch.equal(y, F.group_norm(x, 2, norm.weight, norm.bias))


def test_float64_map_is_normalized_in_float64_even_by_fp32_weights() -> None:
    assert group_norm("fp32")(feature_map(torch.float64)).dtype == torch.float64


def test_fp32_norm_of_a_bf16_map_equals_the_norm_of_its_fp32_copy() -> None:
    norm = group_norm("fp32")
    x = feature_map(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(norm(x), F.group_norm(x.float(), 2, norm.weight, norm.bias))


def test_input_norm_of_a_bf16_map_is_as_near_as_bf16_allows() -> None:
    norm = group_norm("input")
    x = feature_map(torch.bfloat16)
    exact = F.group_norm(x.double(), 2, norm.weight.double(), norm.bias.double())
    # Weight, bias, mean and deviation are rounded to 8 bits each.
    torch.testing.assert_close(norm(x).double(), exact, rtol=0.02, atol=0.04)


def test_norm_config_makes_norms_of_its_rule_and_precision() -> None:
    config = NormConfig(groups="16", precision="input")
    norm = config.group_norm(64)
    assert (norm.num_channels, norm.num_groups, norm.precision) == (64, 16, "input")
    assert (config.layer_norm(64).dim, config.layer_norm(64).precision) == (64, "input")
    assert "num_groups=16" in repr(norm)
    assert "precision=input" in repr(config.layer_norm(64))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("reduced", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("precision", ["fp32", "input"])
@pytest.mark.parametrize("kind", ["group", "layer"])
def test_norm_precision_overrules_the_autocast_list_of_cuda(
    kind: str, precision: NormPrecision, reduced: torch.dtype
) -> None:
    norm = group_norm(precision) if kind == "group" else ExplicitLayerNorm(6, precision=precision)
    with torch.autocast("cuda", dtype=reduced):
        y = norm.cuda()(feature_map(reduced).cuda())
    assert y.dtype == (torch.float32 if precision == "fp32" else reduced)
