"""The check that a pass with tensors of more than 2^31 elements computes the same as smaller passes.

Such tensors occur in normal operation (a map of 48 channels in a pass of six images of 640 x 12,800), and kernels that
count elements in 32 bits have failed there or silently returned zeros (github.com/pytorch/pytorch/issues/141831). Zeros
cost next to nothing, so such a pass would look fast.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vnbench.batching.alignment import align
from vnbench.images.drawing.raster import draw_example
from vnbench.loading.collate import Batch, collate, to_device
from vnbench.records.failures import classify
from vnbench.records.readings import EqualityReading, LargeTensorReading
from vnbench.records.record import Cause, TrialRecord
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.trial.checks.soundness import error_told
from vnbench.trial.instruments.memory import free_unheld_memory, is_cuda_full, num_cuda_ooms
from vnbench.trial.step.fake_network import faked
from vnbench.trial.step.network import SMALLEST_SIDE, build_network, mixes_examples, takes_mask, without_dropout
from vnbench.trial.step.optimizer_step import OptimizerStep, build_step
from vnbench.units import count

INDEX_LIMIT = 2**31
"""Number of elements from which signed 32-bit integers overflow."""

MAX_ELEMENTS_PER_PIXEL = 256
"""Upper bound of a preset's largest tensor per input pixel: passes that cannot reach the limit are not traced."""

MIN_TOLERANCE = 0.01
"""Relative difference that counts as equal in any precision: wrong zeros fill whole strips, and where rounding flips a
ReLU, even fp32 differs from itself by a thousandth."""

STRIP_ROWS = 32
"""Rows of the logits to compare at a time, so that zeros at the end of a map are not averaged away."""


def find_large_tensors(spec: TrialSpec, *, num_examples: int, height: int, width: int) -> LargeTensorReading | None:
    """Return the size of a pass's largest tensor, without a comparison, if it reaches INDEX_LIMIT; else None.

    ``height`` and ``width`` are those of the examples, in pixels. No memory is used and nothing is computed.
    """
    num_pixels = num_examples * int(align(height)) * int(align(width))
    if spec.model_id is None and num_pixels * MAX_ELEMENTS_PER_PIXEL < INDEX_LIMIT:
        return None
    num_elements = largest_tensor(spec, num_examples=num_examples, height=height, width=width)
    if num_elements < INDEX_LIMIT:
        return None
    return LargeTensorReading(num_elements=num_elements, height=height, width=width, num_examples=num_examples)


def largest_tensor(spec: TrialSpec, *, num_examples: int, height: int, width: int) -> int:
    """Return the number of elements of the largest tensor in the forward pass of some examples.

    Only shapes are traced. A user's own network that depends on values is run on a small canvas instead, and its
    largest tensor is assumed to grow with the pixels.
    """
    canvas = (int(align(height)), int(align(width)))
    with torch.random.fork_rng(devices=[]):
        network = build_network(spec)
        try:
            with faked(network) as fake:
                return _largest_in(spec, fake, num_examples, *canvas)
        except Exception:
            if spec.model_id is None:
                raise
        on_small = _largest_in(spec, network, 1, SMALLEST_SIDE, SMALLEST_SIDE)
    return on_small * num_examples * math.prod(canvas) // SMALLEST_SIDE**2


def _largest_in(spec: TrialSpec, network: nn.Module, *images_BHW: int) -> int:
    with _LargestTensor() as largest, torch.no_grad():
        num_examples, height, width = images_BHW
        inputs: list[Tensor] = [torch.zeros(num_examples, 1, height, width)]
        if takes_mask(spec):
            inputs.append(torch.ones(images_BHW, dtype=torch.bool))
        network(*inputs)
    return int(largest.num_elements)


class _LargestTensor(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch 2.13 leaves it untyped
    """Records the size of the largest tensor that any operation returns."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.num_elements = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self.num_elements = max([self.num_elements, *sizes])
        return result


def compare_with_parts(
    spec: TrialSpec, reading: LargeTensorReading, *, equality: EqualityReading
) -> LargeTensorReading:
    """Return the reading with the differences between a pass and the same examples in parts with small tensors.

    The parts are two halves, or more if needed. The tolerance is that of a step on a small canvas. No comparison is
    made if it does not fit into memory, if no division makes tensors small enough, or if examples affect each other (as
    with BatchNorm).
    """
    part_size = INDEX_LIMIT // math.ceil(reading.num_elements / reading.num_examples)
    part_size = min(part_size, math.ceil(reading.num_examples / 2))
    if part_size < 1 or reading.num_examples < 2:
        return reading
    device = torch.device(spec.device)
    try:
        return _compared(spec, reading, device, part_size=part_size, equality=equality)
    except Exception as error:
        status, _ = classify(
            error,
            num_device_ooms=num_cuda_ooms(),
            is_device_full=is_cuda_full(),
            has_memory_limit=spec.memory_limit_bytes is not None,
        )
        if status != "oom":
            raise
        return reading
    finally:
        # Nothing holds the compared tensors now; without this, they would stay in the trial's reserved peak.
        free_unheld_memory(device)


def _compared(
    spec: TrialSpec, reading: LargeTensorReading, device: torch.device, *, part_size: int, equality: EqualityReading
) -> LargeTensorReading:
    start = time.monotonic()
    # The check wraps the network, so it is compiled without the loss and never replayed.
    compiled = "default" if spec.compile == "step" else spec.compile
    step = build_step(replace(spec, compile=compiled, cuda_graphs="off"), device=device)
    if mixes_examples(step.model):
        return reading
    errors = _errors(step, spec, reading, part_size=part_size)
    return replace(
        reading,
        num_parts=math.ceil(reading.num_examples / part_size),
        logits_error=errors["logits_error"],
        image_gradient_error=errors["image_gradient_error"],
        gradient_error=errors["gradient_error"],
        tolerance=max(equality.gradient_tolerance, MIN_TOLERANCE),
        elapsed_s=time.monotonic() - start,
    )


def checked_large_tensors(record: TrialRecord) -> TrialRecord:
    """Return the record, marked ``wrong`` if large tensors changed a pass's result; its figures are kept."""
    reading = record.large_tensors
    if reading is None or record.status != "ok" or reading.is_equal is not False:
        return record
    assert reading.tolerance is not None
    message = (
        f"a pass of {count(reading.num_examples, 'example')} of {reading.height} x {reading.width} px, whose largest "
        f"tensor has {reading.num_elements / 1e9:.2f} billion elements (2^31 is 2.15), differs from the same examples "
        f"in {count(reading.num_parts or 0, 'part')}: the logits of the last one are off by "
        f"{error_told(reading.logits_error)}, the gradient of its image by "
        f"{error_told(reading.image_gradient_error)}, the whole gradient by {error_told(reading.gradient_error)} "
        f"(tolerated {error_told(reading.tolerance)})"
    )
    return replace(record, status="wrong", cause=Cause(kind="large-tensor", message=message))


class _LastExample(nn.Module):
    """A network that keeps the logits of its last example and the gradient of its image."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._images_BCHW: Tensor | None = None
        self._logits_KHW: Tensor | None = None

    def forward(self, images_BCHW: Tensor, *masks: Tensor) -> Tensor:
        self._images_BCHW = images_BCHW.detach().requires_grad_()
        logits_BKHW: Tensor = self.network(self._images_BCHW, *masks)
        self._logits_KHW = logits_BKHW[-1].detach().clone()
        return logits_BKHW

    def maps(self) -> tuple[Tensor, Tensor]:
        """Return both maps of the last pass forward and backward, (K, H, W) and (1, H, W), fp32."""
        assert self._images_BCHW is not None
        assert self._images_BCHW.grad is not None
        assert self._logits_KHW is not None
        return self._logits_KHW.float(), self._images_BCHW.grad[-1].float()


class _Outcome(NamedTuple):
    """Result of a step: for its last example, and the gradient of all together."""

    logits_KHW: Tensor
    image_gradient_1HW: Tensor
    gradient_P: Tensor


def _errors(
    step: OptimizerStep, spec: TrialSpec, reading: LargeTensorReading, *, part_size: int
) -> dict[str, float | None]:
    """Return the differences between a pass and its parts, by field of the reading; None if not finite."""
    step.model = _LastExample(without_dropout(step.model))
    # The last example is unique, so that another one in its place is noticed.
    first, last = (
        draw_example(seed=spec.seed, index=index, height=reading.height, width=reading.width, task=spec.task)
        for index in range(2)
    )
    examples = [first] * (reading.num_examples - 1) + [last]
    parts = [examples[start : start + part_size] for start in range(0, len(examples), part_size)]
    expected = _outcome(step, [collate(part) for part in parts])
    found = _outcome(step, [collate(examples)])
    logits = _largest_difference(found.logits_KHW, expected.logits_KHW)
    image_gradient = _largest_loss(found.image_gradient_1HW, expected.image_gradient_1HW)
    gradient = float((found.gradient_P - expected.gradient_P).norm() / expected.gradient_P.norm())
    errors = {"logits_error": logits, "image_gradient_error": image_gradient, "gradient_error": gradient}
    return {name: error if math.isfinite(error) else None for name, error in errors.items()}


def _outcome(step: OptimizerStep, batches: Sequence[Batch]) -> _Outcome:
    assert isinstance(step.model, _LastExample)
    _, gradients = step.gradient([to_device(batch, step.device, non_blocking=False) for batch in batches])
    logits_KHW, image_gradient_1HW = step.model.maps()
    # The step has already divided its gradients by the loss scale, which an overflow may have changed.
    return _Outcome(
        logits_KHW,
        image_gradient_1HW / step.loss_scale,
        torch.cat([gradient.double().flatten() for gradient in gradients]),
    )


def _largest_difference(found_CHW: Tensor, expected_CHW: Tensor) -> float:
    """Return the largest root mean square of the difference in a strip of rows, relative to that of the whole map."""
    return float(_root_mean_squares(found_CHW - expected_CHW).max() / expected_CHW.square().mean().sqrt())


def _largest_loss(found_CHW: Tensor, expected_CHW: Tensor) -> float:
    """Return the largest relative error of a strip's root mean square.

    Single pixels of an image's gradient are not stable, because rounding may flip a ReLU.
    """
    return float((_root_mean_squares(found_CHW) / _root_mean_squares(expected_CHW) - 1).abs().max())


def _root_mean_squares(map_CHW: Tensor) -> Tensor:
    return torch.stack([strip.square().mean().sqrt() for strip in torch.split(map_CHW, STRIP_ROWS, dim=1)])
