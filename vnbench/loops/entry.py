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
from vnbench.loops.auditing import LoopError, audit_loop
from vnbench.loops.running import Loop
from vnbench.records.audit_reading import AuditReading
from vnbench.records.failures import summary_line
from vnbench.records.spec.trial_spec import AuditSpec
from vnbench.request.own_model import OwnLoop, read_own_loop
from vnbench.trial.instruments.environment import describe_environment
from vnbench.trial.step.network import build_network, module_in, without_dropout
from vnbench.trial.step.network_errors import place_in

WHERE = "FILE.py:FUNCTION"


def run(payload: str) -> str:
    """Return ``{"environment", "reading"}`` or ``{"problem", "remedy"}`` (JSON) for an AuditSpec (JSON)."""
    spec = AuditSpec.from_dict(json.loads(payload))
    environment = describe_environment(spec.device)
    torch.set_num_threads(1)  # passes on small canvases wait for other threads longer than they compute
    try:
        reading = audit(spec)
    except LoopError as error:
        return json.dumps({"problem": str(error), "remedy": error.remedy})
    return json.dumps({"environment": environment, "reading": asdict(reading)})


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
        return audit_loop(loop, loop_id=own.loop_id, batch_size=spec.micro_batch_size)


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
