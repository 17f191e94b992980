"""Bytes that the operators of a training step read and write once each, a lower bound for an eager step.

Only shapes are traced, on fake tensors, so that counting a step of any size takes seconds and no memory. The CPU's
operators are counted for every device, so that records of a GPU can be counted on any machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import repeat
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vnbench.loading.collate import blank_batch
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.trial.instruments.timing import WallTimer
from vnbench.trial.step.fake_step import fake_step


class TrafficCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch 2.13 leaves it untyped
    """Sums the bytes of each operator's inputs and results; views and empty tensors move none."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.num_bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if not _moves_nothing(func):
            # A tensor that is overwritten in place is read and written; one that is passed twice is read once.
            read = {id(leaf): leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
            written = {id(leaf): leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)}
            self.num_bytes += sum(_bytes(leaf) for leaf in (*read.values(), *written.values()))
        return result


def is_countable(spec: TrialSpec) -> bool:
    """Return whether a step's traffic can be counted from its operators.

    It cannot if a compiler fuses them, nor under exact padding: attention with a mask is one operator on a GPU but
    several on a CPU, which write every pair of tokens to memory.
    """
    return spec.compile == "none" and spec.padding == "plain"


def step_traffic(spec: TrialSpec, *, height: int, width: int) -> int:
    """Return the bytes that the operators of a spec's step move on one canvas with aligned sides in pixels.

    Recomputation under checkpointing is included. fp16 is counted as bf16, without the gradient scaler's passes. The
    copy from the host and changes of layout are left out.

    Raises:
        ValueError: the traffic cannot be counted (``is_countable``).
    """
    if not is_countable(spec):
        raise ValueError("the traffic of such a step is not that of its operators on the CPU")
    counted = replace(
        spec, precision="bf16" if spec.precision == "fp16" else spec.precision, memory_format="contiguous"
    )
    with torch.random.fork_rng(devices=[]), fake_step(counted) as step:
        batch = blank_batch(spec.micro_batch_size, height=height, width=width)
        with TrafficCounter() as counter:
            step.run(repeat(batch), num_examples=spec.batch_size, timer=WallTimer())
    return int(counter.num_bytes)


def _moves_nothing(func: Any) -> bool:
    """Return whether an operator only returns views of its inputs, or uninitialised memory."""
    name = func.name()
    if name.startswith(("aten::empty", "aten::new_empty", "aten::detach", "prim::")):
        return True
    returned = [value.alias_info for value in func._schema.returns]
    return any(alias is not None and not alias.is_write for alias in returned)


def _bytes(tensor: Tensor) -> int:
    """Return the bytes of a tensor in memory, where an expanded dimension counts once."""
    seen = 1
    for length, stride in zip(tensor.shape, tensor.stride(), strict=True):
        seen *= length if stride or not length else 1
    return seen * tensor.element_size()
