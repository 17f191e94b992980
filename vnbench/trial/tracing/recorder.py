"""Recording of the operators of steps, and of the memory that they allocate and free on a card."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vnbench.records.step_trace import EventKind, Events, Operator, TracedPhase
from vnbench.trial.instruments.timing import Phase
from vnbench.trial.tracing.accounts import account, sort_of
from vnbench.trial.tracing.temporaries import temporaries

IsOnCard = Callable[[Tensor], bool]
"""Returns whether a tensor's device represents the card."""

PHASES: Mapping[Phase, TracedPhase | None] = {
    "data_wait": None,
    "h2d": "batch",
    "forward": "forward",
    "backward": "backward",
    "optimizer": "optimizer",
}


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch 2.13 leaves it untyped
    """Context manager that records every operator. It is also the timer of the steps, so it knows the phases.

    Tensors on the card are those passed to ``track``, copies from the host, and results computed from these. Scalars
    that an unfused optimizer makes on the host are not on the card.
    """

    def __init__(self, *, is_on_card: IsOnCard, has_host_numbers: bool) -> None:
        """``has_host_numbers``: the optimizer keeps its own numbers on the host."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.operators: dict[Operator, int] = {}
        """The distinct operators with their numbers."""
        self.sequence: list[int] = []
        """Numbers of the operators that ran, in order."""
        self._is_on_card = is_on_card
        self._has_host_numbers = has_host_numbers
        self._is_updating = False
        self._phase: TracedPhase = "forward"
        self._num_steps = 0
        self._num_passes = 0
        self._events: list[tuple[EventKind, int]] = []
        self._block_bytes: list[int] = []
        self._blocks: dict[int, tuple[int, weakref.finalize[Any, Any]]] = {}

    # --- the timer of the steps

    def begin_block(self) -> None:
        """Do nothing: a trace is not timed."""

    def begin_step(self) -> None:
        """Mark the start of a step."""
        self._num_steps += 1
        self._num_passes = 0
        self._phase = "forward"
        self._events.append(("s", self._num_steps))

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        """Return a context whose operators belong to a phase; outside of phases they belong to the forward pass."""
        if name == "data_wait":
            self._num_passes += 1
            self._events.append(("p", self._num_passes))
        self._phase = PHASES[name] or "forward"
        yield
        self._phase = "forward"

    def end_block(self) -> tuple[dict[str, list[float]], float]:
        """Return no times."""
        return {}, 0.0

    def is_updating(self, is_updating: bool) -> None:
        """Note that the optimizer's update starts or ends."""
        self._is_updating = is_updating

    # --- operators and memory

    def track(self, tensors: Iterable[Tensor]) -> None:
        """Count existing tensors."""
        for tensor in tensors:
            self._allocate_for(tensor)

    def allocate(self, num_bytes: int) -> int:
        """Record a new block; return its number."""
        self._block_bytes.append(num_bytes)
        self._events.append(("a", len(self._block_bytes) - 1))
        return len(self._block_bytes) - 1

    def free(self, block: int) -> None:
        """Record that a block is freed."""
        self._events.append(("f", block))

    def close(self) -> Events:
        """Return the memory events, and forget the blocks that are still alive."""
        for _, finalizer in self._blocks.values():
            finalizer.detach()
        self._blocks.clear()
        events: list[tuple[EventKind, int]] = []
        for is_free, run in groupby(self._events, key=lambda event: event[0] == "f"):
            together = list(run)
            events += sorted(together) if is_free else together
        return Events(
            kinds="".join(kind for kind, _ in events),
            numbers=tuple(number for _, number in events),
            block_bytes=tuple(self._block_bytes),
        )

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run the operator and record it."""
        given = kwargs or {}
        result = func(*args, **given)
        sort = sort_of(func)
        if sort in ("view", "read"):
            return result
        before = [leaf for leaf in tree_leaves((args, given)) if isinstance(leaf, Tensor)]
        after = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        if not self._is_of_card(before, after):
            return result
        if sort == "empty":
            self.track(filter(self._is_on_card, after))
        else:
            self._record(func, args, given, result, before, after)
        return result

    def _record(
        self,
        func: Any,
        args: Sequence[Any],
        given: Mapping[str, Any],
        result: Any,
        before: Sequence[Tensor],
        after: Sequence[Tensor],
    ) -> None:
        on_card = [tensor for tensor in (*before, *after) if self._is_on_card(tensor)]
        told = account(func, args, given, result, phase=self._phase, on_card=on_card)
        place = len(self.sequence)
        self.sequence.append(self.operators.setdefault(told, len(self.operators)))
        self._events.append(("(", place))
        taken = [self.allocate(num_bytes) for num_bytes in temporaries(func, args)]
        self.track(filter(self._is_on_card, after))
        for block in taken:
            self.free(block)
        self._events.append((")", place))

    def _is_of_card(self, before: Sequence[Tensor], after: Sequence[Tensor]) -> bool:
        if not before:  # a tensor made without inputs
            is_host_number = self._is_updating and self._has_host_numbers and all(one.dim() == 0 for one in after)
            return not is_host_number and any(map(self._is_on_card, after))
        if any(self._is_known(tensor) for tensor in before):
            return True
        is_copy = any(not self._is_on_card(tensor) for tensor in before)
        return is_copy and any(map(self._is_on_card, after))

    def _is_known(self, tensor: Tensor) -> bool:
        storage = tensor.untyped_storage()
        return self._is_on_card(tensor) and (storage._cdata in self._blocks or storage.nbytes() == 0)

    def _allocate_for(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, num_bytes = storage._cdata, storage.nbytes()
        if key in self._blocks or num_bytes == 0:
            return
        finalizer = weakref.finalize(storage, self._forget, key)
        finalizer.atexit = False
        self._blocks[key] = (self.allocate(num_bytes), finalizer)

    def _forget(self, key: int) -> None:
        block, _ = self._blocks.pop(key)
        self.free(block)
