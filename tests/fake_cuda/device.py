"""A CUDA device whose tensors are fake, beside a CPU whose tensors are real; and the rules that CUDA has for both.

Shapes, dtypes, devices and autocast are torch's own on fake tensors. Three rules are added that fake tensors do not
know, and that a card would enforce, or pay for: no tensor on the CPU beside one on CUDA in an operator, no waiting for
the device inside a timed block, and no number where there is none but by a read.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from vnbench.trial.instruments.memory import LiveTensorTracker

aten = torch.ops.aten

TAKES_BOTH: Mapping[Any, str] = {
    aten._to_copy.default: "a copy from one device to the other (aten/src/ATen/native/TensorConversions.cpp)",
    aten.copy_.default: "a copy from one device to the other (aten/src/ATen/native/Copy.cpp)",
}
"""Operators that take tensors on the CPU beside those on CUDA, and why. Numbers of Python are no tensors."""

READS_IN_BLOCKS: Mapping[tuple[str, str], str] = {
    ("torch/amp/grad_scaler.py", "_maybe_opt_step"): (
        "an optimizer that is not fused cannot look at found_inf on the device: torch reads it in every fp16 step"
    ),
}
"""File and function of reads that torch itself makes inside a timed block, and why they cannot be left out."""


class RuleError(Exception):
    """What a card would refuse, or would be slowed by."""


class FakeCuda(TorchDispatchMode):
    """While it is entered, tensors on CUDA are fake ones, and all others are what they are."""

    def __init__(self) -> None:
        super().__init__()
        self.fakes = FakeTensorMode(allow_fallback_kernels=False)
        self.is_in_block = False
        """Whether steps are being timed."""
        self.is_capturing = False
        """Whether a CUDA graph is being captured, which takes nothing from the host and waits for nothing."""
        self.tracker = LiveTensorTracker()
        """Counts the bytes of the live tensors on CUDA."""
        self.around: Callable[[], AbstractContextManager[None]] = nullcontext
        """Returns a context that each operator runs in, in whatever thread it does."""
        self.operators: set[str] = set()
        """Names of the operators that ran on CUDA."""
        self._num_reads = 0

    def __enter__(self) -> FakeCuda:
        # torch.tensor(number, device="cuda") then copies a tensor of the CPU by an operator, which comes by here.
        torch._C._set_only_lift_cpu_tensors(True)
        super().__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        torch._C._set_only_lift_cpu_tensors(False)

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.prim.device.default and isinstance(args[0], FakeTensor):
            return args[0].fake_device  # two of three calls ask for it
        with self.around():
            return self._run(func, args, kwargs or {})

    def _run(self, func: Any, args: Sequence[Any], given: Mapping[str, Any]) -> Any:
        leaves = tree_leaves((args, given))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        if func is aten._local_scalar_dense.default and any(isinstance(tensor, FakeTensor) for tensor in tensors):
            return self._read(tensors[0])
        is_asked_for = any(isinstance(leaf, torch.device) and leaf.type == "cuda" for leaf in leaves)
        if not is_asked_for and not any(map(is_on_cuda, tensors)):
            return func(*args, **given)
        self._check_devices(func, tensors)
        with self.fakes:
            faked_args, faked_kwargs = tree_map(self._faked, (args, given))
            result = func(*faked_args, **faked_kwargs)
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self._check_waiting(func, tensors, made, given)
        self.operators.add(str(func))
        self.tracker.track([tensor for tensor in made if is_on_cuda(tensor)])
        return result

    def _faked(self, value: Any) -> Any:
        is_real = isinstance(value, Tensor) and not isinstance(value, FakeTensor)
        return self.fakes.from_tensor(value) if is_real else value

    def _check_devices(self, func: Any, tensors: Sequence[Tensor]) -> None:
        on_cuda = [tensor for tensor in tensors if is_on_cuda(tensor)]
        elsewhere = [tensor for tensor in tensors if not is_on_cuda(tensor)]
        if on_cuda and elsewhere and func not in TAKES_BOTH:
            shapes = ", ".join(f"{tuple(tensor.shape)} on {_device(tensor)}" for tensor in tensors)
            raise RuleError(f"{func}: expected all tensors to be on the same device, got {shapes}")

    def _check_waiting(
        self, func: Any, given: Sequence[Tensor], made: Sequence[Tensor], kwargs: Mapping[str, Any]
    ) -> None:
        """Refuse copies between the devices that the host waits for, as torch.cuda.set_sync_debug_mode does."""
        if not (self.is_in_block or self.is_capturing) or func not in TAKES_BOTH:
            return
        if len({is_on_cuda(tensor) for tensor in (*given, *made)}) == 1:
            return
        if self.is_capturing:
            raise RuleError(f"{func} between host and device, in what is captured as a CUDA graph")
        if kwargs.get("non_blocking"):
            return
        raise RuleError(f"{func} between host and device without non_blocking, inside a timed block")

    def _read(self, tensor: Tensor) -> float | bool:
        """Return a number that stands for the one that is not there: True, or one that no other read returned."""
        reader = _torch_reader()
        if self.is_capturing and is_on_cuda(tensor):
            raise RuleError("a number is read from the device in what is captured as a CUDA graph")
        if self.is_in_block and is_on_cuda(tensor) and reader is None:
            raise RuleError("a number is read from the device inside a timed block")
        if reader is not None:
            return 0.0  # no gradient overflowed
        self._num_reads += 1
        return True if tensor.dtype == torch.bool else self._num_reads


def is_on_cuda(tensor: Tensor) -> bool:
    """Return whether a tensor, fake or not, is on CUDA."""
    return _device(tensor).type == "cuda"


def _device(tensor: Tensor) -> torch.device:
    return tensor.fake_device if isinstance(tensor, FakeTensor) else tensor.device


def _torch_reader() -> tuple[str, str] | None:
    """Return the one of READS_IN_BLOCKS that is being run, None if none is."""
    frame = sys._getframe()
    while frame is not None:
        for file, function in READS_IN_BLOCKS:
            if frame.f_code.co_name == function and Path(frame.f_code.co_filename).as_posix().endswith(file):
                return file, function
        frame = frame.f_back
    return None
