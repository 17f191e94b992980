"""The optimizer step of a spec on fake tensors: the operators of the real one on the CPU, and no numbers.

The parameters, of which a copy is made, are all the memory that is taken. Nothing is computed, so that a step of any
size takes seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vnbench.errors import ModelError
from vnbench.records.failures import summary_line
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.trial.step.fake_network import faked
from vnbench.trial.step.optimizer_step import OptimizerStep, drawn_network, step_of

CPU = torch.device("cpu")

UNTOLD = {torch.ops.aten.mkldnn_rnn_layer.default}
"""Operators that keep more than torch 2.13 says of them on fake tensors: an LSTM its workspace, all of its gates."""


@contextmanager
def fake_step(spec: TrialSpec) -> Iterator[OptimizerStep]:
    """Enter a context with the step of a spec, in which every new tensor is a fake one; batches are made in it too.

    The device of the spec does not count. The gradient scaler (fp16) finds every gradient finite.

    Raises:
        ModelError: a user's own network cannot be copied, runs only on numbers, or has operators whose shapes torch
            does not tell, or tells wrong.
    """
    reads = _Reads()
    try:
        with faked(drawn_network(spec, device=CPU)) as network, reads:
            step = step_of(spec, network, device=CPU, make_scaler=partial(_FiniteScaler, reads))
            step.optimizer.register_step_pre_hook(lambda *_: reads.answer_with(1.0))
            step.optimizer.register_step_post_hook(lambda *_: reads.answer_with(None))
            yield step
    except Exception as error:
        if spec.model_id is None or isinstance(error, ModelError):
            raise
        raise ModelError(
            f"{spec.model} cannot be traced on fake tensors, which hold no numbers; write --memory-by step, which runs "
            f"the step ({summary_line(error)})"
        ) from error


class _Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch 2.13 leaves it untyped
    """Answers reads of a tensor's number where the optimizer or the gradient scaler makes them; refuses UNTOLD.

    Both look at scalars of their own: how many updates there were, and whether a gradient overflowed. Reads by a
    network are left to the fake tensors, which refuse them.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._answer: float | None = None

    def answer_with(self, answer: float | None) -> None:
        """Answer every read with this number from now on; with None, none."""
        self._answer = answer

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if self._answer is not None and func is torch.ops.aten._local_scalar_dense.default:
            return self._answer
        if func in UNTOLD:
            raise NotImplementedError(f"{func} keeps memory of unknown size")
        return func(*args, **(kwargs or {}))


class _FiniteScaler(torch.amp.GradScaler):
    """A gradient scaler that reads whether a gradient overflowed, and goes on as if none had."""

    def __init__(self, reads: _Reads, device: str, *, enabled: bool) -> None:
        super().__init__(device, enabled=enabled)
        self._reads = reads

    def _maybe_opt_step(
        self, optimizer: torch.optim.Optimizer, optimizer_state: dict[str, Any], *args: Any, **kwargs: Any
    ) -> float | None:
        self._reads.answer_with(0.0)
        return super()._maybe_opt_step(optimizer, optimizer_state, *args, **kwargs)
