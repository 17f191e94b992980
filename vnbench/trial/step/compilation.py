"""Compilation of a network or a pass for canvases of any size, at the same cost in equal trials."""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Callable
from typing import Any

import torch
import torch._dynamo  # noqa: F401  # imported before its parts are asked for by name
from torch import Tensor, nn

MAX_GRAPHS = 16
"""Maximum number of graphs that a trial may compile. Sizes are symbols in a graph, so one graph serves nearly all
canvases; a batch of one example has its own, and so do canvases so small that torch uses other kernels. Beyond the
limit torch would silently continue without compilation; here the trial fails."""


HOW: dict[str, Any] = {"fullgraph": True, "dynamic": True, "options": {"layout_optimization": False}}
"""Settings of torch.compile. A part that cannot be compiled is an error (fullgraph) and does not run uncompiled.
Without layout_optimization=False, torch 2.13 makes maps channels-last on the CPU and their sizes constants."""

LossOfPass = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Takes images, targets and valid pixels; returns the sum of the examples' losses."""


def compile_model(model: nn.Module, *, device: torch.device) -> None:
    """Compile ``model`` from its next call on; its parameters and their names do not change.

    This configures torch's compiler for the whole process. Each process compiles afresh and within itself: an earlier
    trial's cache would make equal trials differ, and compiler processes would disturb the measured one.

    Raises:
        RuntimeError: kernels for the CPU are compiled from C++, and there is no compiler.
    """
    _prepare(device)
    model.compile(**HOW)


def compile_pass(loss_of_pass: LossOfPass, *, device: torch.device) -> LossOfPass:
    """Return the forward pass with its loss, compiled together, so that pointwise operators fuse across the boundary.

    This configures torch's compiler, and raises errors, like ``compile_model``.
    """
    _prepare(device)
    compiled: LossOfPass = torch.compile(loss_of_pass, **HOW)
    return compiled


def _prepare(device: torch.device) -> None:
    _use_own_cache()
    _set_up_compiler()
    if device.type == "cpu":
        _check_for_cpp_compiler()
    _keep_sizes_symbolic()


def _use_own_cache() -> None:
    """Point the compiler's caches to an empty directory, which is removed with the trial's log.

    Raises:
        RuntimeError: the temporary folder does not allow execution.
    """
    directory = tempfile.mkdtemp(prefix="vnbench-compile-")
    if os.statvfs(directory).f_flag & os.ST_NOEXEC:
        raise RuntimeError(
            f"--compile needs a temporary folder that allows execution, and that of {directory} is mounted "
            "noexec: name another in TMPDIR, or write --compile none"
        )
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = directory
    os.environ["TRITON_CACHE_DIR"] = os.path.join(directory, "triton")


def _set_up_compiler() -> None:
    dynamo_config: Any = importlib.import_module("torch._dynamo.config")
    dynamo_config.recompile_limit = MAX_GRAPHS
    dynamo_config.fail_on_recompile_limit_hit = True
    dynamo_config.suppress_errors = False
    # Keep floats of our modules constant. As symbols, two checkpointed stages that share one do not compile together
    # (torch 2.13: "lift_tracked_freevar_to_input should not be called on root").
    dynamo_config.specialize_float = True
    inductor_config: Any = importlib.import_module("torch._inductor.config")
    inductor_config.compile_threads = 1


def _check_for_cpp_compiler() -> None:
    cpp_builder: Any = importlib.import_module("torch._inductor.cpp_builder")
    try:
        cpp_builder.get_cpp_compiler()
    except Exception as error:
        raise RuntimeError(
            "--compile on the CPU needs a C++ compiler, and none was found: "
            "install g++ or name one in CXX, or write --compile none"
        ) from error


def _keep_sizes_symbolic() -> None:
    """Lower a convolution's gradient as torch 2.11 does, to a library call whose sizes stay symbols.

    torch 2.13 chooses between that call and its own kernels (made only on request), and for this it turns the sizes of
    each canvas into constants: each canvas would be compiled anew, for a minute or more.
    """
    lowering: Any = importlib.import_module("torch._inductor.lowering")
    if hasattr(importlib.import_module("torch._inductor.kernel.conv"), "convolution_backward_lowering"):
        lowering.make_fallback(torch.ops.aten.convolution_backward, lowering.constrain_to_fx_strides, warn=False)
