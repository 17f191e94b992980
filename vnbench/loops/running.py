"""Run a user's training loop on batches that it is given, and record it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from vnbench.loops.examples import Batch, draw_batch
from vnbench.loops.history import History
from vnbench.loops.recorder import Recorder, parameters_of

LEARNING_RATE = 1e-3

Grouping = Sequence[tuple[int, ...]]
"""Examples of each batch, by number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Loop:
    """A training loop, with what it trains."""

    function: Callable[[nn.Module, torch.optim.Optimizer, list[Batch]], Any]
    """The user's function."""
    make_network: Callable[[], nn.Module]
    """Returns the network, with the same weights at every call."""
    num_classes: int
    """Classes of the targets."""
    seed: int
    """Seed of the examples, and of what the loop draws."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A loop that was run and recorded."""

    grouping: Grouping
    """The batches that it was given."""
    history: History
    """Its passes and steps."""
    gradients: dict[int, Tensor] = field(default_factory=dict)
    """Some entries of the gradient that each step takes."""
    batches_of: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Batches whose images each pass saw as they are, from 0."""
    is_low: bool = False
    """Whether a network ran in a lower precision than fp32."""

    def batches_in(self, step: int) -> tuple[int, ...] | None:
        """Return the batches whose passes are in a step; None if that is not known.

        A loop that changes the images is taken to run a pass for each batch, in their order.
        """
        taken = self.history.steps[step - 1].weights
        if not any(self.batches_of.values()):
            is_one_each = len(self.history.passes) == len(self.grouping)
            return tuple(number - 1 for number in taken) if is_one_each else None
        found = [self.batches_of[number] for number in taken]
        return tuple(sorted({batch for batches in found for batch in batches})) if all(found) else None


def run_loop(loop: Loop, grouping: Grouping, *, is_frozen: bool = False) -> Run:
    """Run a loop on batches of examples. If it is frozen, steps leave the weights alone, and nothing is clipped.

    Whatever the loop raises passes through.
    """
    torch.manual_seed(loop.seed)
    network = loop.make_network()
    torch.manual_seed(loop.seed)
    batches = [draw_batch(numbers, num_classes=loop.num_classes, seed=loop.seed) for numbers in grouping]
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE)
    recorder = Recorder([optimizer], clips=not is_frozen)
    run = _Observed(recorder, batches)
    recorder.on_call, recorder.on_step = run.on_call, run.on_step
    recorder.start()
    has_ended = False
    try:
        with _frozen() if is_frozen else torch.enable_grad():
            result = loop.function(network, optimizer, list(batches))
            if inspect.isgenerator(result):
                for _ in result:
                    pass
        has_ended = True
    finally:
        recorder.stop(has_failed=not has_ended)
    history = recorder.history()
    return Run(
        grouping=grouping,
        history=history,
        gradients=run.gradients,
        batches_of={seen.number: run.batches_of(seen.number) for seen in history.passes},
        is_low=run.is_low,
    )


class _Observed:
    """What a run tells beside its history."""

    def __init__(self, recorder: Recorder, batches: Sequence[Batch]) -> None:
        self._recorder = recorder
        self._images = [images for images, _, _ in batches]
        self._called: dict[int, dict[int, None]] = {}
        self.gradients: dict[int, Tensor] = {}
        self.is_low = False

    def on_call(self, module: nn.Module, arguments: tuple[Any, ...]) -> None:
        if not torch.is_grad_enabled():
            return
        self.is_low |= any(map(torch.is_autocast_enabled, ("cpu", "cuda")))
        self.is_low |= any(one.dtype.itemsize < torch.float32.itemsize for one in module.parameters())
        given = next((one for one in arguments if isinstance(one, Tensor)), None)
        if given is not None and (batch := self._batch_of(given)) is not None:
            self._called.setdefault(len(self._recorder.passes) + 1, {})[batch] = None

    def on_step(self, number: int, entries: Tensor) -> None:
        self.gradients[number] = entries

    def batches_of(self, number: int) -> tuple[int, ...]:
        return tuple(self._called.get(number, ()))

    def _batch_of(self, given: Tensor) -> int | None:
        for number, images in enumerate(self._images):
            if images.shape == given.shape and torch.equal(images, given.detach().to("cpu", images.dtype)):
                return number
        return None


@contextmanager
def _frozen() -> Iterator[None]:
    """Return a context in which steps change no parameter: each is put back after the step."""
    kept: list[tuple[nn.Parameter, Tensor]] = []

    def keep(optimizer: torch.optim.Optimizer, arguments: Any, named: Any) -> None:
        kept.extend((one, one.detach().clone()) for one in parameters_of(optimizer))

    def put_back(optimizer: torch.optim.Optimizer, arguments: Any, named: Any) -> None:
        with torch.no_grad():
            for one, before in kept:
                one.copy_(before)
        kept.clear()

    handles = register_optimizer_step_pre_hook(keep), register_optimizer_step_post_hook(put_back)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
