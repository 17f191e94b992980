"""Records of a training loop of one's own: what each epoch's steps took, and on what.

::

    from vnbench.loops.observing.own import observe

    with observe(network, optimizer, loader, out="run.jsonl", sizes=lambda batch: batch["sizes"]) as run:
        for epoch in range(3):
            for batch in run.epoch(loader):
                ...  # forward, backward, and now and then a step

``vnbench plan run.jsonl``, ``fit``, ``report`` and ``gate`` read them. It waits for the device once an epoch. The time
from one batch to the next belongs to a pass; put what is none of it, such as a validation, into ``run.paused()``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils._pytree import tree_leaves

from vnbench.errors import InputError
from vnbench.loops.observing.keys import RunKeys, bare, device_of, facts_of, network_id, network_name, precision_now
from vnbench.loops.observing.passes import Sizes
from vnbench.loops.observing.run import ObservedRun, Why
from vnbench.records.spec.words import Loop

Batch = TypeVar("Batch")


def observe(
    network: nn.Module,
    *optimizers: Optimizer,
    out: str | Path,
    sizes: Sizes | str | None = None,
    warm_up_steps: int = 10,
    model: str | None = None,
) -> OwnRun:
    """Return a context in which a loop leaves a record of kind ``observed`` at the end of each epoch.

    The arguments are those of vnbench.loops.observing.lightning.VnbenchCallback. In a run on several ranks the first
    one writes.

    Raises:
        InputError: there is no optimizer, or something else than one.
    """
    strange = next((one for one in optimizers if not isinstance(one, Optimizer)), None)
    if strange is not None or not optimizers:
        allowed = "it needs an optimizer" if strange is None else "this is no torch.optim.Optimizer"
        given = None if strange is None else type(strange).__name__
        raise InputError("observe", given, allowed=allowed, remedy='write observe(network, optimizer, out="run.jsonl")')
    return OwnRun(network, optimizers, out=out, sizes=sizes, warm_up_steps=warm_up_steps, model=model)


class OwnRun:
    """A run that is watched while the context lasts."""

    def __init__(
        self,
        network: nn.Module,
        optimizers: tuple[Optimizer, ...],
        *,
        out: str | Path,
        sizes: Sizes | str | None,
        warm_up_steps: int,
        model: str | None,
    ) -> None:
        """Take what is watched, and what the batches do not tell."""
        self._network, self._optimizers = network, optimizers
        self._out, self._sizes, self._model, self._warm_up_steps = out, sizes, model, warm_up_steps
        self._run: ObservedRun | None = None
        self._hooks: list[Any] = []
        self._num_epochs = 0
        self._is_in_pass = self._has_stepped = self._is_updating = self._knows_precision = False
        self._loss: Tensor | None = None

    def __enter__(self) -> OwnRun:
        if rank() == 0:
            self._hooks += [
                self._network.register_forward_hook(self._after_forward),
                register_optimizer_step_pre_hook(self._before_step),
                register_optimizer_step_post_hook(self._after_step),
            ]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop watching; of an epoch that is not over, the steps that ended are kept."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        if self._run is not None:
            self._run.close()

    def epoch(self, loader: Iterable[Batch], *, number: int | None = None) -> Iterator[Batch]:
        """Yield the batches of an epoch, each of them a pass, and append a record at its end.

        ``number`` is that of the epoch, by default one after another from 0.

        Raises:
            InputError: the results file cannot be written, or a batch does not tell what is needed.
        """
        number = self._num_epochs if number is None else number
        self._num_epochs = number + 1
        if rank() != 0:
            yield from loader
            return
        run = self._run = self._run or self._opened(loader)
        run.begin_epoch(number, loader=loader)
        try:
            for batch in loader:
                with run.own_time():
                    run.fetched(batch)
                    self._is_in_pass, self._has_stepped, self._is_updating, self._loss = True, False, False, None
                yield batch
                self._end_pass()
        finally:  # the loop may end before its loader
            self._end_pass()
            run.end_epoch()

    def note_loss(self, loss: Tensor) -> None:
        """Keep the loss of the pass that runs, for its record."""
        self._loss = loss.detach()

    @contextmanager
    def paused(self, why: Why = "other") -> Iterator[None]:
        """Return a context whose time belongs to no step, and which ends the pass that runs."""
        run = self._run
        if run is None:
            yield
            return
        self._end_pass()
        start_s = run.now_s()
        yield
        run.leave_out(run.now_s() - start_s, why)

    def _end_pass(self) -> None:
        run = self._run
        if run is None or not self._is_in_pass:
            return
        self._is_in_pass = False
        with run.own_time():
            if not self._is_updating:
                run.clock.after_backward()
            run.end_pass(has_stepped=self._has_stepped, loss=self._loss)

    # Hooks.

    def _after_forward(self, module: nn.Module, arguments: Any, output: Any) -> None:
        run = self._run
        if run is None or not self._is_in_pass or not torch.is_grad_enabled():
            return
        with run.own_time():
            if not self._knows_precision:
                self._knows_precision = True
                run.keys = replace(run.keys, precision=precision_now(self._network, run.keys.device))
            first = next((one for one in tree_leaves(output) if isinstance(one, Tensor) and one.requires_grad), None)
            if first is not None:
                hook: Any = first.register_hook  # torch 2.13 leaves it untyped
                hook(self._before_backward)

    def _before_backward(self, gradient: Tensor) -> None:
        if self._run is not None and self._is_in_pass:
            self._run.clock.before_backward()

    def _before_step(self, optimizer: Optimizer, arguments: Any, named: Any) -> None:
        if self._run is not None and self._is_in_pass and self._is_watched(optimizer) and not self._is_updating:
            self._is_updating = True
            self._run.clock.after_backward()

    def _after_step(self, optimizer: Optimizer, arguments: Any, named: Any) -> None:
        self._has_stepped |= self._is_watched(optimizer)

    def _is_watched(self, optimizer: Optimizer) -> bool:
        """Return whether an optimizer holds a parameter of those that are watched: frameworks wrap them."""
        held = next((one for group in optimizer.param_groups for one in group["params"]), None)
        groups = (group for one in self._optimizers for group in one.param_groups)
        return any(held is one for group in groups for one in group["params"])

    def _opened(self, loader: Any) -> ObservedRun:
        device = device_of(self._network)
        network = bare(self._network)
        is_fabric = type(self._network).__module__.startswith(("lightning.fabric", "lightning_fabric"))
        loop: Loop = "fabric" if is_fabric else "own"
        keys = RunKeys(
            model=network_name(network, self._model),
            model_id=network_id(network),
            device=device,
            precision=precision_now(self._network, device),
            loader=facts_of(loader),
            loop=loop,
            ranks=num_ranks(),
            num_warm_up_steps=self._warm_up_steps,
        )
        return ObservedRun(self._out, keys=keys, sizes=self._sizes, framework=None)


def rank() -> int:
    """Return the rank of this process; 0 without torch.distributed."""
    return torch.distributed.get_rank() if _is_distributed() else 0


def num_ranks() -> int:
    """Return the number of processes that train together."""
    return torch.distributed.get_world_size() if _is_distributed() else 1


def _is_distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
