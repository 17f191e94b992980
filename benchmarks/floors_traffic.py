"""Bytes that the operators of a training step read and write, each once: no eager step moves fewer.

Shapes alone are followed, on fake tensors, so that a step of any size is counted in seconds and no memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vnbench.data.collate import blank_batch
from vnbench.harness.network import build_network
from vnbench.harness.step import OptimizerStep
from vnbench.measure.timing import WallTimer
from vnbench.spec import TrialSpec


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


def step_traffic(spec: TrialSpec, *, height: int, width: int) -> int:
    """Return the bytes that the operators of one step of a spec move on one canvas, its sides in pixels and aligned.

    Recomputation under checkpointing is in it. fp16 is counted as bf16, without the gradient scaler's own passes; the
    copy from the host is left out, and what a change of layout moves.

    Raises:
        ValueError: the step is compiled: which operators become one is known to the compiler alone.
    """
    if spec.compile != "none":
        raise ValueError("the traffic of a compiled step is not that of its operators")
    device = torch.device(spec.device)
    # Fake parameters cannot be moved to a device: they are made there.
    with torch.random.fork_rng(devices=[]), FakeTensorMode(), device:
        step = OptimizerStep(
            build_network(spec).train(),
            precision="bf16" if spec.precision == "fp16" else spec.precision,
            device=device,
            optimizer=spec.optimizer,
            padding=spec.padding,
        )
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
