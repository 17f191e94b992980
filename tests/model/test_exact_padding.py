"""Padding that is truly neutral: what the network makes of an image does not depend on its canvas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vnbench.model.loss import tversky_loss_sum
from vnbench.model.normalization import ExplicitGroupNorm
from vnbench.model.veernet import VeerNet, build_model

SIZES = ((70, 150), (33, 90), (96, 40))
"""Height and width in pixels; none is aligned."""


def network(**changes: Any) -> VeerNet:
    torch.manual_seed(3)
    options: dict[str, Any] = {
        "num_classes": 3,
        "norm_groups": "half-or-16",
        "norm_precision": "fp32",
        "checkpointing": "none",
        "padding": "exact",
    }
    return build_model("veernet-tiny", **(options | changes)).double()


def examples() -> list[tuple[Tensor, Tensor]]:
    random = torch.Generator().manual_seed(4)
    return [
        (
            torch.rand(1, *size, generator=random, dtype=torch.float64),
            torch.randint(3, size, generator=random),
        )
        for size in SIZES
    ]


def canvas_of(chosen: Sequence[tuple[Tensor, Tensor]], *, extra: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return images, targets and mask on the smallest aligned canvas, and so many aligned pixels more to both sides."""
    height, width = (32 * -(-max(image.shape[side] for image, _ in chosen) // 32) + extra for side in (1, 2))

    def padded(one: Tensor, value: float) -> Tensor:
        return F.pad(one, (0, width - one.shape[-1], 0, height - one.shape[-2]), value=value)

    images = torch.stack([padded(image, 0.0) for image, _ in chosen])
    targets = torch.stack([padded(target, 0) for _, target in chosen])
    valid = torch.stack([padded(torch.ones_like(target, dtype=torch.bool), 0) for _, target in chosen])
    return images, targets, valid


def trained(model: nn.Module, chosen: Sequence[tuple[Tensor, Tensor]], *, extra: int, share: int = 1) -> list[Tensor]:
    """Add the gradient of some examples to the model's; return their logits, cut to their sizes."""
    images, targets, valid = canvas_of(chosen, extra=extra)
    logits = model(images, valid)
    (tversky_loss_sum(logits, targets, valid) / share).backward()
    return [one.detach()[:, : image.shape[1], : image.shape[2]] for one, (image, _) in zip(logits, chosen, strict=True)]


def gradient(model: nn.Module) -> Tensor:
    parts = [parameter.grad for parameter in model.parameters()]
    assert all(part is not None for part in parts)
    return torch.cat([part.flatten() for part in parts if part is not None])


@pytest.mark.parametrize("extra", [32, 96, 320])
@pytest.mark.parametrize(
    "options", [{}, {"checkpointing": "stages"}, {"checkpointing": "selective"}, {"norm_groups": "4"}]
)
def test_outputs_and_gradients_do_not_depend_on_the_canvas(extra: int, options: dict[str, Any]) -> None:
    alone, padded = network(**options), network(**options)
    for example in examples():
        (expected,) = trained(alone, [example], extra=0)
        (found,) = trained(padded, [example], extra=extra)
        assert (found - expected).abs().max() < 1e-10
    assert (gradient(padded) - gradient(alone)).norm() < 1e-10 * gradient(alone).norm()


@pytest.mark.parametrize("extra", [32, 320])
def test_in_fp32_outputs_agree_to_a_millionth_and_gradients_to_a_thousandth(extra: int) -> None:
    """What rounding leaves; 1e-10 holds in float64 only."""
    alone, padded = network().float(), network().float()
    for image, target in examples():
        (expected,) = trained(alone, [(image.float(), target)], extra=0)
        (found,) = trained(padded, [(image.float(), target)], extra=extra)
        assert 1e-10 < (found - expected).norm() / expected.norm() < 2e-6
    assert 1e-10 < (gradient(padded) - gradient(alone)).norm() / gradient(alone).norm() < 1e-3


def test_a_batch_of_ragged_images_equals_its_images_one_by_one_in_any_grouping() -> None:
    batch = examples()
    whole = network()
    expected = trained(whole, batch, extra=0, share=3)
    for grouping in ([[0], [1], [2]], [[0, 1], [2]], [[2, 0], [1]]):
        model = network()
        outputs: dict[int, Tensor] = {}
        for group in grouping:
            outputs |= dict(
                zip(group, trained(model, [batch[index] for index in group], extra=0, share=3), strict=True)
            )
        for index, one in enumerate(expected):
            assert (outputs[index] - one).abs().max() < 1e-10
        assert (gradient(model) - gradient(whole)).norm() < 1e-10 * gradient(whole).norm()


def test_plain_padding_leaks() -> None:
    """Else the tests above would find nothing."""
    alone, padded = network(padding="plain"), network(padding="plain")
    (example, *_) = examples()
    (expected,) = trained(alone, [example], extra=0)
    (found,) = trained(padded, [example], extra=96)
    assert (found - expected).abs().max() > 1e-3


def test_a_mask_after_the_softmax_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of padded keys that are dropped after they took their share of the softmax leave the others too small."""

    def wrong(query: Tensor, key: Tensor, value: Tensor, *, attn_mask: Tensor | None) -> Tensor:
        weights = (query @ key.transpose(2, 3) / query.shape[3] ** 0.5).softmax(dim=3)
        return (weights if attn_mask is None else weights * attn_mask) @ value

    monkeypatch.setattr(F, "scaled_dot_product_attention", wrong)
    (example, *_) = examples()
    (expected,) = trained(network(), [example], extra=0)
    (found,) = trained(network(), [example], extra=96)
    assert (found - expected).abs().max() > 1e-6


def test_on_a_canvas_without_padding_both_paddings_are_the_same() -> None:
    random = torch.Generator().manual_seed(5)
    images = torch.rand(2, 1, 64, 96, generator=random, dtype=torch.float64)
    valid = torch.ones(2, 64, 96, dtype=torch.bool)
    exact, plain = network(), network(padding="plain")
    assert (exact(images, valid) - plain(images)).abs().max() < 1e-10


def test_a_masked_norm_has_the_statistics_of_the_valid_pixels() -> None:
    norm = ExplicitGroupNorm(8, num_groups=2, precision="fp32").double()
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.uniform_(-1, 1)
    x = torch.randn(2, 8, 6, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    mask = torch.zeros(2, 1, 6, 10, dtype=torch.bool)
    mask[0, :, :4, :7] = True
    mask[1, :, :6, :2] = True
    found = norm(x, mask)
    assert (found[0, :, :4, :7] - norm(x[:1, :, :4, :7])[0]).abs().max() < 1e-12
    assert (found[1, :, :, :2] - norm(x[1:, :, :, :2])[0]).abs().max() < 1e-12
    assert not found.masked_select(~mask).any()


def test_in_low_precision_statistics_stay_in_fp32() -> None:
    """A mean of 1,000 with a spread of 1 has no variance in half precision."""
    norm = ExplicitGroupNorm(4, num_groups=1, precision="input")
    x = 1000 + torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(7))
    mask = torch.ones(1, 1, 32, 32, dtype=torch.bool)
    found = norm(x.bfloat16(), mask)
    assert found.dtype == torch.bfloat16
    assert float(found.detach().float().std()) == pytest.approx(1.0, rel=0.02)


def test_exact_padding_needs_a_mask() -> None:
    with pytest.raises(ValueError, match="needs valid_BHW"):
        network()(torch.zeros(1, 1, 32, 32, dtype=torch.float64))
