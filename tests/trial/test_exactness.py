from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vnbench.model import veernet
from vnbench.model.veernet import build_model
from vnbench.records.spec.words import ModelName, Padding
from vnbench.trial.checks.exactness import TOLERANCE, find_leak


def preset(name: ModelName, padding: Padding) -> nn.Module:
    torch.manual_seed(0)
    return build_model(
        name,
        num_classes=3,
        norm_groups="half-or-16",
        norm_precision="fp32",
        checkpointing="none",
        padding=padding,
    )


class Chain(nn.Module):
    """Zeros the padding before each convolution and after each norm, so that one planted fault is all there is."""

    def __init__(self, *, bias: bool = False, norm: nn.Module | None = None, up: nn.Module | None = None) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1, bias=bias)
        self.is_biased = bias
        self.second = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.norm = norm or nn.Identity()
        self.up = up
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, images_BCHW: Tensor, valid_BHW: Tensor) -> Tensor:
        mask = valid_BHW[:, None]
        x = self.first(images_BCHW)
        x = x if self.is_biased else x * mask
        x = self.norm(self.second(x) * mask) * mask
        if self.up is not None:
            x = self.up(x[:, :, ::2, ::2])
        logits: Tensor = self.head(x)
        return logits


class Bilinear(nn.Module):
    """A function in a module that has children, as interpolate within a stage is."""

    def __init__(self) -> None:
        super().__init__()
        self.after = nn.Conv2d(8, 8, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.after(F.interpolate(x, scale_factor=2, mode="bilinear"))
        return y


@pytest.mark.parametrize("name", ["veernet", "veernet-tiny"])
def test_presets_with_exact_padding_leak_nothing(name: ModelName) -> None:
    assert find_leak(preset(name, "exact")) is None


def test_plain_padding_is_found_at_the_first_norm() -> None:
    leak = find_leak(preset("veernet-tiny", "plain"))
    assert leak is not None
    assert leak.logits_error > 0.1
    assert leak.where.startswith("first at stem.norm (ExplicitGroupNorm)")


def test_a_chain_that_masks_everything_is_exact() -> None:
    assert find_leak(Chain()) is None


@pytest.mark.parametrize(
    ("make", "where", "why"),
    [
        (lambda: Chain(norm=nn.BatchNorm2d(8)), "norm (BatchNorm2d)", "its statistics count padded pixels"),
        (lambda: Chain(norm=nn.GroupNorm(2, 8)), "norm (GroupNorm)", "its statistics count padded pixels"),
        (lambda: Chain(norm=nn.InstanceNorm2d(8)), "norm (InstanceNorm2d)", "its statistics count padded pixels"),
        (lambda: Chain(bias=True), "second (Conv2d)", "padding that first (Conv2d) left nonzero (its bias)"),
        (lambda: Chain(up=nn.Upsample(scale_factor=2, mode="bilinear")), "up (Upsample)", "across the border"),
        (lambda: Chain(up=Bilinear()), "up.after (Conv2d)", "its input already differs"),
    ],
)
def test_the_module_that_leaks_is_named_with_its_reason(make: Callable[[], nn.Module], where: str, why: str) -> None:
    torch.manual_seed(0)
    leak = find_leak(make())
    assert leak is not None
    assert leak.logits_error > 1e-4 > TOLERANCE
    assert f"first at {where}, whose output differs by" in leak.where
    assert why in leak.where


def test_a_mask_after_the_softmax_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def masked_too_late(query: Tensor, key: Tensor, value: Tensor, *, attn_mask: Tensor) -> Tensor:
        weights = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(-1)
        return (weights * attn_mask) @ value

    monkeypatch.setattr(veernet.F, "scaled_dot_product_attention", masked_too_late)
    leak = find_leak(preset("veernet-tiny", "exact"))
    assert leak is not None
    assert "attention.blocks.0.projection" in leak.where


def test_a_network_that_takes_no_mask_is_tried_without_one() -> None:
    leak = find_leak(preset("veernet-tiny", "plain"), takes_mask=False)
    assert leak is not None
