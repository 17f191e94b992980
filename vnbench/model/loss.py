"""The objective: the Tversky loss of each example over its valid pixels, summed over examples.

Tversky loss is a ratio of sums, so the order of reduction matters. Sums over a whole batch would make the objective
depend on how examples are grouped. Here each example has its own loss, and the caller divides by the number of examples
of the whole optimizer step. Any grouping into micro-batches then gives the same gradient, except for the effect of
padding on the network.
"""

from __future__ import annotations

import torch
from torch import Tensor

TVERSKY_ALPHA = 0.3
"""Weight of false positives. It is smaller than that of false negatives to favour recall: curves are 1 to 3 px wide."""

TVERSKY_BETA = 0.7
"""Weight of false negatives."""

TVERSKY_SMOOTH = 1.0
"""Pixels added to numerator and denominator, so that a class without pixels has an index. Independent of the canvas."""


def tversky_loss_sum(
    logits_BKHW: Tensor,
    targets_BHW: Tensor,
    valid_BHW: Tensor,
    *,
    alpha: float = TVERSKY_ALPHA,
    beta: float = TVERSKY_BETA,
    smooth: float = TVERSKY_SMOOTH,
    ignored_class: int | None = None,
) -> Tensor:
    """Return the sum of the examples' Tversky losses, a scalar in fp32, or in float64 for float64 logits.

    The loss of an example is the mean over all K classes, background included, of ``1 - TI`` with

        TI = (TP + smooth) / (TP + alpha * FP + beta * FN + smooth)

    and TP, FP, FN the sums over its valid pixels of p * g, p * (1 - g), (1 - p) * g, where p is the softmax of the
    logits and g is 1 at pixels of the class (Salehi et al. 2017, arXiv 1706.05721, section 2; ``alpha`` weighs false
    positives there and here, while Abraham and Khan 2018, arXiv 1810.07842, swap the letters). A class that an example
    lacks has TI = smooth / (smooth + alpha * FP). An example without valid pixels has loss 0.

    Padding has no influence: the loss is the same for any logits there, including NaN and infinity, and their gradient
    is exactly zero.

    Args:
        logits_BKHW: floating point.
        targets_BHW: class index of each pixel, uint8 or int64; anything at padded pixels.
        valid_BHW: bool, False at padded pixels.
        alpha: weight of false positives, not negative.
        beta: weight of false negatives, not negative.
        smooth: pixels, positive.
        ignored_class: target of pixels to ignore like padding; None for none.

    Raises:
        ValueError: shapes do not match, the mask is not bool, or a weight is out of range.
    """
    _check_pixels(logits_BKHW, targets_BHW, valid_BHW)
    if alpha < 0 or beta < 0 or smooth <= 0:
        raise ValueError(f"alpha {alpha}, beta {beta}, smooth {smooth}: weights must be >= 0, smooth must be > 0")
    if ignored_class is not None:
        valid_BHW = valid_BHW & (targets_BHW != ignored_class)
    # Sums of millions of terms are too long for reduced precision.
    dtype = torch.promote_types(logits_BKHW.dtype, torch.float32)
    pixels = (1, 2)
    losses_B: list[Tensor] = []
    with torch.autocast(logits_BKHW.device.type, enabled=False):
        # Replace before the softmax rather than multiply after it: 0 * NaN is NaN, in the loss and in the gradient.
        p_BKHW = torch.where(valid_BHW[:, None], logits_BKHW, 0).softmax(dim=1, dtype=dtype)
        # One class at a time, with masks that select (torch.where) rather than multiply: besides the probabilities,
        # only one byte per pixel and class is kept for the backward pass, whose peak is 36 bytes per pixel for three
        # classes.
        for class_index, p_BHW in enumerate(p_BKHW.unbind(dim=1)):
            is_class_BHW = (targets_BHW == class_index).logical_and_(valid_BHW)
            true_positives_B = torch.where(is_class_BHW, p_BHW, 0).sum(pixels)
            false_positives_B = torch.where(valid_BHW, p_BHW, 0).sum(pixels) - true_positives_B
            false_negatives_B = is_class_BHW.sum(pixels) - true_positives_B
            errors_B = alpha * false_positives_B + beta * false_negatives_B
            losses_B.append(1 - (true_positives_B + smooth) / (true_positives_B + errors_B + smooth))
        return torch.stack(losses_B).mean(dim=0).sum()


def _check_pixels(logits_BKHW: Tensor, targets_BHW: Tensor, valid_BHW: Tensor) -> None:
    """Raise ValueError unless the three tensors describe the same pixels: broadcasting would hide a mistake."""
    if logits_BKHW.dim() != 4:
        raise ValueError(f"logits of shape {tuple(logits_BKHW.shape)}: must be (B, K, H, W)")
    expected = (logits_BKHW.shape[0], *logits_BKHW.shape[2:])
    for name, tensor in (("targets", targets_BHW), ("valid", valid_BHW)):
        if tuple(tensor.shape) != expected:
            raise ValueError(f"{name} of shape {tuple(tensor.shape)}: must be {expected}, to match the logits")
    if valid_BHW.dtype != torch.bool:
        raise ValueError(f"valid of dtype {valid_BHW.dtype}: must be torch.bool")
