"""Bytes that the operators of a training step read and write, each once: no eager step moves fewer.

Shapes alone are followed, on fake tensors, so that a step of any size is counted in seconds and no memory; and by the
operators of the CPU, whatever the step ran on, so that records of a GPU are counted on any machine.
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
    """Adds up the bytes of the tensors that each operator is given and returns; views and empty tensors move none."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.num_bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if not _moves_nothing(func):
            # What is overwritten in place is read and written; a tensor that is given twice is read once.
            read = {id(leaf): leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
            written = {id(leaf): leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)}
            self.num_bytes += sum(_bytes(leaf) for leaf in (*read.values(), *written.values()))
        return result


def is_countable(spec: TrialSpec) -> bool:
    """Return whether a step's operators tell what it moves.

    Not where a compiler joins them, nor under exact padding: attention with a mask is one operator on a GPU, and
    several on a CPU, which write down every pair of tokens.
    """
    return spec.compile == "none" and spec.padding == "plain"


def step_traffic(spec: TrialSpec, *, height: int, width: int) -> int:
    """Return the bytes that the operators of one step of a spec move on one canvas, its sides in pixels and aligned.

    Recomputation under checkpointing is in it. fp16 is counted as bf16, without the gradient scaler's own passes; the
    copy from the host is left out, and what a change of layout moves.

    Raises:
        ValueError: there is no telling (``is_countable``).
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
    """Return whether an operator returns other views of what it is given, or memory that nobody has written."""
    name = func.name()
    if name.startswith(("aten::empty", "aten::new_empty", "aten::detach", "prim::")):
        return True
    returned = [value.alias_info for value in func._schema.returns]
    return any(alias is not None and not alias.is_write for alias in returned)


def _bytes(tensor: Tensor) -> int:
    """Return the bytes of a tensor that lie in memory: an expanded one repeats what it has."""
    seen = 1
    for length, stride in zip(tensor.shape, tensor.stride(), strict=True):
        seen *= length if stride or not length else 1
    return seen * tensor.element_size()
