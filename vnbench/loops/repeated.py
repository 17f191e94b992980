"""The process of a repeat: it trains some steps, and tells digests of all that each of them computed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from torch import Tensor, nn

from vnbench.errors import VnbenchError
from vnbench.loops.planned_run import PlannedRun
from vnbench.records.failures import summary_line
from vnbench.records.spec.trial_spec import TrainingSpec
from vnbench.records.task import TrialTask
from vnbench.trial.step.digest import digest_of


def run(payload: str) -> str:
    """Return ``{"steps": [...]}`` or ``{"problem"}`` (JSON) for ``{"task", "num_steps"}`` (JSON)."""
    asked = json.loads(payload)
    try:
        return json.dumps({"steps": list(trained(asked["task"], num_steps=asked["num_steps"]))})
    except VnbenchError as error:
        return json.dumps({"problem": str(error)})
    except Exception as error:  # the outermost frame of the process
        return json.dumps({"problem": summary_line(error)})


def trained(text: str, *, num_steps: int) -> Iterator[dict[str, Any]]:
    """Yield of each optimizer step its loss, and digests of module outputs, gradients and weights in their order."""
    run = PlannedRun(cast(TrialTask[TrainingSpec], TrialTask.from_json(text)))
    model, done = run.step.model, 0
    while True:
        run.sampler.set_epoch(done // len(run.sampler.plan.steps))
        steps, batches = run.remaining()
        for planned in steps:
            outputs: list[tuple[str, str]] = []
            with _told_outputs(model, outputs):
                loss = run.train(planned, batches)
            named = list(model.named_parameters())
            yield {
                "loss": loss,
                "outputs": outputs,
                "gradients": [(name, digest_of([value.grad])) for name, value in named if value.grad is not None],
                "weights": [(name, digest_of([value])) for name, value in named],
            }
            done += 1
            if done == num_steps:
                return


@contextmanager
def _told_outputs(model: nn.Module, outputs: list[tuple[str, str]]) -> Iterator[None]:
    """Note a digest of what each module without parts returns, in the order in which they return."""
    hooks = []
    for name, module in model.named_modules():
        if not any(module.children()):

            def note(one: nn.Module, _: Any, output: Any, *, name: str = name) -> None:
                outputs.append((f"{name} ({type(one).__name__})", digest_of(_tensors(output))))

            hooks.append(module.register_forward_hook(note))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tensors(one)
