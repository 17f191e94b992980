"""The check that a configuration computes the same step as the plain one: loss and full gradient.

A fast but wrong configuration would win every comparison. So before it is timed, each is compared with fp32 without
checkpointing, in plain layout and in a single pass, on the same canvas, weights and examples. The tolerance for reduced
precision is measured in the same run: the plain step runs again, with weights and images rounded to the precision of
the configuration. Rounding everywhere gives gradient errors of 1.0 to 1.7 times that (veernet and veernet-tiny on a
CPU, bf16 and fp16), so three times is tolerated. fp32 is compared with rounding to eleven bits, those of TF32, so that
TF32 does not pass as fp32. At its kink, a ReLU flips after an error of one part in ten million, so that even fp32
differs from itself: with channels-last by more than 0.15 times the error of rounding to eleven bits in two of 60 draws,
and by 0.31 at most. So half of that error is tolerated. Bits and multiples come from vnbench.records.spec.precisions.
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
"""Height and width in pixels: cheap, but with ten tokens in the bottleneck."""

NUM_PASSES = 2
"""Passes in the configuration's step. The plain step has one, so that accumulation is checked, too."""

MAX_EXAMPLES = 2
"""Maximum number of examples per pass, unless compiled code depends on the micro-batch."""

SHORTER = 7
"""Pixels by which each example is shorter and narrower than the one before, so that there is padding."""

NUM_DRAWS = 2
"""Draws of examples, of which one must be equal: a flipped ReLU is chance, a wrong step is not."""


class _Computed(NamedTuple):
    loss: float
    gradient_P: Tensor
    """float64, all parameters in order."""


def check_equality(spec: TrialSpec) -> EqualityReading:
    """Return the differences between a spec's step and the plain one, with tolerances; set the process's arithmetic.

    The first of NUM_DRAWS draws that is equal counts, else the last.
    """
    start = time.monotonic()
    for draw in range(NUM_DRAWS):
        reading = _compare(spec, draw=draw)
        # Nothing holds this memory now; without this, it would stay in the trial's reserved peak.
        free_unheld_memory(torch.device(spec.device))
        if reading.is_equal:
            break
    return replace(reading, elapsed_s=time.monotonic() - start)


def _compare(spec: TrialSpec, *, draw: int) -> EqualityReading:
    """Return the differences between the step and the plain one on one draw of examples."""
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
    # If examples of a pass affect each other, as with BatchNorm, accumulation is a different computation.
    whole = passes if mixes_examples(plain.model) else [collate(examples, canvas=CANVAS)]
    reference = _computed(plain, whole)
    rounded = _rounded(_still_step(_plain(spec), device), whole, bits=arithmetic.significant_bits)
    set_arithmetic(spec.precision)
    found = _computed(_still_step(spec, device), passes)
    rounding_loss, rounding_gradient = _difference(rounded, reference)
    if rounding_loss is None or rounding_gradient is None:
        raise ArithmeticError("the plain step itself is not finite: nothing can be compared with it")
    loss_error, gradient_error = _difference(found, reference)
    return EqualityReading(
        loss_error=loss_error,
        gradient_error=gradient_error,
        rounding_loss_error=rounding_loss,
        rounding_gradient_error=rounding_gradient,
        # Errors of single pixels cancel in a loss by chance, so half a unit of the last bit is always tolerated.
        loss_tolerance=arithmetic.tolerance * max(rounding_loss, 2.0**-arithmetic.significant_bits),
        gradient_tolerance=arithmetic.tolerance * rounding_gradient,
        height=CANVAS[0],
        width=CANVAS[1],
        num_examples=num_examples,
        num_passes=NUM_PASSES,
        elapsed_s=0.0,
    )


def checked_equality(record: TrialRecord) -> TrialRecord:
    """Return the record, marked ``wrong`` if its step was not equal to the plain one; its figures are kept."""
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
    """Return the spec without the levers that change how, but not what, a step computes."""
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
    """Return the step of a spec without dropout, so that passes are reproducible."""
    step = build_step(spec, device=device)
    without_dropout(step.model)
    return step


def _computed(step: OptimizerStep, batches: Sequence[Batch]) -> _Computed:
    loss, gradients = step.gradient(batches)
    return _Computed(loss, torch.cat([gradient.double().flatten() for gradient in gradients]))


def _rounded(step: OptimizerStep, batches: Sequence[Batch], *, bits: int) -> _Computed:
    """Return the step's result with weights and images rounded and everything else unchanged."""
    with torch.no_grad():
        for parameter in step.model.parameters():
            parameter.copy_(round_to(parameter, bits))
    handle = step.model.register_forward_pre_hook(lambda _, inputs: (round_to(inputs[0], bits), *inputs[1:]))
    computed = _computed(step, batches)
    handle.remove()
    return computed


def round_to(values: Tensor, bits: int) -> Tensor:
    """Return fp32 values rounded to ``bits`` significant bits, to nearest, ties to even."""
    mantissa, exponent = torch.frexp(values)
    # Multiply by a Python number: as a tensor, the power of two would have to be on the device.
    return torch.ldexp(torch.round(mantissa * 2.0**bits), exponent - bits)


def _difference(found: _Computed, reference: _Computed) -> tuple[float | None, float | None]:
    """Return the relative differences of loss and gradient; None for one that is not finite."""
    loss = abs(found.loss - reference.loss) / abs(reference.loss)
    gradient = float((found.gradient_P - reference.gradient_P).norm() / reference.gradient_P.norm())
    return (loss if math.isfinite(loss) else None), (gradient if math.isfinite(gradient) else None)
