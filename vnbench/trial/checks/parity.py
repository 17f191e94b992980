"""The check that a framework trains as the own loop does: the same bits in every parameter after some steps.

A framework that scaled a loss, a gradient or a last window otherwise would be timed at another computation. Frameworks
call the same kernels in the same order, so nothing needs a tolerance. Where a device's kernels sum in an order of their
own each time, the own loop does not repeat itself either, and a difference says nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from vnbench.images.drawing.raster import draw_example
from vnbench.loading.collate import Batch, collate
from vnbench.records.readings import ParityReading
from vnbench.records.record import Cause, TrialRecord
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.trial.frameworks.looped import looped
from vnbench.trial.instruments.memory import free_unheld_memory
from vnbench.trial.instruments.timing import make_timer
from vnbench.trial.step.network import without_dropout
from vnbench.trial.step.optimizer_step import OptimizerStep, build_step

CANVAS = (64, 160)
"""Height and width in pixels: parameters, not pixels, are compared."""

PASSES_OF_STEPS = (3, 3, 2)
"""Passes of each step: two full windows of accumulation, and a last one that is short."""

MAX_EXAMPLES = 2
"""Maximum number of examples per pass."""

SHORTER = 9
"""Pixels by which the second example of a pass is smaller, so that there is padding."""


def check_parity(spec: TrialSpec) -> ParityReading | None:
    """Return the comparison of a spec's loop with the own one; None where it is the own one."""
    if spec.loop == "own":
        return None
    start = time.monotonic()
    size = min(spec.micro_batch_size, MAX_EXAMPLES)
    spec = replace(spec, micro_batch_size=size, batch_size=PASSES_OF_STEPS[0] * size)
    names, found = _trained(spec)
    _, expected = _trained(replace(spec, loop="own"))
    differs_in = _first_difference(names, found, expected)
    is_reproducible = True
    if differs_in is not None:
        _, again = _trained(replace(spec, loop="own"))
        is_reproducible = _first_difference(names, again, expected) is None
    # Nothing holds this memory now; without this, it would stay in the trial's reserved peak.
    free_unheld_memory(torch.device(spec.device))
    return ParityReading(
        differs_in=differs_in,
        is_reproducible=is_reproducible,
        num_steps=len(PASSES_OF_STEPS),
        num_passes=sum(PASSES_OF_STEPS),
        elapsed_s=time.monotonic() - start,
    )


def checked_parity(record: TrialRecord) -> TrialRecord:
    """Return the record, marked ``wrong`` if its loop trains otherwise than the own one; its figures are kept."""
    reading = record.parity
    if reading is None or record.status != "ok" or reading.is_equal:
        return record
    message = (
        f"after {reading.num_steps} steps of {reading.num_passes} passes, the {record.spec.loop} loop has other values "
        f"than the own loop: first in {reading.differs_in}"
    )
    return replace(record, status="wrong", cause=Cause(kind="unequal-loop", message=message))


def _trained(spec: TrialSpec) -> tuple[list[str], list[Tensor]]:
    """Return the names of the parameters and their values after a few steps in a spec's loop."""
    device = torch.device(spec.device)
    step = build_step(spec, device=device)
    without_dropout(step.model)
    passes = [_drawn(spec, number) for number in range(sum(PASSES_OF_STEPS))]
    with looped(step, spec, num_passes=len(passes)) as loop:
        loop.run_block(
            iter(passes),
            num_examples=[number * spec.micro_batch_size for number in PASSES_OF_STEPS],
            timer=make_timer(device),
        )
    return _parameters(step)


def _parameters(step: OptimizerStep) -> tuple[list[str], list[Tensor]]:
    named = dict(step.model.named_parameters())
    return list(named), [parameter.detach().cpu().clone() for parameter in named.values()]


def _drawn(spec: TrialSpec, number: int) -> Batch:
    """Return the batch of a pass, by its number."""
    examples = [
        draw_example(
            seed=spec.seed,
            index=number * spec.micro_batch_size + index,
            height=CANVAS[0] - SHORTER * index,
            width=CANVAS[1] - SHORTER * index,
            task=spec.task,
        )
        for index in range(spec.micro_batch_size)
    ]
    return collate(examples, canvas=CANVAS)


def _first_difference(names: Sequence[str], found: Sequence[Tensor], expected: Sequence[Tensor]) -> str | None:
    """Return the name of the first parameter that is not equal to the bit; None if all are."""
    pairs = zip(names, found, expected, strict=True)
    return next((name for name, one, other in pairs if not torch.equal(one, other)), None)
