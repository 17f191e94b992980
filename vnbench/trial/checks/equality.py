"""Whether a configuration computes the same step as the plain one: its loss and its whole gradient.

A fast wrong configuration would win every comparison, so each is held, before it is timed, against fp32 without
checkpointing, in plain layout and in a single pass, on the same canvas, weights and examples. What reduced precision
may be off by is not guessed but measured in the same run: the plain step once more, with its weights and images rounded
to the precision of the configuration. Arithmetic that rounds everywhere is off by 1.0 to 1.7 times that in the
gradient (veernet and veernet-tiny on a CPU, bf16 and fp16), so three times is tolerated. fp32 is held against eleven
bits, those of TF32, which must not pass for it. Where a ReLU lies at its kink, an error of one part in ten million
flips it, so that even fp32 differs from itself: in channels-last by more than 0.15 times what rounding to eleven bits
does in two of 60 draws, by 0.31 times at most. So half of it is tolerated. Bits and multiples are those of
vnbench.records.spec.precisions.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from vnbench.images.drawing.raster import draw_example
from vnbench.loading.collate import Batch, collate
from vnbench.records.readings import EqualityReading
from vnbench.records.record import Cause, TrialRecord
from vnbench.records.spec.precisions import PRECISIONS
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.trial.checks.soundness import error_told
from vnbench.trial.instruments.memory import free_unheld_memory
from vnbench.trial.step.network import mixes_examples, without_dropout
from vnbench.trial.step.optimizer_step import OptimizerStep, build_step
from vnbench.trial.step.switches import set_arithmetic

CANVAS = (64, 160)
"""Height and width in pixels: small enough to cost little, with ten tokens in the bottleneck."""

NUM_PASSES = 2
"""Passes of the configuration's step; the plain one has a single pass, so that accumulation is held against it."""

MAX_EXAMPLES = 2
"""Examples of a pass, at most, unless compiled code is bound to the micro-batch."""

SHORTER = 7
"""Pixels by which each example is shorter and narrower than the one before it, so that there is padding."""

NUM_DRAWS = 2
"""Draws of examples on one of which a configuration is to be equal: a flipped ReLU is chance, a wrong step is not."""


class _Computed(NamedTuple):
    loss: float
    gradient_P: Tensor
    """float64, all parameters in their order."""


def check_equality(spec: TrialSpec) -> EqualityReading:
    """Return how far the step of a spec is from the plain one, and how far it may be; sets the process's arithmetic.

    Of NUM_DRAWS draws of examples the first that is equal counts, or else the last.
    """
    start = time.monotonic()
    for draw in range(NUM_DRAWS):
        reading = _compare(spec, draw=draw)
        # Only now that nothing of it is held: it would stay in the reserved peak of the trial.
        free_unheld_memory(torch.device(spec.device))
        if reading.is_equal:
            break
    return replace(reading, elapsed_s=time.monotonic() - start)


def _compare(spec: TrialSpec, *, draw: int) -> EqualityReading:
    """Return how far the step is from the plain one on one draw of examples."""
    device = torch.device(spec.device)
    examples_per_pass = spec.micro_batch_size if spec.compile != "none" else min(spec.micro_batch_size, MAX_EXAMPLES)
    num_examples = NUM_PASSES * examples_per_pass
    examples = [
        draw_example(
            seed=spec.seed,
            index=draw * num_examples + index,
            height=max(1, CANVAS[0] - SHORTER * (index % 8)),
            width=max(1, CANVAS[1] - SHORTER * (index % 8)),
            task=spec.task,
        )
        for index in range(num_examples)
    ]
    passes = [
        collate(examples[start : start + examples_per_pass], canvas=CANVAS)
        for start in range(0, len(examples), examples_per_pass)
    ]
    arithmetic = PRECISIONS[spec.precision]
    set_arithmetic("fp32")
    plain = _still_step(_plain(spec), device)
    # Where examples of a pass see each other, as under BatchNorm, accumulation is another computation by its nature.
    whole = passes if mixes_examples(plain.model) else [collate(examples, canvas=CANVAS)]
    reference = _computed(plain, whole)
    rounded = _rounded(_still_step(_plain(spec), device), whole, bits=arithmetic.significant_bits)
    set_arithmetic(spec.precision)
    found = _computed(_still_step(spec, device), passes)
    rounding_loss, rounding_gradient = _difference(rounded, reference)
    if rounding_loss is None or rounding_gradient is None:
        raise ArithmeticError("the plain step itself is not finite: nothing can be held against it")
    loss_error, gradient_error = _difference(found, reference)
    return EqualityReading(
        loss_error=loss_error,
        gradient_error=gradient_error,
        rounding_loss_error=rounding_loss,
        rounding_gradient_error=rounding_gradient,
        # Errors of single pixels cancel in a loss, more or less by chance: half a unit of the last bit is never wrong.
        loss_tolerance=arithmetic.tolerance * max(rounding_loss, 2.0**-arithmetic.significant_bits),
        gradient_tolerance=arithmetic.tolerance * rounding_gradient,
        height=CANVAS[0],
        width=CANVAS[1],
        num_examples=num_examples,
        num_passes=NUM_PASSES,
        elapsed_s=0.0,
    )


def checked_equality(record: TrialRecord) -> TrialRecord:
    """Return the record, marked ``wrong`` where its step was not equal to the plain one; its figures are kept."""
    reading = record.equality
    if reading is None or record.status != "ok" or reading.is_equal:
        return record
    message = (
        f"one step differs from fp32 without levers: loss by {error_told(reading.loss_error)} (tolerated "
        f"{error_told(reading.loss_tolerance)}), gradient by {error_told(reading.gradient_error)} (tolerated "
        f"{error_told(reading.gradient_tolerance)}, rounding alone {error_told(reading.rounding_gradient_error)})"
    )
    return replace(record, status="wrong", cause=Cause(kind="unequal-step", message=message))


def _plain(spec: TrialSpec) -> TrialSpec:
    """Return the spec without any lever that changes how a step is computed, but not what."""
    return replace(
        spec,
        precision="fp32",
        norm_precision="fp32",
        checkpointing="none",
        memory_format="contiguous",
        compile="none",
        optimizer="fused",
        norm_kernel="native",
        cuda_graphs="off",
    )


def _still_step(spec: TrialSpec, device: torch.device) -> OptimizerStep:
    """Return the step of a spec with nothing in it that is drawn anew in each pass."""
    step = build_step(spec, device=device)
    without_dropout(step.model)
    return step


def _computed(step: OptimizerStep, batches: Sequence[Batch]) -> _Computed:
    loss, gradients = step.gradient(batches)
    return _Computed(loss, torch.cat([gradient.double().flatten() for gradient in gradients]))


def _rounded(step: OptimizerStep, batches: Sequence[Batch], *, bits: int) -> _Computed:
    """Return what the step computes from rounded weights and images, everything else as it was."""
    with torch.no_grad():
        for parameter in step.model.parameters():
            parameter.copy_(round_to(parameter, bits))
    handle = step.model.register_forward_pre_hook(lambda _, inputs: (round_to(inputs[0], bits), *inputs[1:]))
    computed = _computed(step, batches)
    handle.remove()
    return computed


def round_to(values: Tensor, bits: int) -> Tensor:
    """Return fp32 values rounded to so many significant bits, to nearest, ties to even."""
    mantissa, exponent = torch.frexp(values)
    # A product with a Python number, for a number of bits that is a tensor would have to lie on the device.
    return torch.ldexp(torch.round(mantissa * 2.0**bits), exponent - bits)


def _difference(found: _Computed, reference: _Computed) -> tuple[float | None, float | None]:
    """Return the relative difference of loss and gradient; None where one is no number."""
    loss = abs(found.loss - reference.loss) / abs(reference.loss)
    gradient = float((found.gradient_P - reference.gradient_P).norm() / reference.gradient_P.norm())
    return (loss if math.isfinite(loss) else None), (gradient if math.isfinite(gradient) else None)
