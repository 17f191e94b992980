"""Bytes of live tensors during a training step, by stage of the network and by kind.

A storage belongs to the stage that was running, forward or backward, when it was made. The sum of live tensors is
independent of the allocator's own counters.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from vnbench.trial.instruments.memory import LiveTensorTracker

Kind = Literal["parameters", "gradients", "optimizer state", "inputs", "activations", "backward"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""``activations`` are made in the forward pass; ``backward`` in the backward pass and the optimizer's update, except
for gradients of parameters and optimizer state."""

Phase = Literal["forward", "backward", "optimizer"]

OUTSIDE = "loss"
"""Stage of storages that are made outside of the network's stages."""

Cell = tuple[str, Kind]
"""Stage and kind."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StageMemory:
    """Memory of one step by stage, kind and time."""

    peak_bytes: int
    """Peak of the live bytes."""
    at_peak: Mapping[Cell, int]
    """Live bytes by stage and kind at the peak."""
    peak_phase: Phase
    """Phase of the peak."""
    peak_stage: str
    """Stage that was running at the peak."""
    timeline: tuple[tuple[Phase, Mapping[Cell, int]], ...]
    """Phase, and live bytes by stage and kind, at every change of the running stage."""


class StageTracker(LiveTensorTracker):  # type: ignore[no-untyped-call]  # torch 2.13 leaves it untyped
    """Context manager that counts the bytes of live tensors by stage and kind."""

    def __init__(self) -> None:
        super().__init__()
        self.phase: Phase = "forward"
        self._stage = OUTSIDE
        self._cells: dict[int, Cell] = {}
        self._live: Counter[Cell] = Counter()
        self._at_peak: Mapping[Cell, int] = {}
        self._peak_place: tuple[Phase, str] = ("forward", OUTSIDE)
        self._timeline: list[tuple[Phase, Mapping[Cell, int]]] = []
        self._default_kind: Kind | None = None
        self._phase_kind: Kind | None = None

    def result(self) -> StageMemory:
        """Return the readings so far."""
        self._mark()
        return StageMemory(
            peak_bytes=self.peak_bytes,
            at_peak=self._at_peak,
            peak_phase=self._peak_place[0],
            peak_stage=self._peak_place[1],
            timeline=tuple(self._timeline),
        )

    def track_as(self, tensors: Sequence[Tensor], *, kind: Kind, stage: str) -> None:
        """Count the storages of existing tensors, or move those already counted to another stage and kind."""
        for tensor in tensors:
            key = tensor.untyped_storage()._cdata
            if key in self._cells:
                self._move(key, (stage, kind), tensor.untyped_storage().nbytes())
            else:
                before, self._stage, self._default_kind = self._stage, stage, kind
                self.track([tensor])
                self._stage, self._default_kind = before, None

    def begin(self, phase: Phase, *, kind: Kind | None = None) -> None:
        """Start a phase of the step, outside of all stages; ``kind`` is that of the tensors made in it."""
        self._mark()
        self._phase_kind = kind
        self.phase = phase
        self._stage = OUTSIDE

    def enter_stage(self, stage: str) -> str:
        """Set the running stage; return the previous one."""
        self._mark()
        before, self._stage = self._stage, stage
        return before

    def _mark(self) -> None:
        self._timeline.append((self.phase, {cell: size for cell, size in self._live.items() if size}))

    def _count(self, tensor: Tensor) -> None:
        key = tensor.untyped_storage()._cdata
        is_new = key not in self._storages and tensor.untyped_storage().nbytes() > 0
        if is_new:
            of_phase: Kind = "activations" if self.phase == "forward" else "backward"
            kind: Kind = self._default_kind or self._phase_kind or of_phase
            self._cells[key] = (self._stage, kind)
            self._live[self._stage, kind] += tensor.untyped_storage().nbytes()
        peak_before = self.peak_bytes
        super()._count(tensor)
        if self.peak_bytes > peak_before:
            self._at_peak = dict(self._live)
            self._peak_place = (self.phase, self._stage)

    def _forget(self, key: int, num_bytes: int) -> None:
        self._live[self._cells.pop(key)] -= num_bytes
        super()._forget(key, num_bytes)

    def _move(self, key: int, cell: Cell, num_bytes: int) -> None:
        self._live[self._cells[key]] -= num_bytes
        self._live[cell] += num_bytes
        self._cells[key] = cell


@contextmanager
def watched_stages(tracker: StageTracker, stages: Mapping[str, nn.Module]) -> Iterator[None]:
    """Return a context in which the tracker knows the running stage and which storages are gradients."""
    handles: list[Any] = []
    running: list[str] = []

    def entering(stage: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any) -> None:
            running.append(tracker.enter_stage(stage))

        return hook

    def leaving(stage: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            if output.requires_grad:
                # Once this gradient exists, the backward pass reaches this stage.
                output.register_hook(reaching(stage))  # type: ignore[no-untyped-call]
            tracker.enter_stage(running.pop())

        return hook

    def reaching(stage: str) -> Callable[[Tensor], None]:
        def hook(gradient: Tensor) -> None:
            tracker.enter_stage(stage)

        return hook

    def gradient_of(stage: str) -> Callable[[Tensor], None]:
        def hook(parameter: Tensor) -> None:
            if parameter.grad is not None:
                tracker.track_as([parameter.grad], kind="gradients", stage=stage)

        return hook

    for stage, module in stages.items():
        handles += [module.register_forward_pre_hook(entering(stage)), module.register_forward_hook(leaving(stage))]
        handles += [
            parameter.register_post_accumulate_grad_hook(gradient_of(stage))  # type: ignore[no-untyped-call]
            for parameter in module.parameters()
        ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Return the tensors of an optimizer's state."""
    values = itertools.chain.from_iterable(state.values() for state in optimizer.state.values())
    return [value for value in values if isinstance(value, Tensor)]
