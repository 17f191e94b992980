"""Record what a training loop does, from the hooks of parameters, optimizers and modules."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from vnbench.loops.gradient import Gradient
from vnbench.loops.history import History, Moment, PassSeen, StepSeen
from vnbench.loops.scaling import Scaling, is_scaled_since_clipping

END = Moment("end")

Call = Callable[[nn.Module, tuple[Any, ...]], None]
"""Told of each call of a whole network, before it runs: the module and its positional arguments."""

Stepped = Callable[[int, Tensor], None]
"""Told of each step: its number, and the followed entries of the gradients that it takes, in one row."""


class Recorder:
    """Follows every gradient of the parameters that are used, and every optimizer that steps."""

    def __init__(
        self, optimizers: Sequence[Optimizer] = (), *, max_steps: int | None = None, clips: bool = True
    ) -> None:
        """Take the optimizers that are known before they step, and how many steps of them to watch at most.

        If it does not clip, the loop runs without a limit on its gradients.
        """
        self.passes: list[PassSeen] = []
        self.steps: list[StepSeen] = []
        self.on_call: Call | None = None
        self.on_step: Stepped | None = None
        self._named = optimizers
        self._max_steps = max_steps
        self._optimizers: list[Optimizer] = []
        self._gradients: dict[int, Gradient] = {}
        self._names: dict[int, str] = {}
        self._reached: dict[int, dict[int, None]] = {}
        """Passes that reach each parameter, by its id, in order."""
        self._held: set[int] = set()
        self._open = ExitStack()
        self._scaling = Scaling(self._looked_at, clips=clips)
        self._depth = 0
        """Modules that are being called within each other."""
        self._tasks: set[int] = set()
        """Backward passes of the engine that the last pass is made of."""
        self._is_new = True
        """Whether something ran since the last pass after which a gradient belongs to another one."""
        self._has_called = False
        self._calls: set[tuple[int, bool, bool]] = set()
        """Networks called since the last pass: id, whether it is a wrapper that exchanges, and whether it does not."""
        self._calls_of: dict[int, set[tuple[int, bool, bool]]] = {}
        """The same before each pass, by its number."""
        self._wrapped: set[int] = set()
        """Networks within wrappers that exchange gradients, by id."""
        self._stepping: list[StepSeen] = []
        """Steps that run now, within each other."""
        self._num_named = 0
        self._is_cut_off = False
        self._is_on = False

    def start(self) -> None:
        """Begin to record."""
        self._is_on = True
        enter = self._open.callback
        enter(register_module_forward_pre_hook(self._before_call).remove)
        enter(register_module_forward_hook(self._after_call, always_call=True).remove)
        enter(register_optimizer_step_pre_hook(self._before_step).remove)
        enter(register_optimizer_step_post_hook(self._after_step).remove)
        self._open.enter_context(self._scaling.watched())
        for one in self._named:
            self._know(one)

    def stop(self, *, has_failed: bool) -> None:
        """End recording; what a loop that failed left unfinished is not held against it."""
        self._finish(is_cut_off=has_failed)
        self._open.close()

    def _finish(self, *, is_cut_off: bool) -> None:
        """Record no more. Hooks stay until they are removed, for they may be running."""
        if not self._is_on:
            return
        self._is_on = False
        self._is_cut_off = is_cut_off
        self._look(self._gradients.values(), END)
        if is_cut_off and self._unheld_ids():
            for one in _alive(Optimizer):  # which might have stepped later
                self._held.update(map(id, parameters_of(one)))

    def history(self) -> History:
        """Return what was seen so far."""
        holders = [{id(parameter) for parameter in parameters_of(one)} for one in self._optimizers]
        for seen in self.passes:
            reached = {key for key, passes in self._reached.items() if seen.number in passes}
            seen.optimizers = {number for number, held in enumerate(holders) if held & reached}
            calls = self._calls_of.get(seen.number, set())
            seen.is_exchanging = any(wraps and not is_silent for _, wraps, is_silent in calls)
            seen.skips_exchange = any(is_silent or key in self._wrapped for key, _, is_silent in calls)
        unheld = {
            self._names.get(key, self._gradients[key].name): tuple(self._reached[key]) for key in self._unheld_ids()
        }
        for number in self._scaling.clipped_before_unscaling():
            step = next((step for step in self.steps if number in step.weights), None)
            if step is not None:
                step.is_scaled_after_clipping = True
        return History(
            passes=tuple(self.passes),
            steps=tuple(self.steps),
            unheld=unheld,
            is_cut_off=self._is_cut_off or self._is_on,
        )

    # Parameters.

    def _know(self, optimizer: Optimizer) -> int:
        """Return the number of an optimizer, which is followed from now on."""
        number = next((number for number, one in enumerate(self._optimizers) if one is optimizer), None)
        if number is None:
            number = len(self._optimizers)
            self._optimizers.append(optimizer)
        for parameter in parameters_of(optimizer):
            self._follow(parameter, f"parameter {tuple(parameter.shape)}")
        return number

    def _follow(self, parameter: nn.Parameter, name: str) -> None:
        if id(parameter) in self._gradients or not parameter.requires_grad or not parameter.is_leaf:
            return
        gradient = Gradient(parameter, name)
        self._gradients[id(parameter)] = gradient
        before: Any = parameter.register_hook  # torch 2.13 leaves both untyped
        after: Any = parameter.register_post_accumulate_grad_hook
        self._open.callback(before(partial(self._before_sum, gradient)).remove)
        self._open.callback(after(partial(self._after_sum, gradient)).remove)

    def _unheld_ids(self) -> list[int]:
        return [key for key in self._gradients if key not in self._held and self._reached.get(key)]

    def _of(self, optimizer: Optimizer) -> list[Gradient]:
        return self._followed(parameters_of(optimizer))

    def _followed(self, parameters: Iterable[Tensor]) -> list[Gradient]:
        """Return what is known of the gradients of parameters, without those that are not followed."""
        return [one for parameter in parameters if (one := self._gradients.get(id(parameter))) is not None]

    def _looked_at(self, parameters: Iterable[Tensor]) -> list[Gradient]:
        gradients = self._followed(parameters)
        self._look(gradients, Moment("step", len(self.steps) + 1))
        return gradients

    def _look(self, gradients: Iterable[Gradient], moment: Moment) -> None:
        """Look at gradients, and note which passes were cleared before some moment."""
        for one in gradients:
            self._note(one, one.look(), moment)

    def _note(self, gradient: Gradient, lost: Sequence[int], moment: Moment) -> None:
        for number in lost:
            seen = self.passes[number - 1]
            seen.is_used_by_hand |= gradient.is_changed_by_hand
            seen.cleared = seen.cleared or moment

    # Passes.

    def _before_sum(self, gradient: Gradient, _: Tensor) -> None:
        if not self._is_on:
            return
        lost = gradient.look()
        is_within = self._is_within()
        self._is_new |= bool(lost) and not is_within
        number = len(self.passes) + (0 if is_within or not self._begins_pass(gradient) else 1)
        self._note(gradient, lost, Moment("pass", number))

    def _after_sum(self, gradient: Gradient, parameter: Tensor) -> None:
        if not self._is_on:
            return
        if not self._is_within() and self._begins_pass(gradient):
            inside = self._stepping[-1].number if self._stepping else None
            self.passes.append(PassSeen(number=len(self.passes) + 1, inside_step=inside))
            self._calls_of[len(self.passes)] = self._calls
            self._tasks, self._calls, self._is_new = set(), set(), False
        self._tasks.add(torch._C._current_graph_task_id())
        seen = self.passes[-1]
        seen.has_gradient |= gradient.take(seen.number)
        seen.is_finite = seen.is_finite and gradient.is_finite
        self._reached.setdefault(id(parameter), {})[seen.number] = None

    def _is_within(self) -> bool:
        """Return whether the pass that runs now was seen already."""
        return torch._C._current_graph_task_id() in self._tasks

    def _begins_pass(self, gradient: Gradient) -> bool:
        """Return whether a gradient of a backward pass that was not seen yet begins another one for us.

        Recomputation with checkpoints runs backward passes within a backward pass, and several losses of one forward
        pass may have a backward pass each: one pass is all of them.
        """
        is_again = len(self.passes) in self._reached.get(id(gradient.parameter), {})
        return self._is_new or (is_again and not self._has_called)

    # Calls of networks.

    def _before_call(self, module: nn.Module, arguments: tuple[Any, ...]) -> None:
        if not self._is_on or _is_backward():
            return  # in a backward pass it recomputes
        if self._depth == 0:
            self._begin_call(module, arguments)
        self._depth += 1
        for name, parameter in module._parameters.items():
            if parameter is not None:
                self._follow(parameter, f"{type(module).__name__}.{name}")

    def _begin_call(self, module: nn.Module, arguments: tuple[Any, ...]) -> None:
        if self.on_call is not None:
            self.on_call(module, arguments)
        for name, parameter in module.named_parameters():
            self._names.setdefault(id(parameter), name)
        if torch.is_grad_enabled():
            is_silent = isinstance(module, DistributedDataParallel) and not module.require_backward_grad_sync
            self._calls.add((id(module), isinstance(module, DistributedDataParallel), is_silent))
            self._is_new = self._has_called = True

    def _after_call(self, module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        if not _is_backward():
            self._depth = max(0, self._depth - 1)

    # Steps.

    def _before_step(self, optimizer: Optimizer, arguments: Any, named: Any) -> None:
        if not self._is_on:
            return
        step = StepSeen(number=len(self.steps) + 1, optimizer=self._know(optimizer), last_pass=len(self.passes))
        self._held.update(map(id, parameters_of(optimizer)))
        self._look(self._of(optimizer), Moment("step", step.number))
        self._fill(step, optimizer)
        self.steps.append(step)
        self._stepping.append(step)

    def _after_step(self, optimizer: Optimizer, arguments: Any, named: Any) -> None:
        if not self._is_on or not self._stepping:
            return
        step = self._stepping.pop()
        if len(self.passes) > step.last_pass:  # a closure ran them
            self._look(self._of(optimizer), Moment("step", step.number))
            step.last_pass = len(self.passes)
            self._fill(step, optimizer)
        for one in self._of(optimizer):
            one.version = one.parameter._version
        self._is_new = True
        if self.on_step is not None:
            entries = [one.known for one in self._of(optimizer) if one.known is not None]
            self.on_step(step.number, torch.cat(entries) if entries else torch.zeros(0))
        if step.number == 1 and torch.distributed.is_available() and torch.distributed.is_initialized():
            self._wrapped.update(id(one.module) for one in _alive(DistributedDataParallel))
        self._num_named += any(optimizer is one for one in self._named)
        if self._num_named == self._max_steps:
            self._finish(is_cut_off=True)

    def _fill(self, step: StepSeen, optimizer: Optimizer) -> None:
        """Fill in what a step takes."""
        gradients = self._of(optimizer)
        step.weights = _weights(gradients)
        step.has_other_gradient = any(one.is_nonzero and not one.weights for one in gradients)
        is_still_scaled = getattr(optimizer, "grad_scale", None) is not None
        step.is_scaled_after_clipping = is_scaled_since_clipping(gradients, is_still_scaled=is_still_scaled)


def parameters_of(optimizer: Optimizer) -> Iterator[nn.Parameter]:
    """Yield the parameters that an optimizer holds."""
    for group in optimizer.param_groups:
        yield from group["params"]


Kind = TypeVar("Kind")


def _alive(kind: type[Kind]) -> list[Kind]:
    """Return the objects of a class that there are in this process."""
    return [one for one in gc.get_objects() if issubclass(type(one), kind)]


def _is_backward() -> bool:
    return torch._C._current_graph_task_id() != -1


def _weights(gradients: Sequence[Gradient]) -> dict[int, float]:
    """Return the weight of each pass in some gradients: the mean over their entries, each by its size in the pass."""
    found: dict[int, float] = {}
    for number in sorted({number for one in gradients for number in one.weights}):
        total = sum(one.energies.get(number, 0.0) for one in gradients)
        if math.isfinite(total):
            weight = sum(one.weights.get(number, 0.0) * one.energies.get(number, 0.0) for one in gradients) / total
        else:
            weights = [one.weights[number] for one in gradients if number in one.weights]
            weight = sum(weights) / len(weights)
        if weight:
            found[number] = weight
    return found
