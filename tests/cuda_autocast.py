"""What CUDA's autocast does otherwise than the CPU's, done on the CPU: no device is needed to see what follows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

FP32_ON_CUDA = {F.interpolate, F.group_norm, F.layer_norm}
"""Of what the networks here call: in AT_FORALL_FP32 of torch 2.11 to 2.13 (aten/src/ATen/autocast_mode.h), and not in
the CPU's list."""


class CudaAutocast(TorchFunctionMode):
    """Makes the functions of FP32_ON_CUDA run in fp32 under the CPU's autocast; notes the dtypes that ``cat`` is given.

    CUDA has no autocast rule for ``cat``. What the CPU's rule does to inputs of one dtype is nothing, so with
    ``num_mixed`` at 0 both agree.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: list[torch.dtype] = []
        """Of maps (four dimensions), in the order in which they were concatenated."""
        self.num_mixed = 0
        """Concatenations of several dtypes."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.cat:
            given = {part.dtype for part in args[0]}
            self.num_mixed += len(given) > 1
            self.dtypes += given if args[0][0].dim() == 4 else ()
        if func in FP32_ON_CUDA and torch.is_autocast_enabled("cpu"):
            args = tuple(wide(argument) for argument in args)
        return func(*args, **(kwargs or {}))


def wide(argument: Any) -> Any:
    is_reduced = isinstance(argument, Tensor) and argument.dtype in (torch.bfloat16, torch.float16)
    return argument.float() if is_reduced else argument
