"""The optimizer step of a spec on fake tensors: the real step's operators on the CPU, without values.

It needs memory only for the parameters and a copy of them. Nothing is computed, so a step of any size takes seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.trial.step.fake_network import faked
from vnbench.trial.step.network_errors import NoRuleError
from vnbench.trial.step.optimizer_step import OptimizerStep, drawn_network, step_of

CPU = torch.device("cpu")

UNTOLD = {torch.ops.aten.mkldnn_rnn_layer.default}
"""Operators that keep more memory than torch 2.13 shows on fake tensors: an LSTM keeps its gates in a workspace."""


@contextmanager
def fake_step(
    spec: TrialSpec, *, network: nn.Module | None = None, device: torch.device = CPU
) -> Iterator[OptimizerStep]:
    """Return a context with the step of a spec, in which every new tensor is fake; batches must be made in it, too.

    The step runs on ``device``, a CPU, and not on that of the spec. The gradient scaler (fp16) sees every gradient as
    finite. ``network`` is that of the spec, on the CPU; without one it is drawn. A user's own network may need values,
    or operators that have missing or wrong shape rules in torch: ``told_of_network`` tells of it.
    """
    reads = _Reads()
    with faked(network or drawn_network(spec, device=CPU), device=device) as fake, reads:
        step = step_of(spec, fake, device=device, make_scaler=partial(_FiniteScaler, reads))
        step.optimizer.register_step_pre_hook(lambda *_: reads.answer_with(1.0))
        step.optimizer.register_step_post_hook(lambda *_: reads.answer_with(None))
        yield step


class _Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch 2.13 leaves it untyped
    """Answers reads of a tensor's value by the optimizer and the gradient scaler; refuses UNTOLD.

    Both read their own scalars: the number of updates, and whether a gradient overflowed. A network's reads go to the
    fake tensors, which refuse them.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._answer: float | None = None

    def answer_with(self, answer: float | None) -> None:
        """Answer every read with this number from now on; None stops answering."""
        self._answer = answer

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if self._answer is not None and func is torch.ops.aten._local_scalar_dense.default:
            return self._answer
        if func in UNTOLD:
            raise NoRuleError(f"{func} keeps memory of unknown size")
        return func(*args, **(kwargs or {}))


class _FiniteScaler(torch.amp.GradScaler):
    """A gradient scaler that reads whether a gradient overflowed, and always continues as if none had."""

    def __init__(self, reads: _Reads, device: str, *, enabled: bool) -> None:
        super().__init__(device, enabled=enabled)
        self._reads = reads

    def _maybe_opt_step(
        self, optimizer: torch.optim.Optimizer, optimizer_state: dict[str, Any], *args: Any, **kwargs: Any
    ) -> float | None:
        self._reads.answer_with(0.0)
        return super()._maybe_opt_step(optimizer, optimizer_state, *args, **kwargs)
