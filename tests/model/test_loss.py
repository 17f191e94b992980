from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vnbench.model.loss import TVERSKY_ALPHA, TVERSKY_BETA, tversky_loss_sum

GARBAGE = [math.nan, math.inf, -math.inf, 1e30, -1e30]


def ragged_batch(num_classes: int = 3, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits, targets and validity of three examples on one canvas of 24 x 40 pixels."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, num_classes, 24, 40, generator=generator, dtype=torch.float64).to(dtype)
    targets = torch.randint(0, num_classes, (3, 24, 40), generator=generator)
    valid = torch.zeros(3, 24, 40, dtype=torch.bool)
    for example, (height, width) in enumerate([(24, 31), (17, 40), (5, 7)]):
        valid[example, :height, :width] = True
    return logits, targets, valid


def loss_and_gradient(logits: Tensor, targets: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    leaf = logits.clone().requires_grad_()
    loss = tversky_loss_sum(leaf, targets, valid)
    loss.backward()
    assert leaf.grad is not None
    return loss.detach(), leaf.grad


def test_loss_equals_the_hand_worked_value() -> None:
    # Probabilities of class 1: 3/4, 1/4, 1/2, and a padded pixel. Classes: 1, 0, 1.
    # Class 1: TP 1.25, FP 0.25, FN 0.75; class 0: TP 0.75, FP 0.75, FN 0.25.
    logits = torch.zeros(1, 2, 1, 4, dtype=torch.float64)
    logits[0, 1, 0] = torch.tensor([math.log(3), -math.log(3), 0.0, 5.0])
    targets = torch.tensor([[[1, 0, 1, 1]]])
    valid = torch.tensor([[[True, True, True, False]]])
    index_1 = (1.25 + 1) / (1.25 + 0.3 * 0.25 + 0.7 * 0.75 + 1)
    index_0 = (0.75 + 1) / (0.75 + 0.3 * 0.75 + 0.7 * 0.25 + 1)
    loss = tversky_loss_sum(logits, targets, valid, alpha=0.3, beta=0.7, smooth=1.0)
    assert loss.shape == ()
    # torch.tensor rounds the logarithms to fp32.
    assert loss.item() == pytest.approx(1 - (index_0 + index_1) / 2, abs=1e-7)
    assert (TVERSKY_ALPHA, TVERSKY_BETA) == (0.3, 0.7)


def test_class_that_an_example_lacks_is_judged_by_its_false_positives() -> None:
    # Four pixels of class 0 at probability 1/2. Class 0: TP 2, FN 2; class 1: FP 2.
    loss = tversky_loss_sum(
        torch.zeros(1, 2, 2, 2, dtype=torch.float64),
        torch.zeros(1, 2, 2, dtype=torch.int64),
        torch.ones(1, 2, 2, dtype=torch.bool),
    )
    assert loss.item() == pytest.approx(1 - (3 / (2 + 0.7 * 2 + 1) + 1 / (1 + 0.3 * 2)) / 2, abs=1e-12)


def test_half_and_half_without_smoothing_approaches_the_dice_loss() -> None:
    logits, targets, valid = ragged_batch(num_classes=2)
    p = logits[:1].softmax(1)
    g = torch.stack((targets[:1] == 0, targets[:1] == 1), dim=1) & valid[:1, None]
    overlap = (p * g).sum((2, 3))
    dice = 2 * overlap / ((p * valid[:1, None]).sum((2, 3)) + g.sum((2, 3)))
    loss = tversky_loss_sum(logits[:1], targets[:1], valid[:1], alpha=0.5, beta=0.5, smooth=1e-12)
    assert loss.item() == pytest.approx(1 - dice.mean().item(), abs=1e-12)


def test_certain_and_right_logits_cost_nothing() -> None:
    _, targets, valid = ragged_batch()
    logits = torch.stack([torch.where(targets == k, 1e3, -1e3) for k in range(3)], dim=1)
    assert tversky_loss_sum(logits, targets, valid).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("garbage", GARBAGE)
def test_gradient_at_padded_logits_is_exactly_zero(garbage: float) -> None:
    logits, targets, valid = ragged_batch()
    padded = ~valid[:, None].expand_as(logits)
    _, gradient = loss_and_gradient(logits.masked_fill(padded, garbage), targets, valid)
    assert torch.equal(gradient[padded], torch.zeros_like(gradient[padded]))


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_padding_content_changes_neither_loss_nor_gradient(garbage: float, dtype: torch.dtype) -> None:
    logits, targets, valid = ragged_batch(dtype=dtype)
    loss, gradient = loss_and_gradient(logits, targets, valid)
    other_logits = logits.masked_fill(~valid[:, None], garbage)
    other_targets = targets.masked_fill(~valid, 255)
    other_loss, other_gradient = loss_and_gradient(other_logits, other_targets, valid)
    assert torch.equal(loss, other_loss)
    assert torch.equal(gradient, other_gradient)


def test_loss_is_that_of_the_examples_cropped_to_their_valid_pixels() -> None:
    logits, targets, valid = ragged_batch()
    cropped = [
        tversky_loss_sum(logits[i : i + 1, :, :h, :w], targets[i : i + 1, :h, :w], valid[i : i + 1, :h, :w])
        for i, (h, w) in enumerate([(24, 31), (17, 40), (5, 7)])
    ]
    assert tversky_loss_sum(logits, targets, valid).item() == pytest.approx(sum(x.item() for x in cropped), abs=1e-12)


def test_examples_do_not_influence_each_other() -> None:
    logits, targets, valid = ragged_batch()
    loss, gradient = loss_and_gradient(logits, targets, valid)
    parts = [loss_and_gradient(logits[i : i + 1], targets[i : i + 1], valid[i : i + 1]) for i in range(3)]
    assert loss.item() == pytest.approx(sum(part.item() for part, _ in parts), abs=1e-12)
    torch.testing.assert_close(gradient, torch.cat([part for _, part in parts]), rtol=0, atol=1e-15)


def test_example_without_valid_pixels_has_no_loss_and_no_gradient() -> None:
    logits, targets, valid = ragged_batch()
    loss, gradient = loss_and_gradient(logits, targets, torch.zeros_like(valid))
    assert loss.item() == 0
    assert not gradient.any()


def test_gradient_is_the_derivative_of_the_loss() -> None:
    logits, targets, valid = ragged_batch()
    window = (slice(None), slice(None), slice(3, 6), slice(5, 9))
    pixels = (window[0], *window[2:])
    leaf = logits[window].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: tversky_loss_sum(x, targets[pixels], valid[pixels]), (leaf,))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_loss_of_reduced_logits_is_computed_in_fp32_even_under_autocast(dtype: torch.dtype) -> None:
    logits, targets, valid = ragged_batch(dtype=dtype)
    expected = tversky_loss_sum(logits.double(), targets, valid)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = tversky_loss_sum(logits, targets, valid)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_targets_may_be_uint8_or_int64() -> None:
    logits, targets, valid = ragged_batch()
    narrow = targets.masked_fill(~valid, 255).to(torch.uint8)
    assert torch.equal(tversky_loss_sum(logits, targets, valid), tversky_loss_sum(logits, narrow, valid))


def test_shapes_that_would_broadcast_are_refused() -> None:
    logits, targets, valid = ragged_batch()
    with pytest.raises(ValueError, match="valid of shape"):
        tversky_loss_sum(logits, targets, valid[:1])
    with pytest.raises(ValueError, match="targets of shape"):
        tversky_loss_sum(logits, targets[:, None], valid)
    with pytest.raises(ValueError, match="logits of shape"):
        tversky_loss_sum(logits[0], targets, valid)
    with pytest.raises(ValueError, match=r"must be torch\.bool"):
        tversky_loss_sum(logits, targets, valid.to(torch.uint8))


@pytest.mark.parametrize(("alpha", "beta", "smooth"), [(-0.1, 0.7, 1.0), (0.3, -0.1, 1.0), (0.3, 0.7, 0.0)])
def test_weights_outside_their_domain_are_refused(alpha: float, beta: float, smooth: float) -> None:
    logits, targets, valid = ragged_batch()
    with pytest.raises(ValueError, match="smooth must be > 0"):
        tversky_loss_sum(logits, targets, valid, alpha=alpha, beta=beta, smooth=smooth)


def test_ignored_pixels_are_left_out_as_padding_is() -> None:
    logits, targets, valid = ragged_batch()
    marked = targets.clone()
    marked[:, 3:9, 2:30] = 255
    left_out = valid & (marked != 255)
    leaf = logits.clone().requires_grad_()
    loss = tversky_loss_sum(leaf, marked, valid, ignored_class=255)
    loss.backward()
    expected, gradient = loss_and_gradient(logits, targets, left_out)
    assert torch.equal(loss, expected)
    assert leaf.grad is not None
    assert torch.equal(leaf.grad, gradient)
    assert not torch.equal(loss, tversky_loss_sum(logits, targets, valid))


def test_an_example_that_is_ignored_as_a_whole_costs_nothing() -> None:
    logits, targets, valid = ragged_batch()
    loss = tversky_loss_sum(logits, torch.full_like(targets, 255), valid, ignored_class=255)
    assert loss.item() == pytest.approx(0, abs=1e-12)
