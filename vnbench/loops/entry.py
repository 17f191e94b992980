"""The entry point of an audit's process: an AuditSpec in, an AuditReading out."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, cast

import torch
from torch import nn

from vnbench.errors import VnbenchError
from vnbench.loops.history import find_faults
from vnbench.loops.regrouping import MIN_BATCHES, Regrouping, regroup
from vnbench.loops.running import Loop, Run, run_loop
from vnbench.records.audit_reading import AuditReading
from vnbench.records.failures import summary_line
from vnbench.records.spec.trial_spec import AuditSpec
from vnbench.request.own_model import OwnLoop, read_own_loop
from vnbench.trial.instruments.environment import describe_environment
from vnbench.trial.step.network import build_network, mixes_examples, module_in, without_dropout
from vnbench.trial.step.network_errors import place_in
from vnbench.units import count

NUMBERS_OF_BATCHES = (11, 37)
"""Batches that a loop is given, and more where it ran too little of them: primes, so that any window leaves a tail."""

WHERE = "FILE.py:FUNCTION"


class LoopError(VnbenchError):
    """A loop that cannot be audited: what is wrong, and what to do."""

    def __init__(self, problem: str, remedy: str) -> None:
        """Take both."""
        super().__init__(problem)
        self.remedy = remedy


def run(payload: str) -> str:
    """Return ``{"environment", "reading"}`` or ``{"problem", "remedy"}`` (JSON) for an AuditSpec (JSON)."""
    spec = AuditSpec.from_dict(json.loads(payload))
    try:
        reading = audit(spec)
    except LoopError as error:
        return json.dumps({"problem": str(error), "remedy": error.remedy})
    return json.dumps({"environment": describe_environment(spec.device), "reading": asdict(reading)})


def audit(spec: AuditSpec) -> AuditReading:
    """Return what is found in a loop.

    Raises:
        LoopError: the loop fails, never steps, or ends early.
    """
    own = read_own_loop(spec.audited_loop, where=WHERE)
    with _told_of_loop(own):
        function = getattr(module_in(own.path.resolve()), own.function)
        _check_call(function, own)
    loop = Loop(
        function=function,
        make_network=lambda: without_dropout(build_network(spec).train()),
        num_classes=spec.num_classes,
        seed=spec.seed,
    )
    first = _first_run(loop, own, batch_size=spec.micro_batch_size)
    notes: tuple[str, ...] = ()
    if mixes_examples(loop.make_network()):
        regrouped = Regrouping(notes=("the scale was not judged: a norm of the network mixes the examples of a pass",))
    else:
        with _told_of_loop(own):
            regrouped = regroup(loop, first)
    return AuditReading(
        loop_id=own.loop_id,
        num_batches=len(first.grouping),
        num_passes=len(first.history.passes),
        num_steps=len(first.history.steps),
        contributions=first.history.contributions(),
        findings=(*find_faults(first.history), *regrouped.findings),
        regrouped=regrouped.windows,
        notes=notes + regrouped.notes,
    )


def _first_run(loop: Loop, own: OwnLoop, *, batch_size: int) -> Run:
    """Return a run on equal batches in which the loop stepped, and took as many as it was promised at least."""
    for number in NUMBERS_OF_BATCHES:
        grouping = [tuple(range(batch_size * one, batch_size * (one + 1))) for one in range(number)]
        with _told_of_loop(own):
            run = run_loop(loop, grouping)
        if run.history.steps and len(run.history.passes) >= MIN_BATCHES:
            return run
    batches = count(len(run.grouping), "batch")
    if not run.history.steps:
        ran = count(len(run.history.passes), "backward pass")
        raise LoopError(
            f"it never steps: it ran {ran} over {batches}, and no step of a torch optimizer",
            "call optimizer.step() in it, or name the function that does",
        )
    raise LoopError(
        f"it ended early: it ran {count(len(run.history.passes), 'backward pass')} over {batches}, and an audit needs "
        f"{MIN_BATCHES}",
        "let it take all batches that it is given",
    )


def _check_call(function: Callable[..., Any], own: OwnLoop) -> None:
    """Raise a LoopError if a function cannot be called with a network, an optimizer and batches."""
    try:
        inspect.signature(function).bind(cast(nn.Module, None), cast(torch.optim.Optimizer, None), [])
    except TypeError as error:
        raise LoopError(
            f"{own.function} cannot be called with a model, an optimizer and batches ({error})",
            f"write def {own.function}(model, optimizer, batches)",
        ) from error
    if inspect.iscoroutinefunction(function):
        raise LoopError("it is a coroutine, which nothing runs", "write def instead of async def")


@contextmanager
def _told_of_loop(own: OwnLoop) -> Iterator[None]:
    """Return a context that tells of errors of a user's own loop.

    Raises:
        LoopError: the loop, or its file, ended the block.
    """
    try:
        yield
    except VnbenchError:
        raise
    except (Exception, SystemExit) as error:
        place = place_in(error, own.name)
        raise LoopError(f"{f'{place}: ' if place else ''}{summary_line(error)}", "repair the loop") from error
