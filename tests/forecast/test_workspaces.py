"""What libraries take beside tensors."""

from __future__ import annotations

import pytest
from traces_by_hand import convolution, operator

from vnbench.forecast.workspaces import MIB, cublas_bytes, ddp_bytes, with_unseen, workspace_of
from vnbench.records.readings import ByteRange


@pytest.mark.parametrize(("dtype", "is_tf32"), [("bfloat16", False), ("float16", False), ("float32", True)])
def test_a_half_or_tf32_convolution_copies_its_maps_at_most(dtype: str, is_tf32: bool) -> None:
    one = operator(dtype=dtype, convolution=convolution())
    assert workspace_of(one, is_tf32=is_tf32) == ByteRange(0, 3000)


def test_maps_in_channels_last_are_taken_as_they_are_where_channels_are_aligned() -> None:
    aligned = operator(dtype="bfloat16", convolution=convolution(is_channels_last=True))
    odd = operator(dtype="bfloat16", convolution=convolution(is_channels_last=True, in_channels=1))
    assert workspace_of(aligned, is_tf32=False) == ByteRange(0, 0)
    assert workspace_of(odd, is_tf32=False) == ByteRange(0, 3000)


def test_an_fp32_convolution_takes_a_copy_of_its_input_at_most() -> None:
    assert workspace_of(operator(convolution=convolution()), is_tf32=False) == ByteRange(0, 1000)
    depthwise = convolution(groups=16)
    assert workspace_of(operator(convolution=depthwise), is_tf32=False) == ByteRange(0, 0)


def test_an_fp32_convolution_of_many_channels_may_hold_its_maps_as_tiles() -> None:
    """36 numbers of a tile for 16 of a map, and 36 of a filter for its 9."""
    wide = {"in_channels": 64, "out_channels": 64}
    one = operator(convolution=convolution(**wide))
    assert workspace_of(one, is_tf32=False) == ByteRange(0, 3000 * 36 // 16 + 100 * 36 // 9)
    for other in ({"stride": (2, 2)}, {"dilation": (2, 2)}, {"kernel_size": (1, 1)}, {"out_channels": 32}):
        assert workspace_of(operator(convolution=convolution(**(wide | other))), is_tf32=False) == ByteRange(0, 1000)


def test_room_is_left_for_what_no_rule_tells() -> None:
    assert with_unseen(100 * MIB, 150 * MIB) == ByteRange(98 * MIB, 350 * MIB)
    assert with_unseen(150 * MIB, 100 * MIB) == ByteRange(98 * MIB, 350 * MIB)
    assert with_unseen(10_000 * MIB, 10_100 * MIB) == ByteRange(9_800 * MIB, 10_800 * MIB)


def test_ddp_holds_gradients_once_more() -> None:
    assert ddp_bytes(4 * 1000) == 4000


def test_attention_backward_of_cudnn_may_sum_up_the_gradient_of_queries_in_fp32() -> None:
    cudnn = operator("aten._scaled_dot_product_cudnn_attention_backward.default", dtype="bfloat16", bytes_written=300)
    flash = operator("aten._scaled_dot_product_flash_attention_backward.default", dtype="bfloat16", bytes_written=300)
    assert workspace_of(cudnn, is_tf32=False) == ByteRange(0, 200)
    assert workspace_of(flash, is_tf32=False) == ByteRange(0, 0)


def test_cublas_keeps_more_on_hopper_and_blackwell() -> None:
    assert cublas_bytes((9, 0)) == cublas_bytes((12, 0)) == 32 * MIB
    assert cublas_bytes((8, 9)) == cublas_bytes((7, 0)) == 8_519_680


def test_an_operator_without_a_rule_takes_nothing() -> None:
    assert workspace_of(operator(), is_tf32=True) == ByteRange(0, 0)
